"""The snapshots of one instance: what its driver needs to bring a moment back, and which came from which.

    snapshots/              in the instance's directory
    ├── TAG/                appears and vanishes by one rename
    │   ├── snapshot.json   when it was taken, and the snapshot that it came from
    │   └── ...             the driver's
    └── .current            the tag under which the disk was taken or restored last; `reset` removes it

Snapshots are independent: each holds all that it needs, and hard links to files that several need.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidNameError
from ..host.files import beside, make_private_directory, publish, read_own, remove_tree, retire, write_whole
from ..host.home import NAME, NAME_WORDS
from .records import now

FOLDER = "snapshots"
RECORD = "snapshot.json"
CURRENT = f"{FOLDER}/.current"


class Snapshot(NamedTuple):
    """One snapshot, as `snapshot list` shows it."""

    tag: str
    created_at: str = ""
    """Empty if its record cannot be read."""
    parent: str | None = None
    """The snapshot that the disk came from when this one was taken."""
    current: bool = False
    """True for the one that the disk comes from now."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `snapshot list --format json` prints."""
        return self._asdict()


def checked_tag(tag: str) -> str:
    """Return `tag` if it can name a snapshot; raise InvalidNameError otherwise."""
    if isinstance(tag, str) and NAME.fullmatch(tag):
        return tag
    raise InvalidNameError(f"a snapshot cannot be called {tag!r}: {NAME_WORDS}")


def place(directory: Path, tag: str) -> Path:
    """Return where the snapshot `tag` of the instance in `directory` lies, or would."""
    return directory / FOLDER / checked_tag(tag)


def listed(directory: Path) -> list[Snapshot]:
    """Return the snapshots of the instance in `directory`, the oldest first."""
    current = _current(directory)
    found: dict[str, Snapshot] = {}
    for it in sorted(map(_read, _folders(directory)), key=lambda it: (it.created_at, it.tag)):
        parent = it.parent if it.parent in found else None  # a record that was tampered with must not form a circle
        found[it.tag] = it._replace(parent=parent, current=it.tag == current)
    return list(found.values())


@contextmanager
def taken(directory: Path, tag: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the snapshot `tag` of the instance in `directory` once the block is done."""
    whole = place(directory, tag)
    make_private_directory(whole.parent)
    for abandoned in whole.parent.glob(".*.*"):
        remove_tree(abandoned)
    fresh = make_private_directory(beside(whole))
    try:
        yield fresh
        record = {"created_at": now(), "parent": _current(directory), "schema": 1}
        write_whole(fresh / RECORD, json.dumps(record).encode() + b"\n")
        publish(fresh, whole)
    finally:
        with suppress(FileNotFoundError):
            remove_tree(fresh)
    point(directory, tag)


def point(directory: Path, tag: str) -> None:
    """Record that the disk of the instance in `directory` comes from the snapshot `tag`."""
    write_whole(directory / CURRENT, tag.encode())


def discard(directory: Path, tag: str) -> None:
    """Remove the snapshot `tag`; those that came from it come from its parent now."""
    gone = _read(place(directory, tag))
    for folder in _folders(directory):
        if _read(folder).parent == tag:
            record = json.loads(read_own(folder / RECORD))
            write_whole(folder / RECORD, json.dumps({**record, "parent": gone.parent}).encode() + b"\n")
    if _current(directory) == tag:
        if gone.parent:
            point(directory, gone.parent)
        else:
            remove_tree(directory / CURRENT)
    whole = place(directory, tag)
    retire(whole, beside(whole))


def _folders(directory: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [path for path in (directory / FOLDER).iterdir() if NAME.fullmatch(path.name)]
    return []


def _read(folder: Path) -> Snapshot:
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        record = json.loads(read_own(folder / RECORD))
        created_at, parent = record.get("created_at"), record.get("parent")
        return Snapshot(folder.name, str(created_at or ""), parent if isinstance(parent, str) else None)
    return Snapshot(folder.name)


def _current(directory: Path) -> str | None:
    """Return the tag of the snapshot that the disk comes from, if there is one."""
    with suppress(OSError, UnicodeDecodeError):
        tag = read_own(directory / CURRENT).decode()
        return tag if NAME.fullmatch(tag) and (directory / FOLDER / tag).is_dir() else None
    return None
