"""The keeper's work: it looks at machines that run, and starts those that failed or should have started at login.

    a machine with rules for ports    has a thread of its own for as long as it is alive
    a machine that failed             is restarted by a thread, as `restarts` says
    machines to start at login        are started in turn by a thread, if they have not run since the host's boot
    every other live machine          is watched, so that its end is recorded when it comes

It has no state of its own. Specs and journals say what is wanted, drivers observe the machines, and if the keeper is
killed in the middle of its work, the next keeper does that work again.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..errors import DegradedError, InterlockError
from ..fsm import looks, restarts
from ..fsm.causes import as_error
from ..fsm.engine import Engine
from ..fsm.events import Event
from ..fsm.port import Deadline, Site
from ..fsm.records import OpenPort, Status, now
from ..fsm.states import AT_REST
from ..fsm.table import Trigger
from ..host.files import make_private_directory, open_private, remove_tree
from ..host.home import Home
from ..host.locks import Lock
from . import calls
from .rules import ways

if TYPE_CHECKING:
    from ..drivers.contract import Driver

TURN_S = 15.0
"""How long one look is valid: after that, an edited spec or a host's port that became free is noticed."""

RETRY_S = 2.0
"""The wait after a guest did not report its open ports: it may be booting, or paused."""

LOOK_S = 60.0
"""How often a keeper that nobody called looks for new instances."""

BLIND_S = 1.0
"""The same, while one of our machines has no process that can be watched."""

_WAIT_S = 0.05

FAILURES = (InterlockError, OSError)
"""Errors of one instance that must not end the work on the others."""

_LOGIN = ".login"
"""The name of the thread that starts the instances for a login. No instance can have this name."""

_LOG_BYTES = 256 << 10


class Keeper:
    """The keeper of `home`; `find` returns the driver of a name."""

    def __init__(self, home: Home, find: "Callable[[str], Driver]") -> None:
        self._home, self._find = home, find
        self._engine = Engine(home, find, self._hear)
        self._attended: set[str] = set()
        """The names of the instances, and other tasks, that have a thread."""
        self._watched: list[int | None] = []
        """The processes of the live machines without a thread; None for a machine whose process is unknown."""

    def serve(self) -> None:
        """Serve the instances until none needs a keeper. Returns at once if another keeper serves them."""
        make_private_directory(calls.folder(self._home))
        lock = Lock(calls.folder(self._home) / calls.LOCK)
        while not lock.acquire():
            if calls.heard(self._home):
                return
            threading.Event().wait(_WAIT_S)
        with lock:
            self._begin(_LOGIN, self._fetch)
            while self._look():
                with self._calls() as fifo:
                    while self._look():
                        self._wait(fifo)

    @contextmanager
    def _calls(self) -> Iterator[int]:
        """Yield the FIFO, open for reading; after the block, callers find no reader."""
        path = calls.folder(self._home) / calls.CALLS
        remove_tree(path)
        os.mkfifo(path, 0o600)
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fifo
        finally:
            os.close(fifo)

    def _wait(self, fifo: int) -> None:
        """Return when somebody calls, a machine ends, or it is time to look; all calls until then have been read."""
        poll, timeout_s = select.poll(), LOOK_S
        poll.register(fifo, select.POLLIN)
        with ExitStack() as opened:
            for pid in self._watched:
                try:
                    pidfd = os.pidfd_open(pid or 0)
                except OSError:  # its process is unknown, or has ended
                    timeout_s = BLIND_S
                else:
                    opened.callback(os.close, pidfd)
                    poll.register(pidfd, select.POLLIN)
            poll.poll(1000 * timeout_s)
        with suppress(BlockingIOError):
            while os.read(fifo, 4096):
                pass

    # -- who needs what --------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Do what each instance needs, and record exits; return whether any instance needs a keeper."""
        self._watched, needed = [], False
        with looks.shared({}):
            for name in self._home.names():
                if name not in self._attended:
                    with suppress(*FAILURES):
                        needed |= self._see_to(name)
        return needed or bool(self._attended)

    def _see_to(self, name: str) -> bool:
        """Do what `name` needs now; return whether it needs a keeper."""
        status = self._engine.status(name)
        spec, seen = status.spec, status.observation
        if spec is None:
            return False
        if number := self._restart_due(status):
            self._begin(name, self._restart, name, number)
            return True
        if seen is None or seen.hidden:
            return False
        if not seen.alive:
            if status.state in AT_REST and not status.operation:  # another program may start it: no hurry to notice
                return False
            if seen.alive is False or not spec.keeper:  # another process is about to record its exit
                self._watched.append(None)
            return spec.restart != restarts.NEVER
        if spec.port_rules:
            self._begin(name, self._attend, name)
        elif seen.pid or not spec.keeper:  # a cluster's machine has no process here, so it is polled
            self._watched.append(seen.pid)
        return bool(spec.port_rules) or spec.restart != restarts.NEVER

    def _begin(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do `work` in a thread called `name`; after that, the main thread looks again."""

        def attend() -> None:
            try:
                work(*arguments)
            finally:
                self._attended.remove(name)
                calls.heard(self._home)

        self._attended.add(name)
        threading.Thread(target=attend, name=name, daemon=True).start()

    # -- starts ----------------------------------------------------------------------------------------------------

    def _restart_due(self, status: Status) -> int | None:
        """Return the number of the restart that is due for the instance with this status; None if no restart is due."""
        if status.spec is None or status.spec.restart != restarts.ON_FAILURE:
            return None
        if status.state not in AT_REST or status.under_way:
            return None
        site = self._engine.site(status.name)
        failed = self._find(site.spec.driver).observe(site).failed
        return restarts.due(self._engine.history(status.name), failed=failed)

    def _restart(self, name: str, number: int) -> None:
        """Start `name`, which has failed, after the waiting time of its restart `number`."""
        if not self._start(name, restart=number):
            threading.Event().wait(RETRY_S)  # it may have failed before anything was recorded

    def _fetch(self) -> None:
        """Start, one after another, the instances that start at login and have not run since the host's boot."""
        for name in self._home.names():
            with suppress(*FAILURES):
                status = self._engine.status(name)
                if status.state in AT_REST and not status.under_way and restarts.is_missed(status.directory):
                    self._start(name)

    def _start(self, name: str, **arguments: Any) -> bool:
        """Start `name`, log how that ended, and return whether it runs."""
        try:
            self._engine.fire(name, Trigger.start, **arguments)
        except DegradedError as error:
            self._say(name, error.message)
        except FAILURES as error:
            self._say(name, as_error(error).message)
            return False
        return True

    # -- ports -----------------------------------------------------------------------------------------------------

    def _needing(self, name: str) -> Site | None:
        """Return the site of `name` if its machine is alive and has rules for ports; records an exit."""
        with suppress(*FAILURES):
            status = self._engine.status(name)
            seen = status.observation
            if status.spec and status.spec.port_rules and seen and seen.alive and not seen.hidden:
                return self._engine.site(name)
        return None

    def _attend(self, name: str) -> None:
        """Forward the ports that open in the guest of `name` to this host, until its machine is down."""
        known, said = None, ""
        while site := self._needing(name):
            try:
                driver = self._find(site.spec.driver)
                sockets = driver.listening(site, known, Deadline(TURN_S))
                site = self._engine.site(name)  # its rules may have changed since
                before = driver.observe(site).ports
                after = driver.carry(site, ways(site.spec.port_rules, sockets))
            except FAILURES as error:
                if self._needing(name):
                    message = as_error(error).message
                    if message != said:
                        self._say(name, message)
                    known, said = None, message
                    threading.Event().wait(RETRY_S)
            else:
                self._say_changes(name, before, after)
                known, said = sockets, ""

    def _say_changes(self, name: str, before: tuple[OpenPort, ...], after: tuple[OpenPort, ...]) -> None:
        """Log the forwards that closed, and those that opened or failed."""
        for port in before:
            if port not in after and not port.problem:
                self._say(name, f"{port.host_ip}:{port.host_port} is closed")
        for port in after:
            if port not in before:
                there = f"{port.host_ip}:{port.host_port} leads to {port.guest_ip}:{port.guest_port}"
                self._say(name, port.problem or there)

    def _hear(self, event: Event) -> None:
        """Log the message of a transition, even an observed one."""
        self._say(event.instance, event.message)

    def _say(self, name: str, words: str) -> None:
        """Write a line to the log, whose length is bounded. A full disk does not stop the work."""
        path = calls.folder(self._home) / calls.LOG
        with suppress(OSError):
            if path.exists() and path.stat().st_size > _LOG_BYTES:
                path.replace(path.with_suffix(".old"))
            with open_private(path, "ab") as log:
                log.write(f"{now()} {name}: {words}\n".encode())
