"""The data of the view: the instances as they are now, and how busy each machine has been since the last look."""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..api import Interlock
from ..errors import InterlockError
from ..fsm.records import Status
from ..fsm.watch import Change
from ..host.process import Usage

if TYPE_CHECKING:
    from ..guest.agent import Load

LOOK_S = 1.0
"""How often the machines are looked at; each change is looked at when it happens."""

ASK_S = 2.0
"""How often the guest of the chosen instance is asked how busy it is."""

BEFORE = timedelta(minutes=10)
"""How far back the messages begin."""

_SHORTEST_S = 0.5
"""The shortest time to measure over: processor time is counted in hundredths of a second."""


class Seen(NamedTuple):
    """One instance at one moment."""

    status: Status
    cpu_percent: float | None
    """The use of processor time, in percent of one processor of the host; None while nothing runs."""


class Meter:
    """How busy machines are, from their processor time at two moments."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[Usage, float]] = {}

    def percent(self, name: str, used: Usage | None) -> float | None:
        """Return how busy the machine `name` has been since the last call, or since its start."""
        if used is None:
            self._latest.pop(name, None)
            return None
        before, known = self._latest.get(name, (Usage(0.0, 0, 0.0), 0.0))
        if used.uptime_s < before.uptime_s or used.cpu_s < before.cpu_s:
            before = Usage(0.0, 0, 0.0)  # another process
        past_s = used.uptime_s - before.uptime_s
        if past_s < _SHORTEST_S:
            return known
        busy = 100 * (used.cpu_s - before.cpu_s) / past_s
        self._latest[name] = used, busy
        return busy


class Listener(Protocol):
    """Receives what the threads of `Looking` find out, in those threads."""

    def seen(self, instances: list[Seen]) -> None: ...

    def happened(self, change: Change) -> None: ...

    def heard(self, name: str, load: "Load | None") -> None: ...

    def ended(self, error: Exception) -> None: ...


class Looking:
    """Three threads: one looks at the machines `names`, or all, one waits for what happens to them, and one asks the
    guest of the `chosen` one how busy it is. They end with `close`."""

    def __init__(
        self, interlock: Interlock, listener: Listener, chosen: Callable[[], Status | None], names: Collection[str] = ()
    ) -> None:
        self._interlock, self._listener, self._chosen, self._names = interlock, listener, chosen, names
        self._closing, self._look_now = threading.Event(), threading.Event()
        self._threads = [self._begun(work) for work in (self._look, self._watch, self._ask)]

    def look_now(self) -> None:
        """Look at the machines without delay."""
        self._look_now.set()

    def close(self) -> None:
        """End the threads; return when they have ended."""
        self._closing.set()
        self._look_now.set()
        for thread in self._threads:
            thread.join()

    def _begun(self, work: Callable[[], None]) -> threading.Thread:
        def until_closed() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - where a thread ends: the view has to show the error
                self._listener.ended(error)

        thread = threading.Thread(target=until_closed, name=f"interlock top: {work.__name__}", daemon=True)
        thread.start()
        return thread

    def _look(self) -> None:
        meter = Meter()
        while not self._closing.is_set():
            self._look_now.clear()
            statuses = [it for it in self._interlock.instances() if not self._names or it.name in self._names]
            self._listener.seen([Seen(it, meter.percent(it.name, _usage(it))) for it in statuses])
            self._look_now.wait(LOOK_S)

    def _watch(self) -> None:
        since = (datetime.now(UTC) - BEFORE).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for change in self._interlock.watch(self._names, since=since, until=self._closing.is_set):
            self._listener.happened(change)
            self._look_now.set()

    def _ask(self) -> None:
        while not self._closing.wait(ASK_S):
            status = self._chosen()
            if status and status.observation and status.observation.alive:
                with suppress(InterlockError):  # it went down meanwhile, or it has no guest to ask
                    self._listener.heard(status.name, self._interlock.load(status.name))


def _usage(status: Status) -> Usage | None:
    return status.observation.usage if status.observation else None
