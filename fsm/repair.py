"""Mending the engine's own files of one instance: what is whole is kept, what is not is set aside, nothing is made up.

Damage to the driver's files is the driver's to tell; what is missing is told and not invented. The state afterwards is
that of the last line that can be read, and what the world has done meanwhile is then settled as after a crash.
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DamagedError, DriverError
from ..host.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from . import words
from .journal import FILE, Journal
from .spec import SPEC_FILE, Spec
from .states import State


@dataclass(frozen=True, slots=True)
class Mending:
    """What came of a repair."""

    instance: str
    state: State
    mended: tuple[str, ...]
    """What was wrong and is no more, in words; empty when nothing was."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `repair --format json` prints."""
        return {"name": self.instance, "state": self.state, "mended": list(self.mended)}


def mend(directory: Path) -> Iterator[str]:
    """Mend what can be in `directory`, whose lock the caller holds, and yield each thing that was, in words.

    Raises DamagedError where no state can be told: without a spec or without a whole line; both are left as they are.
    """
    yield from _made_private(directory)
    Spec.read(directory)
    yield from _set_right(Journal(directory))


def repairable(directory: Path) -> bool:
    """Return whether `mend` would lead the damaged instance in `directory` out of its damage."""
    try:
        Spec.read(directory)
        return Journal(directory).mendable()
    except (DamagedError, DriverError):
        return False


def _made_private(directory: Path) -> Iterator[str]:
    for path, mode in (
        (directory, PRIVATE_DIRECTORY),
        (directory / SPEC_FILE, PRIVATE_FILE),
        (directory / FILE, PRIVATE_FILE),
    ):
        if path.exists() and not path.is_symlink():
            seen = stat.S_IMODE(path.stat().st_mode)
            if seen != mode:
                path.chmod(mode)
                yield words.made_private(path, seen)


def _set_right(journal: Journal) -> Iterator[str]:
    count, kept = journal.set_aside()
    if kept is None:
        return
    yield words.set_aside(count, kept)
    before: int | None = None  # the first lines were dropped when the journal had grown to its limit
    for line in journal.lines():
        if before is not None and line.seq > before + 1:
            yield words.missing_lines(before + 1, line.seq - 1)
        before = line.seq
