"""The keeper's work: one thread for each instance that needs one, for as long as its machine is alive.

It has no state of its own. What is wanted stands in the specs, what is so is asked of the drivers, and whatever it was
killed in the middle of, the next one does again.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import InterlockError
from ..fsm.engine import Engine
from ..fsm.port import Deadline, Site
from ..fsm.records import OpenPort, now
from ..host.files import make_private_directory, open_private, remove_tree
from ..host.home import Home
from ..host.locks import Lock
from . import calls
from .rules import ways

if TYPE_CHECKING:
    from ..drivers.contract import Driver

TURN_S = 15.0
"""How long one look may last: a spec that was edited, or a host's port that became free, counts after that."""

RETRY_S = 2.0
"""After a guest did not say what it listens on: it may be booting, or paused."""

LOOK_S = 60.0
"""A keeper that nobody called looks for new instances all the same."""

_WAIT_S = 0.05

_LOG_BYTES = 256 << 10


class Keeper:
    """The keeper of `home`; `find` returns the driver of a name."""

    def __init__(self, home: Home, find: "Callable[[str], Driver]") -> None:
        self._home, self._find = home, find
        self._engine = Engine(home, find)
        self._attended: set[str] = set()

    def serve(self) -> None:
        """Attend the instances until none needs it. Returns at once where another keeper serves them."""
        make_private_directory(calls.folder(self._home))
        lock = Lock(calls.folder(self._home) / calls.LOCK)
        while not lock.acquire():
            if calls.heard(self._home):
                return
            threading.Event().wait(_WAIT_S)
        with lock:
            while self._look():
                with self._calls() as fifo:
                    while self._look():
                        _wait(fifo)

    @contextmanager
    def _calls(self) -> Iterator[int]:
        """Yield the FIFO, open for reading; a caller finds no reader any more once this ends."""
        path = calls.folder(self._home) / calls.CALLS
        remove_tree(path)
        os.mkfifo(path, 0o600)
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fifo
        finally:
            os.close(fifo)

    def _look(self) -> bool:
        """Attend each instance that needs it; return whether there is one."""
        for name in self._home.names():
            if name not in self._attended and self._needing(name):
                self._attended.add(name)
                threading.Thread(target=self._attend, args=(name,), name=name, daemon=True).start()
        return bool(self._attended)

    def _needing(self, name: str) -> Site | None:
        """Return the place of `name` if its machine is alive and has rules for ports; records an exit."""
        with suppress(InterlockError):
            status = self._engine.status(name)
            seen = status.observation
            if status.spec and status.spec.port_rules and seen and seen.alive and not seen.hidden:
                return self._engine.site(name)
        return None

    def _attend(self, name: str) -> None:
        """Let the ports that open in the guest of `name` be open on this host, until its machine is down."""
        known, said = None, ""
        try:
            while site := self._needing(name):
                try:
                    driver = self._find(site.spec.driver)
                    sockets = driver.listening(site, known, Deadline(TURN_S))
                    site = self._engine.site(name)  # its rules may be others since
                    before = driver.observe(site).ports
                    after = driver.carry(site, ways(site.spec.port_rules, sockets))
                except InterlockError as error:
                    if self._needing(name):
                        if error.message != said:
                            self._say(name, error.message)
                        known, said = None, error.message
                        threading.Event().wait(RETRY_S)
                else:
                    self._say_changes(name, before, after)
                    known, said = sockets, ""
        finally:
            self._attended.remove(name)
            calls.heard(self._home)  # the main thread looks whether another is left

    def _say_changes(self, name: str, before: tuple[OpenPort, ...], after: tuple[OpenPort, ...]) -> None:
        """Log what is other than before."""
        for port in before:
            if port not in after and not port.problem:
                self._say(name, f"{port.host_ip}:{port.host_port} is closed")
        for port in after:
            if port not in before:
                there = f"{port.host_ip}:{port.host_port} leads to {port.guest_ip}:{port.guest_port}"
                self._say(name, port.problem or there)

    def _say(self, name: str, words: str) -> None:
        """Write a line to the log, whose length is bounded. A full disk keeps nobody from the work."""
        path = calls.folder(self._home) / calls.LOG
        with suppress(OSError):
            if path.exists() and path.stat().st_size > _LOG_BYTES:
                path.replace(path.with_suffix(".old"))
            with open_private(path, "ab") as log:
                log.write(f"{now()} {name}: {words}\n".encode())


def _wait(fifo: int) -> None:
    """Return when somebody calls, or after LOOK_S; all calls until then have been heard."""
    poll = select.poll()
    poll.register(fifo, select.POLLIN)
    poll.poll(1000 * LOOK_S)
    with suppress(BlockingIOError):
        while os.read(fifo, 4096):
            pass
