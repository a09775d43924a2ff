"""One lock for each instance name, held by the kernel for a process and released by it on that process's death.

So a lock cannot be stale: there is no owner to look up and nothing to clean. The file outlives the lock only while the
instance exists; it is unlinked under the lock when the name becomes absent again, hence the check that the file that
was locked is still the one that has the name. Source: flock(2).

The file's content is a note to the holder: a process that needs the instance more urgently writes which process should
let go. The holder looks whenever it looks at the clock. A note to somebody else means nothing, so one that comes too
late calls nothing off.

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
"""How often a waiter looks: flock(2) has no deadline, and keeps waiting after a signal."""


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock the open file `descriptor` for us alone, or with others who share it. False when somebody has it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give the lock back. Closing alone would leave it to a child that another thread is starting, until its exec."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def wait_for(descriptor: int, waiting: Callable[[], object]) -> None:
    """Lock the open file `descriptor` for us alone; `waiting` is called once if somebody else has it.

    Raises what `waiting` does, and CancelledError.
    """
    if try_lock(descriptor):
        return
    waiting()
    while not try_lock(descriptor):
        cancellation.pause(WAIT_S)


@contextmanager
def held(path: Path, waiting: str | None, report: Report = unheard) -> Iterator[None]:
    """Hold the lock in the file `path`, which is made with its folder if need be.

    Waits while somebody else holds it, and says the words `waiting` to `report`; without words, raises BlockingIOError.
    The holder may remove the folder: the next one then makes another.
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
    """Take `lock` if nobody has it, having made its folder."""
    while True:
        make_private_directory(lock.path.parent)
        with suppress(FileNotFoundError):  # the folder was removed in between
            return lock.acquire()


class Lock:
    """The lock in the file `path`. Threads exclude each other as processes do: each `Lock` opens the file itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if nobody has it, without waiting. False when somebody has."""
        while True:
            descriptor = self._open()
            try:
                free = try_lock(descriptor)
                if free and self._is_named(descriptor):
                    os.ftruncate(descriptor, 0)  # what was left for an earlier holder
                    self._descriptor = descriptor
                    return True
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
            if not free:
                return False

    def release(self, *, forget: bool = False) -> None:
        """Give the lock back; `forget` also removes its file, for a name that means nothing any more."""
        if self._descriptor is None:
            return
        try:
            if forget:
                with suppress(OSError):  # a failing disk: an empty file stays, and the next look at the name removes it
                    self.path.unlink()
        finally:
            unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def ask_to_let_go(self, holder: Actor, why: str) -> None:
        """Leave a note for `holder`, who has the lock: `why` says who asks, in words. Does not wait."""
        with suppress(FileNotFoundError):
            descriptor = open_own(self.path, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(descriptor, f"{holder.pid} {holder.started_ticks} {why}".encode())
            finally:
                os.close(descriptor)

    def asked_to_let_go(self, holder: Actor) -> str | None:
        """Return why `holder`, who has this lock, should let go of it; None when nobody asks."""
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
        """Return a descriptor of the lock's file, made if need be."""
        while True:
            try:
                return open_own(self.path, os.O_RDWR | os.O_CREAT)
            except UnfitFileError:
                self._make_way()

    def _make_way(self) -> None:
        """Remove what lies in the file's place, unless another has done so already.

        One at a time, or the second would remove the file that the first has made and locked.
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
        """True when `path` still leads to the file that was locked, not to a successor."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False
