"""The contract between the engine and what acts on machines.

A driver knows no state and sees no template. It is handed a `Site`, does one thing to the world there, and says what
it sees. Every call is safe to repeat, because recovery after a crash repeats it:

    create   on a directory that holds the spec and the materials: afterwards the machine could be started
    start    afterwards the guest has answered; on a machine that is alive already, waits for that answer; what
             failed in a guest that answers is returned, and neither hides that it runs nor is hidden by it
    stop     afterwards nothing runs, and the word returned says how it ended
    kill     afterwards nothing runs, at once; never raises because nothing did
    reset    afterwards the disk is as `create` made it
    delete   afterwards nothing outside the directory is left; the engine removes the directory
    resume   afterwards a machine that was paused goes on, as far as what paused it lets it; one that runs just runs
    provision  afterwards the scripts of the first boot have run once more; what failed of them is returned
    observe  says what is so: quick, without network, without waiting, without changing anything

stop, kill, delete and observe go by the place alone: the site's spec may be `UNREADABLE`. What lives and cannot be
reached is `hidden` to observe, an OutOfReachError to the others, and left as it is. What cannot be read is an error:
only a machine that is known to be dead is said to be.

A third-party driver subclasses `Driver`, registers in the entry-point group `interlock.drivers`, and proves itself with
`interlock.drivers.conformance`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import DegradedError
from ..fsm.port import Deadline, Site
from ..fsm.records import HIDDEN, Check, Observation
from ..fsm.spec import UNREADABLE, Spec
from ..host.progress import Report

__all__ = [
    "HIDDEN",
    "UNREADABLE",
    "Abilities",
    "Check",
    "Deadline",
    "DegradedError",
    "Driver",
    "Observation",
    "Report",
    "Site",
]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a driver can do, for `doctor`, for `create`, and for the conformance suite."""

    arches: tuple[str, ...]
    images: bool
    """True when creation must obtain an image: a disk or a kernel."""
    shell: bool
    """True when `shell` leads into a real guest."""


class Driver(ABC):
    """One way to run machines. Instances of this class hold no facts about machines: those lie in the site."""

    name: ClassVar[str]
    abilities: ClassVar[Abilities]

    def check(self, spec: Spec) -> None:  # noqa: B027 - the default's machines need nothing of the host
        """Raise HostError where this host could never run what `spec` describes; asked before an image is brought."""

    @abstractmethod
    def create(self, site: Site, report: Report) -> None:
        """Make the machine that `site.spec` describes from the materials in `site.directory`."""

    @abstractmethod
    def start(self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True) -> DegradedError | None:
        """Boot the machine and return once its guest answers: with what failed in it all the same, or None.

        Without `boot` it starts nothing: a machine that is alive is awaited, one that is down is a DriverError.

        Raises DeadlineError when it does not in time (whether the machine is left alive is the engine's to decide),
        DriverError with the cause when it cannot.
        """

    @abstractmethod
    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        """Ask the guest to shut down; at the deadline end it. Returns how it ended: `guest shut down`.

        Raises OutOfReachError for a machine that is alive and cannot be reached from here; so do the next three.
        """

    @abstractmethod
    def kill(self, site: Site, report: Report) -> None:
        """End the machine, if it is alive and provably this site's, and return once nothing of it is left."""

    @abstractmethod
    def reset(self, site: Site, report: Report) -> None:
        """Give the machine, which is down, a fresh disk."""

    @abstractmethod
    def delete(self, site: Site, report: Report) -> None:
        """Remove what the machine, which is down, has outside `site.directory`."""

    @abstractmethod
    def observe(self, site: Site) -> Observation:
        """Return what is so. Never raises for a machine in a bad way: that is what it is there to say.

        Raises OSError or DriverError where it cannot be told whether it is alive.
        """

    def resume(self, site: Site, report: Report) -> None:  # noqa: B027 - the default's machines are never paused
        """Let the machine go on, if it was paused."""

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:  # noqa: ARG002 - the default's guests have no scripts
        """Run again what the first boot ran, in a guest that answers; return what failed of it, or None."""
        return None

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        """Return the host's command line that runs `command` (empty: a login shell) in the guest."""
        raise NotImplementedError

    def logs(self, site: Site) -> dict[str, Path]:  # noqa: ARG002 - the default knows of none
        """Return the machine's log files by name (`serial`, `qemu`), the most telling first; none need exist."""
        return {}

    def checks(self, runtime: Path) -> list[Check]:  # noqa: ARG002 - the default needs nothing
        """Return what this driver needs of the host, and whether it is there; findings may be cached in `runtime`."""
        return []
