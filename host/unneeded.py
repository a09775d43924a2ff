"""What `prune` finds and removes."""

from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("image", "warm", "download", "leftover", "log", "runtime")
"""What there is of it; `pruning` says what each is."""


class Unneeded(NamedTuple):
    """Something in a home that nothing needs."""

    kind: str
    """One of `KINDS`."""
    name: str
    size_bytes: int
    """What its removal frees. Where several share a file, it counts for the first of them."""
    arch: str | None = None
    """Of an image or a warm one, whose name has one for each architecture."""
    path: Path | None = None
    """What to remove, where it is a file or a folder."""

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What it is known by when it is looked for again; its size may be another then."""
        return self.kind, self.name, self.arch

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `prune --format json` prints."""
        return {"what": self.kind, "name": self.name, "arch": self.arch, "size_bytes": self.size_bytes}


def bytes_in(path: Path) -> int:
    """Return how many bytes the file or folder `path` takes on its disk; what vanishes meanwhile counts nothing."""
    try:
        taken = path.lstat().st_blocks * 512
        return taken + (sum(map(bytes_in, path.iterdir())) if path.is_dir() and not path.is_symlink() else 0)
    except OSError:
        return 0
