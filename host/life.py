"""Whether a directory's process is alive, and which process that is: a lock on the directory itself says so.

The process inherits an open, locked descriptor of the directory (flock(2)); the kernel releases the lock when the
process ends. So no pid namespace hides that it is alive, and no file has to be readable. Unlike a file, the directory
cannot be emptied or replaced, and a copy of it is another directory, whose lock is free.

Every process that inherits the descriptor keeps the lock, so helpers of the process must not inherit it.

/proc tells which process it is: the one whose descriptor has the lock. Source: proc(5), /proc/PID/fdinfo, `lock:`.
"""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .files import own
from .locks import try_lock, unlock
from .process import Actor, alive, boot_id, started_ticks

_NOBODY_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
"""Errors of open(2) for paths that nobody can have locked: nothing is there, or a link, or a socket."""

_HIDDEN_S, _AGAIN_S = 0.5, 0.002
"""A process is called hidden only after this time, for its lock may have no visible holder for a moment: when it starts
while /proc is listed, or when it ended while another process looked at its descriptors, which keeps the file open."""


class Life(NamedTuple):
    """What is known of the process that runs in a directory."""

    alive: bool
    process: Actor | None = None
    """The process; None if there is none, if it is closing, or if it cannot be seen from here."""
    closing: bool = False
    """True for a moment: it has closed its descriptors, but is not gone yet."""

    @property
    def hidden(self) -> bool:
        """True when it is alive, but in another pid namespace, or as another user."""
        return self.alive and not self.process and not self.closing


@contextmanager
def claimed(directory: Path) -> Iterator[int | None]:
    """Yield a descriptor of `directory`, locked for the process that inherits it; None if another process is there.

    The lock is held as long as that process keeps the descriptor open, and is released here if nobody inherits it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not (free := try_lock(descriptor)) and not look([directory], None).alive:
            pass  # another process was looking, which takes a microsecond
        yield descriptor if free else None
    finally:
        os.close(descriptor)


def look(places: Sequence[Path], recorded: Actor | None) -> Life:
    """Return what is known of the process that holds the lock of one of `places`; `recorded` is tried first.

    Raises OSError if that cannot be read: a process that cannot be seen may be alive.
    """
    for place in places:
        until, looked = time.monotonic() + _HIDDEN_S, False
        while (locked := _locked(place)) is not None:
            if holder := next(_holders(locked, recorded), None):
                return Life(alive=True, process=holder)
            if looked and (_closing(recorded) or time.monotonic() > until):
                return Life(alive=True, closing=_closing(recorded))
            looked = True
            time.sleep(_AGAIN_S)
    closing = _closing(recorded)
    return Life(alive=closing, closing=closing)


def holder(path: Path) -> Actor | None:
    """Return a process that holds the lock of the file `path`; None if there is none that can be seen from here.

    Raises OSError if that cannot be read.
    """
    try:
        return next(_holders(path.stat(), None), None)
    except FileNotFoundError:
        return None


def _locked(place: Path) -> os.stat_result | None:
    """Return the stat of `place` if somebody holds its lock; None if nobody does, or nothing is there."""
    try:
        descriptor = own(str(place), os.O_RDONLY)
    except OSError as error:
        if error.errno in _NOBODY_THERE:
            return None
        raise
    try:
        if not try_lock(descriptor, shared=True):
            return os.fstat(descriptor)
        unlock(descriptor)
        return None
    finally:
        os.close(descriptor)


def _holders(locked: os.stat_result, recorded: Actor | None) -> Iterator[Actor]:
    """Yield the processes with a descriptor that holds the lock of the file `locked`."""
    if recorded and _holds(recorded.pid, locked) and alive(recorded):
        yield recorded
    for name in os.listdir("/proc"):  # noqa: PTH208 - `list` makes no more paths than it must
        if name.isdecimal() and _holds(int(name), locked) and (ticks := started_ticks(int(name))) is not None:
            yield Actor(int(name), ticks, boot_id())


def _holds(pid: int, locked: os.stat_result) -> bool:
    with suppress(PermissionError):
        for path in _descriptors(pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.path.samestat(os.stat(path), locked):  # noqa: PTH116 - as above
                    with open(path.replace("/fd/", "/fdinfo/"), "rb") as info:  # noqa: PTH123 - as above
                        if any(b"FLOCK" in line and b"WRITE" in line for line in info):
                            return True
    return False


def _closing(actor: Actor | None) -> bool:
    """True for a process that is ending: it closes one descriptor after another, so it may still hold other locks."""
    with suppress(PermissionError):
        return actor is not None and alive(actor) and not _descriptors(actor.pid)
    return False


def _descriptors(pid: int) -> list[str]:
    """Return the /proc paths of the descriptors of process `pid`, from a later thread if its first one has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in (pid, *os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 - as above
            with suppress(FileNotFoundError, ProcessLookupError):
                folder = f"/proc/{pid}/task/{thread}/fd"
                if names := os.listdir(folder):  # noqa: PTH208 - as above
                    return [f"{folder}/{name}" for name in names]
    return []
