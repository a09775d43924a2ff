"""`prune`: find and remove what nothing in a home needs.

    image      an image that no instance uses (`images.usage`)
    warm       a warm image that no instance started from or will start from
    download   a partial download that no process is continuing
    leftover   files that a dead process left in the image store
    log        a log, unchanged for a week, of an instance that is not running
    runtime    the sockets of an instance that does not exist

Each object is checked again just before it is removed, under the lock that a new user of it would take.
"""

import os
import socket
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .drivers.contract import Driver
from .errors import UsageError
from .fsm.engine import Engine
from .host.files import remove_tree
from .host.home import NAME, Home, owner
from .host.locks import Lock
from .host.progress import Report, unheard
from .host.unneeded import KINDS, Unneeded, bytes_in
from .images import usage
from .images.store import Store

if TYPE_CHECKING:
    from .fsm.port import Site

LOG_KEPT_S = 7 * 24 * 3600
"""How long a log is kept after the last write to it."""


class Pruning:
    """Finds and removes what nothing in `home` needs. `find` returns the driver of that name."""

    def __init__(self, home: Home, engine: Engine, find: Callable[[str], Driver]) -> None:
        self._home, self._engine, self._find = home, engine, find
        self._store = Store(home.images)

    def unneeded(self, kinds: Collection[str] = KINDS) -> list[Unneeded]:
        """Return the unneeded objects of these kinds; changes nothing. Raises UsageError for an unknown kind."""
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UsageError(f"{unknown[0]!r}: expected one of {', '.join(KINDS)}")
        found = [*usage.unneeded(self._store, self._home), *self._logs(), *self._orphans()]
        return [one for one in found if one.kind in kinds]

    def remove(self, chosen: Iterable[Unneeded], report: Report = unheard) -> list[Unneeded]:
        """Remove those of `chosen` that are still unneeded, and return them."""
        wanted = list(chosen)
        gone = usage.prune(self._store, self._home, [one for one in wanted if one.kind in usage.KINDS], report)
        return [*gone, *self._remove_logs(wanted), *self._remove_orphans(wanted)]

    def _logs(self) -> Iterator[Unneeded]:
        for name in self._home.names():
            with self._engine.at_rest(name) as site:
                if site:
                    yield from self._old_logs(site)

    def _old_logs(self, site: "Site") -> Iterator[Unneeded]:
        for path in self._find(site.spec.driver).logs(site).values():
            with suppress(OSError):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode) and time.time() - seen.st_mtime > LOG_KEPT_S:
                    yield Unneeded("log", f"{site.name}/{path.name}", bytes_in(path), path=path)

    def _remove_logs(self, chosen: Iterable[Unneeded]) -> Iterator[Unneeded]:
        wanted = {one.key: one for one in chosen if one.kind == "log"}
        for name in sorted({one.name.partition("/")[0] for one in wanted.values()}):
            with self._engine.at_rest(name) as site:
                for one in self._old_logs(site) if site else ():
                    if one.path and one.key in wanted:
                        remove_tree(one.path)
                        yield one

    def _orphans(self) -> Iterator[Unneeded]:
        for place in sorted(self._home.runtime.glob("*/")):
            if _is_orphan(place):
                yield Unneeded("runtime", str(place), bytes_in(place), path=place)

    def _remove_orphans(self, chosen: Iterable[Unneeded]) -> Iterator[Unneeded]:
        for one in chosen:
            if one.kind == "runtime" and one.path:
                with _unclaimed(one.path) as free:
                    if free:
                        remove_tree(one.path)
                        yield one


def _is_orphan(runtime: Path) -> bool:
    """True if the instance of the runtime directory, in whichever home, is gone and no process listens in it."""
    directory = owner(runtime)
    if directory is None or not NAME.fullmatch(directory.name):
        return False
    try:
        directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return not any(map(_listens, runtime.iterdir()))
    except OSError:  # unknown: it cannot be looked at
        pass
    return False


@contextmanager
def _unclaimed(runtime: Path) -> Iterator[bool]:
    """Yield whether the runtime directory is an orphan; if so, no instance can start to use it until the block ends."""
    directory = owner(runtime)
    if directory is None:
        yield False
        return
    lock = Lock(directory.parent.parent / "locks" / directory.name)
    try:
        held = lock.acquire()
    except OSError:  # its home is gone too
        yield _is_orphan(runtime)
        return
    try:
        yield held and _is_orphan(runtime)
    finally:
        lock.release(forget=not os.path.lexists(directory))


def _listens(path: Path) -> bool:
    """True if a process listens on the socket `path`, or may do so."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0)
            client.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:  # its queue is full, say
        return True
    return True
