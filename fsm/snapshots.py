"""The snapshots of one instance: what its driver needs to restore a moment, and which snapshot is based on which.

    snapshots/              in the instance's directory
    ├── TAG/                appears and vanishes by one rename
    │   ├── snapshot.json   when it was taken, its line, and whether memory is in it
    │   └── ...             the driver's
    └── .current            the line of the disk, a tag on each row; `reset` removes it

Snapshots are independent: each contains all files that it needs, as hard links if several need a file. A line is the
list of the tags that a disk or a snapshot is based on, nearest first. Tags that do not exist are skipped, so taking or
discarding a snapshot is one rename, and no other record has to change.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidNameError
from ..host.files import (
    beside,
    flush_directory,
    make_private_directory,
    publish,
    read_own,
    remove_tree,
    retire,
    write_whole,
)
from ..host.home import NAME, NAME_WORDS
from .records import now

FOLDER = "snapshots"
RECORD = "snapshot.json"
CURRENT = f"{FOLDER}/.current"


class Draft:
    """A snapshot that is being taken: `place` is an empty folder, for the driver to fill."""

    memory_bytes = 0
    """The size of the memory in it; 0 if it holds only the disk."""

    def __init__(self, place: Path) -> None:
        self.place = place


class Snapshot(NamedTuple):
    """One snapshot, as `snapshot list` shows it."""

    tag: str
    created_at: str = ""
    """Empty if its record cannot be read."""
    parent: str | None = None
    """The snapshot that the disk was based on when this one was taken."""
    current: bool = False
    """True for the snapshot that the disk is based on now."""
    memory_bytes: int | None = None
    """The size of the memory in it; None if it holds only the disk."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `snapshot list --format json` prints."""
        return self._asdict()


def checked_tag(tag: str) -> str:
    """Return `tag` if it can name a snapshot; raise InvalidNameError otherwise."""
    if isinstance(tag, str) and NAME.fullmatch(tag):
        return tag
    raise InvalidNameError(f"a snapshot cannot be called {tag!r}: {NAME_WORDS}")


def place(directory: Path, tag: str) -> Path:
    """Return the folder of the snapshot `tag` of the instance in `directory`; it may not exist."""
    return directory / FOLDER / checked_tag(tag)


def listed(directory: Path) -> list[Snapshot]:
    """Return the snapshots of the instance in `directory`, oldest first."""
    current = next(iter(_line(directory)), None)
    found: dict[str, Snapshot] = {}
    for it, line in sorted(map(_read, _folders(directory)), key=lambda read: (read[0].created_at, read[0].tag)):
        parent = next((tag for tag in line if tag in found), None)  # always an older one, so there are no cycles
        found[it.tag] = it._replace(parent=parent, current=it.tag == current)
    return list(found.values())


@contextmanager
def taken(directory: Path, tag: str) -> Iterator[Draft]:
    """Yield a draft that becomes the snapshot `tag` of the instance in `directory` once the block has succeeded."""
    whole = place(directory, tag)
    make_private_directory(whole.parent)
    for abandoned in whole.parent.glob(".*.*"):
        remove_tree(abandoned)
    fresh = make_private_directory(beside(whole))
    try:
        draft = Draft(fresh)
        yield draft
        memory = {"memory_bytes": draft.memory_bytes} if draft.memory_bytes else {}
        line = _line(directory)
        record = {"created_at": now(), "line": line, **memory, "schema": 1}
        write_whole(fresh / RECORD, json.dumps(record).encode() + b"\n")
        _write_line(directory, [tag, *line])
        publish(fresh, whole)
    finally:
        with suppress(FileNotFoundError):
            remove_tree(fresh)


def point(directory: Path, tag: str) -> None:
    """Record that the disk of the instance in `directory` is based on the snapshot `tag`."""
    _write_line(directory, [tag, *_read(place(directory, tag))[1]])


def point_nowhere(directory: Path) -> None:
    """Record that it is unknown which snapshot the disk of the instance in `directory` is based on."""
    remove_tree(directory / CURRENT)
    flush_directory(directory / FOLDER)


def discard(directory: Path, tag: str) -> None:
    """Remove the snapshot `tag`; whatever was based on it is then based on its parent."""
    whole = place(directory, tag)
    retire(whole, beside(whole))
    flush_directory(whole.parent)


def _folders(directory: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [path for path in (directory / FOLDER).iterdir() if NAME.fullmatch(path.name)]
    return []


def _read(folder: Path) -> tuple[Snapshot, list[str]]:
    """Return the snapshot that the record in `folder` describes, and its line."""
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        record = json.loads(read_own(folder / RECORD))
        created_at, line, memory = (record.get(key) for key in ("created_at", "line", "memory_bytes"))
        memory_bytes = memory if isinstance(memory, int) else None
        tags = [tag for tag in line if isinstance(tag, str)] if isinstance(line, list) else []
        return Snapshot(folder.name, str(created_at or ""), memory_bytes=memory_bytes), tags
    return Snapshot(folder.name), []


def _line(directory: Path) -> list[str]:
    """Return the line of the disk: the existing tags that it is based on, nearest first."""
    with suppress(OSError, UnicodeDecodeError):
        tags = read_own(directory / CURRENT).decode().splitlines()
        return [tag for tag in tags if NAME.fullmatch(tag) and (directory / FOLDER / tag).is_dir()]
    return []


def _write_line(directory: Path, tags: Sequence[str]) -> None:
    write_whole(directory / CURRENT, "".join(f"{tag}\n" for tag in tags).encode())
