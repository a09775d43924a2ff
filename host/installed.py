"""What installed packages register, read without importlib.metadata, whose import costs more than a completion."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def names(group: str) -> list[str]:
    """Return the names that packages on the module path register in the entry-point group `group`, sorted.

    Source: Entry points specification, "File format"; Recording installed projects, "The .dist-info directory".
    """
    return sorted({name for folder in sys.path for name in _in_folder(Path(folder), group)})


def _in_folder(folder: Path, group: str) -> Iterator[str]:
    for kind in ("dist-info", "egg-info"):
        for file in folder.glob(f"*.{kind}/entry_points.txt"):
            with suppress(OSError, UnicodeDecodeError):
                _, _, section = file.read_text(encoding="utf-8").partition(f"[{group}]")
                lines = section.partition("\n[")[0].splitlines()
                yield from (line.partition("=")[0].strip() for line in lines if "=" in line)
