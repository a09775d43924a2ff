"""The engine's side of the driver contract: the calls that it makes to a driver.

The engine decides whether a transition may run, and records that it did. Everything that a transition does to the world
happens behind this port. `drivers.contract` says what each call promises. No state passes through the port.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from ..errors import DegradedError, InterlockError
from ..host import cancellation
from ..host.progress import Report
from .records import Effects, Observation
from .spec import Forward, Spec
from .table import Trigger


class Deadline:
    """A moment on the monotonic clock. `Deadline(30)` is 30 seconds from now, or from the moment `since`.

    Once the work has been called off, reading the remaining time raises CancelledError, from `cancellation.check`. So
    every loop that checks its deadline can be called off.
    """

    def __init__(self, seconds: float, *, since: float | None = None) -> None:
        self.seconds = seconds
        self._at = (time.monotonic() if since is None else since) + seconds

    def at_most(self, seconds: float) -> "Deadline":
        """Return the earlier of this moment and `seconds` from now."""
        return Deadline(min(seconds, self.remaining_s))

    def at_least(self, seconds: float) -> "Deadline":
        """Return the later of this moment and `seconds` from now."""
        return Deadline(max(seconds, self.remaining_s))

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 if it has passed; raises CancelledError if the work was called off."""
        cancellation.check()
        return max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """True if no time is left; raises CancelledError if the work was called off."""
        return self.remaining_s == 0.0


class Site(NamedTuple):
    """Where one instance is on this host: all that a driver gets."""

    name: str
    directory: Path
    """The directory of the instance: private, absolute. `spec.json` and `journal.jsonl` in it belong to the engine."""
    runtime: Path
    """A private directory with a short path, for sockets; it may not exist, and a reboot clears it."""
    spec: Spec


class Port(Protocol):
    """The calls that transitions make."""

    def create(self, site: Site, report: Report) -> None: ...
    def copy(self, site: Site, original: Site, report: Report, *, full: bool) -> None: ...
    def grow(self, site: Site, report: Report) -> None: ...
    def catch(self, site: Site, report: Report, deadline: Deadline) -> None: ...
    def adopt(self, site: Site, original: Site, report: Report) -> None: ...
    def remount(self, site: Site) -> None: ...

    def forward(self, site: Site, former: Sequence[Forward], report: Report) -> None: ...
    def move(self, site: Site, new: Site, report: Report) -> None: ...
    def start(
        self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True
    ) -> DegradedError | str | None: ...
    def stop(self, site: Site, report: Report, deadline: Deadline) -> str: ...
    def kill(self, site: Site, report: Report) -> None: ...
    def suspend(self, site: Site, report: Report, deadline: Deadline) -> None: ...
    def keep(self, site: Site, place: Path, report: Report, deadline: Deadline) -> int: ...
    def examine(self, site: Site, place: Path, report: Report, *, cold: bool) -> None: ...
    def put_back(self, site: Site, place: Path, report: Report, *, cold: bool) -> None: ...
    def reset(self, site: Site, report: Report) -> None: ...
    def delete(self, site: Site, report: Report) -> None: ...
    def resume(self, site: Site, report: Report) -> None: ...
    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None: ...
    def migrate(
        self, site: Site, report: Report, deadline: Deadline, *, node: str | None = None, failover: bool = False
    ) -> DegradedError | str | None: ...
    def observe(self, site: Site) -> Observation: ...
    def foresee(self, site: Site, trigger: Trigger, arguments: Mapping[str, Any]) -> Effects: ...


Ports = Callable[[str], Port]
"""Returns the driver of a name; raises DriverError for an unknown name."""


class Draft(NamedTuple):
    """The result of a plan: a spec, and the files that must be beside it before the driver creates the machine.

    With an `original`, the driver copies that machine instead, with all files beside it.
    """

    spec: Spec
    materials: dict[str, Path | bytes]
    """File name in the directory → an immutable file to link, or the content itself."""
    shared: Mapping[str, Path] = MappingProxyType({})
    """File name in the directory → a writable file that is shared with others: linked, never copied."""
    original: Site | None = None
    """The site of the machine to copy; its lock is held, and the machine is down unless `live`."""
    full: bool = False
    """True: the copy shares no disk with the original."""
    live: bool = False
    """True: the original is running, and the copy continues from the moment that the driver's `catch` has saved."""


Plan = Callable[[Report], Draft]
"""Resolves a template, gets its image, makes keys and seed; or names the machine to copy. Only `create` has a parameter
of this type."""

Change = Callable[[Spec], Spec]
"""Returns the edited spec for a spec; raises an error if the edit is not valid."""


def candidates(ports: Ports) -> Iterator[Port]:
    """Yield every driver that is installed and can be loaded; one of them made an instance with an unreadable spec."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="interlock.drivers"):
        with suppress(InterlockError):  # a driver that cannot be loaded is skipped
            yield ports(entry.name)
