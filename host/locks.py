"""One lock for each instance name, which the kernel releases when its holder dies.

So a lock cannot be stale: there is no owner to look up and nothing to clean up. The file exists as long as the instance
does. It is unlinked under the lock when the name becomes absent, so a process that has locked it checks that the file
still has the name. Source: flock(2).

The file's content is a note to the holder: a process that needs the instance more urgently writes which process should
let go. The holder reads it whenever it checks the clock. A holder ignores notes to other processes, so a late note
cancels nothing.

Anything but a regular file in the file's place is removed: no process can hold a lock on it.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from . import cancellation
from .files import UnfitFileError, make_private_directory, open_own, remove_tree
from .process import Actor
from .progress import Report, unheard

_NOTE_BYTES = 1024

WAIT_S = 0.02
"""How often a waiter tries: flock(2) has no deadline, and keeps waiting after a signal."""


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock the open file `descriptor`, exclusively or `shared`. Returns False if it is locked by somebody else."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release the lock. After a mere close, a child that another thread is starting would keep it until its exec."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def wait_for(descriptor: int, waiting: Callable[[], object]) -> None:
    """Lock the open file `descriptor` exclusively; `waiting` is called once if somebody else holds the lock.

    Raises what `waiting` does, and CancelledError.
    """
    if try_lock(descriptor):
        return
    waiting()
    while not try_lock(descriptor):
        cancellation.pause(WAIT_S)


@contextmanager
def held(path: Path, waiting: str | None, report: Report = unheard) -> Iterator[None]:
    """Hold the lock in the file `path`, which is made if it is missing, with its folder.

    While somebody else holds it, reports `waiting` and waits; if `waiting` is None, raises BlockingIOError instead.
    The holder may remove the folder; the next holder makes it again.
    """
    lock = Lock(path)
    if not _acquired(lock):
        if waiting is None:
            raise BlockingIOError
        report(waiting)
        while not _acquired(lock):
            cancellation.pause(WAIT_S)
    with lock:
        yield


def _acquired(lock: "Lock") -> bool:
    """Take `lock` if it is free, after making its folder."""
    while True:
        make_private_directory(lock.path.parent)
        with suppress(FileNotFoundError):  # the folder was removed in between
            return lock.acquire()


class Lock:
    """The lock in the file `path`. Threads exclude each other as processes do, because each `Lock` opens the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free, without waiting; return whether it was."""
        while True:
            descriptor = self._open()
            try:
                free = try_lock(descriptor)
                if free and self._is_named(descriptor):
                    os.ftruncate(descriptor, 0)  # a note to an earlier holder
                    self._descriptor = descriptor
                    return True
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
            if not free:
                return False

    def release(self, *, forget: bool = False) -> None:
        """Release the lock; `forget` also removes its file, when the name has become absent."""
        if self._descriptor is None:
            return
        try:
            if forget:
                with suppress(OSError):  # a failing disk: an empty file stays until the next look at the name
                    self.path.unlink()
        finally:
            unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def ask_to_let_go(self, holder: Actor, why: str) -> None:
        """Leave a note for `holder`, which has the lock; `why` says who asks, in words. Does not wait."""
        with suppress(FileNotFoundError):
            descriptor = open_own(self.path, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(descriptor, f"{holder.pid} {holder.started_ticks} {why}".encode())
            finally:
                os.close(descriptor)

    def asked_to_let_go(self, holder: Actor) -> str | None:
        """Return why `holder`, which has this lock, should let go of it; None if nobody asks."""
        if self._descriptor is None or os.fstat(self._descriptor).st_size == 0:
            return None
        note = os.pread(self._descriptor, _NOTE_BYTES, 0).decode(errors="replace")
        addressee = f"{holder.pid} {holder.started_ticks} "
        return note.removeprefix(addressee) if note.startswith(addressee) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> int:
        """Return a descriptor of the lock's file, which is made if it is missing."""
        while True:
            try:
                return open_own(self.path, os.O_RDWR | os.O_CREAT)
            except UnfitFileError:
                self._make_way()

    def _make_way(self) -> None:
        """Remove whatever is in the file's place, unless another process has done so already.

        One process at a time, or a second one would remove the file that the first has made and locked.
        """
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            wait_for(folder, lambda: None)
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(self.path.lstat().st_mode):
                    remove_tree(self.path)
        finally:
            os.close(folder)

    def _is_named(self, descriptor: int) -> bool:
        """True if `path` is still the file that was locked, not its successor."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False
