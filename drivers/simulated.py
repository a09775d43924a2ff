"""A driver whose machines are records: for testing the engine, and for programs that embed Interlock.

A simulated machine has the facts of a real one: whether it is alive, in which boot of the host it started, how often
its disk was booted, why it went down. The record is the file `machine.json` in the instance's directory, so that
several processes see the same machine, or an entry of a mapping in memory, so that an embedder's tests leave no trace.

Delays and failures are set for each trigger, as a mapping given to the constructor or, for other processes, as JSON in
the environment variable INTERLOCK_SIMULATED:

    {"start": {"delay_s": 0.5, "error": "the disk is on fire"}, "stop": {"delay_s": 3}}

    delay_s   how long the work takes, in seconds; it can be cut short by a deadline
    error     the work fails with these words (DriverError), after the delay
    hang      true: the work never ends by itself
    until     the path of a file: the work ends when that file exists
    degraded  of start and provision: the guest runs, but these words say what failed in it (DegradedError)

Commands that are run in a guest are answered from `answers`, whose keys are command lines as a shell would read them:

    driver = SimulatedDriver(answers={"uname -r": "6.1.0", "systemctl is-active web": Completed(3, b"inactive")})
    vms = Interlock(driver=driver)

`driver.ran` then says what was run, where, and with what input. Orders for `run` hold for every command. Orders and
answers may be changed at any time.
"""

import json
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from ..errors import DeadlineError, DriverError, OutOfReachError, TooNewError, UsageError
from ..fsm.records import is_saved, is_warm
from ..fsm.schema import check_schema
from ..fsm.snapshots import place
from ..host import cancellation
from ..host.files import UnfitFileError, read_own, remove_tree, write_whole
from ..host.process import boot_id
from .contract import (
    CLUSTERED,
    CURRENT,
    DEMANDS,
    FORKED,
    HIDDEN,
    SAVED,
    Abilities,
    Deadline,
    DegradedError,
    Driver,
    Effects,
    Observation,
    OpenPort,
    Report,
    Site,
    Usage,
)

if TYPE_CHECKING:
    from ..fsm.spec import Forward
    from ..fsm.table import Trigger
    from ..guest.command import Completed
    from .contract import Sockets

    Answer = str | Completed | Callable[[bytes], str | Completed]
    """A guest's answer to a command: its output or a whole result, or a function that makes one from the input."""

FILE = "machine.json"
PORTS = "ports.json"
VARIABLE = "INTERLOCK_SIMULATED"
TICK_S = 0.01
_DEGRADED = "degraded: "
UNLIMITED = Deadline(math.inf)


class SimulatedMachine(NamedTuple):
    """The record of one machine."""

    alive: bool = False
    boot_id: str = ""
    """The host's boot in which it was started: in any other it is dead."""
    boots: int = 0
    """How often it was started with the disk it has."""
    exit_reason: str | None = None
    failed: bool = False
    """True when it is down because it failed; set by `happen`."""
    condition: str | None = None
    hidden: bool = False
    """True while its process cannot be seen from here; set by `happen`."""
    cpu_s: float = 0.0
    """What `observe` reports as used while it is alive; set by `happen`, as are the next two."""
    resident_bytes: int = 0
    uptime_s: float = 0.0
    sockets: str = ""
    """What programs in the guest listen on, `0.0.0.0:8080 ::1:3000`; set by `happen`."""
    schema: int = 1


_FIELDS = set(SimulatedMachine._fields)


class Order(NamedTuple):
    """What is to happen on one trigger."""

    delay_s: float = 0.0
    error: str | None = None
    hang: bool = False
    until: str | None = None
    degraded: str | None = None

    @property
    def waits(self) -> bool:
        return self.until is not None and not os.path.lexists(self.until)


class Ran(NamedTuple):
    """A command that was run in a simulated guest."""

    instance: str
    argv: tuple[str, ...]
    stdin: bytes


COMMAND_NOT_FOUND = 127
"""The exit status of a shell that found no program. Source: POSIX, Shell Command Language, 2.8.2."""


class SimulatedDriver(Driver):
    """Runs machines that are records.

    `memory`: where they are kept by name; None: on disk, beside their spec. `orders`: what is to happen on each
    trigger; None: what INTERLOCK_SIMULATED says. `answers`: what guests say to a command.
    """

    name = "simulated"
    abilities = Abilities(
        arches=("x86_64", "aarch64"),
        images=False,
        shell=False,
        honours=frozenset(DEMANDS) - CLUSTERED,
        suspends=True,
        forks=True,
    )

    def __init__(
        self,
        orders: Mapping[str, Mapping[str, Any]] | None = None,
        memory: MutableMapping[str, SimulatedMachine] | None = None,
        answers: "Mapping[str, Answer] | None" = None,
    ) -> None:
        self.orders = orders
        self.memory = memory
        self.answers = {} if answers is None else answers
        self.ran: list[Ran] = []

    def create(self, site: Site, report: Report) -> None:
        report("making a simulated disk")
        self._obey("create", UNLIMITED)
        self._put(site, SimulatedMachine())

    def copy(self, site: Site, original: Site, report: Report, *, full: bool) -> None:
        report("copying the simulated disk" if full else "sharing the simulated disk")
        self._obey("copy", UNLIMITED)
        self._put(site, SimulatedMachine(boots=self._reached(original).boots))

    def grow(self, site: Site, report: Report) -> None:
        self._reached(site)
        report("growing the simulated disk")
        self._obey("grow", UNLIMITED)

    def catch(self, site: Site, report: Report, deadline: Deadline) -> None:
        machine = self._reached(site)
        if not machine.alive:
            raise DriverError(f"there is nothing to fork: {machine.exit_reason or 'it never ran'}")
        report("catching a moment of the simulated machine")
        self._obey("catch", deadline)
        write_whole(site.directory / FORKED, b"")

    def adopt(self, site: Site, original: Site, report: Report) -> None:
        report("sharing the simulated memory")
        self._obey("adopt", UNLIMITED)
        self._put(site, SimulatedMachine(boots=self._reached(original).boots))
        write_whole(site.directory / SAVED, read_own(original.directory / FORKED))

    def remount(self, site: Site) -> None:
        self._reached(site)
        self._obey("remount", UNLIMITED)

    def forward(self, site: Site, former: "Sequence[Forward]", report: Report) -> None:  # noqa: ARG002 - they are the spec's
        self._reached(site)
        report("forwarding simulated ports")
        self._obey("forward", UNLIMITED)

    def listening(self, site: Site, known: "Sockets | None", deadline: Deadline) -> "Sockets":
        while (machine := self._reached(site)).alive and not deadline.passed:
            pairs = (word.rpartition(":") for word in machine.sockets.split())
            if (found := frozenset((ip, int(port)) for ip, _, port in pairs)) != known:
                return found
            cancellation.pause(TICK_S)
        if not machine.alive:
            raise DriverError(f"the machine is down: {machine.exit_reason or 'it never ran'}")
        if known is None:
            raise DeadlineError("the simulated guest does not say what it listens on")
        return known

    def carry(self, site: Site, wanted: "Sequence[Forward]") -> tuple[OpenPort, ...]:
        """Record `wanted`. An order with an error stands for a port that is taken."""
        ports = tuple(OpenPort(way.guest_ip, way.guest_port, way.host_ip, way.host_port) for way in wanted)
        try:
            self._obey("carry", UNLIMITED)
        except DriverError as error:
            ports = tuple(port._replace(problem=error.message) for port in ports)
        write_whole(site.directory / PORTS, json.dumps(ports).encode())
        return ports

    def move(self, site: Site, new: Site, report: Report) -> None:
        self._reached(site)
        report("moving the simulated machine")
        self._obey("move", UNLIMITED)
        if self.memory is not None and site.name in self.memory:
            self.memory[new.name] = self.memory.pop(site.name)

    def start(
        self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True, cold: bool = False
    ) -> DegradedError | str | None:
        machine, saved, how = self._reached(site), is_saved(site.directory), None
        if saved and machine.alive:  # it was on its way out of its memory, or back from it, and did not run
            machine = machine._replace(alive=False)
            self._put(site, machine)
        if not (machine.alive or boot):
            raise DriverError(f"the machine is down: {machine.exit_reason or 'it never ran'}")
        if not machine.alive:
            resumes = saved and not cold
            if resumes:
                report("resuming the simulated guest")
            elif is_warm(site.directory) and not machine.boots:
                how = "booting cold, as asked" if cold else "starting from the simulated warm image"
                report(how)
            remove_tree(site.directory / SAVED)
            boots = machine.boots + (not resumes)
            machine = machine._replace(alive=True, boot_id=boot_id(), boots=boots, exit_reason=None, failed=False)
            self._put(site, machine)
        report("waiting for the simulated guest")
        self._obey("start", deadline)
        return self._degraded(site, "start") or how

    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        report("asking the simulated guest to shut down")
        try:
            self._obey("stop", deadline)
            reason = "guest shut down"
        except DeadlineError:
            reason = f"ended by force: the guest did not shut down in {deadline.seconds:g} s"
        return self._end(site, reason)

    def kill(self, site: Site, report: Report) -> None:
        report("ending the simulated machine")
        self._obey("kill", UNLIMITED)
        self._end(site, "killed")

    def suspend(self, site: Site, report: Report, deadline: Deadline) -> None:
        machine = self._reached(site)
        if not is_saved(site.directory):
            if not machine.alive:
                raise DriverError(f"there is nothing to suspend: {machine.exit_reason or 'it never ran'}")
            report("saving the simulated memory")
            self._obey("suspend", deadline)
            write_whole(site.directory / SAVED, b"")
        if machine.alive:
            self._put(site, machine._replace(alive=False, exit_reason=None))

    def keep(self, site: Site, place: Path, report: Report, deadline: Deadline) -> int:
        machine = self._reached(site)
        report("keeping the simulated memory and disk" if machine.alive else "keeping the simulated disk")
        self._obey("keep", deadline)
        write_whole(place / FILE, json.dumps(machine._asdict()).encode())
        if machine.alive:
            write_whole(place / SAVED, b"")
        return site.spec.memory_bytes if machine.alive else 0

    def examine(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:  # noqa: ARG002 - each of them fits
        report("checking the simulated snapshot")
        self._obey("examine", UNLIMITED)

    def put_back(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:
        machine = self._reached(site)
        report("putting the simulated disk back")
        self._obey("put_back", UNLIMITED)
        remove_tree(site.directory / SAVED)
        self._put(site, machine._replace(boots=_read(place / FILE).boots, exit_reason=None))
        if (place / SAVED).exists() and not cold:
            write_whole(site.directory / SAVED, b"")

    def reset(self, site: Site, report: Report) -> None:
        self._reached(site)
        report("making a fresh simulated disk")
        self._obey("reset", UNLIMITED)
        for name in (SAVED, CURRENT):
            remove_tree(site.directory / name)
        self._put(site, SimulatedMachine())

    def delete(self, site: Site, report: Report) -> None:
        self._reached(site)
        report("removing the simulated machine")
        self._obey("delete", UNLIMITED)
        if self.memory is not None:
            self.memory.pop(site.name, None)

    def resume(self, site: Site, report: Report) -> None:
        report("resuming the simulated guest")
        self._obey("resume", UNLIMITED)
        remove_tree(site.directory / SAVED)
        self._put(site, self._get(site)._replace(condition=None))

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:
        report("running the simulated scripts")
        self._obey("provision", deadline)
        return self._degraded(site, "provision")

    def migrate(
        self,
        site: Site,  # noqa: ARG002 - any other node is as good
        report: Report,
        deadline: Deadline,
        *,
        node: str | None = None,
        failover: bool = False,
    ) -> str:
        report("starting the simulated machine elsewhere" if failover else "moving the simulated machine")
        self._obey("migrate", deadline)
        return f"to {node or 'another node'}"

    def run(
        self, site: Site, command: Sequence[str], *, stdin: bytes | int = b"", timeout_s: float | None = None
    ) -> "Completed":
        from ..guest.command import Completed

        if isinstance(stdin, int):
            with open(stdin, "rb", closefd=False) as file:
                stdin = b"" if file.isatty() else file.read()

        self.ran.append(Ran(site.name, tuple(command), stdin))
        self._obey("run", Deadline(math.inf if timeout_s is None else timeout_s))
        line = shlex.join(command)
        answer = self.answers.get(line)
        if answer is None:
            return Completed(COMMAND_NOT_FOUND, stderr=f"the simulated guest has no answer to: {line}\n".encode())
        said = answer(stdin) if callable(answer) else answer
        return Completed(0, said.encode()) if isinstance(said, str) else said

    def observe(self, site: Site) -> Observation:
        machine = self._get(site)
        condition = machine.condition or ""
        words = condition.removeprefix(_DEGRADED)
        hidden = machine.alive and machine.hidden
        return Observation(
            machine.alive,
            condition=HIDDEN if hidden else machine.condition,
            degraded=DegradedError(words) if machine.alive and words != condition else None,
            resumable=machine.alive and condition.startswith("paused"),
            exit_reason=machine.exit_reason,
            failed=machine.failed and not machine.alive,
            usage=Usage(machine.cpu_s, machine.resident_bytes, machine.uptime_s)
            if machine.alive and not hidden
            else None,
            hidden=hidden,
            ports=_ports(site.directory) if machine.alive else (),
        )

    def foresee(self, site: Site, trigger: "Trigger", arguments: Mapping[str, Any]) -> Effects:
        match trigger:
            case "create" if self.memory is None:
                return Effects(appear=(FILE,))
            case "suspend":
                return Effects(appear=(SAVED,))
            case "start" if is_saved(site.directory):
                set_aside = arguments.get("cold")
                return Effects(vanish=(SAVED,), notes=() if set_aside else ("resuming the simulated guest",))
            case "restore" if not arguments.get("cold"):
                kept = place(site.directory, arguments["tag"]) / SAVED
                return Effects(appear=(SAVED,) if kept.exists() else ())
            case "reset":
                return Effects(vanish=tuple(it for it in (SAVED, CURRENT) if os.path.lexists(site.directory / it)))
        return Effects()

    def happen(self, site: Site, **changes: Any) -> None:
        """Let something happen to the machine behind Interlock's back: `alive=False, exit_reason="guest panicked"`."""
        self._put(site, self._get(site)._replace(**changes))

    def _degraded(self, site: Site, trigger: str) -> DegradedError | None:
        """Return what should fail in the guest, or None; `observe` reports the same from now on."""
        words = self._order(trigger).degraded
        machine = self._get(site)
        condition = f"{_DEGRADED}{words}" if words else None
        if condition or (machine.condition or "").startswith(_DEGRADED):
            self._put(site, machine._replace(condition=condition))
        return DegradedError(words) if words else None

    def _reached(self, site: Site) -> SimulatedMachine:
        """Return the machine's record; raise OutOfReachError when it lives and is hidden."""
        machine = self._get(site)
        if machine.alive and machine.hidden:
            raise OutOfReachError(f'the machine of "{site.name}" runs, but {HIDDEN}')
        return machine

    def _end(self, site: Site, reason: str) -> str:
        machine = self._reached(site)
        if machine.alive:
            machine = machine._replace(alive=False, exit_reason=reason)
            self._put(site, machine)
        return machine.exit_reason or "was not running"

    def _obey(self, trigger: str, deadline: Deadline) -> None:
        """Take as long as the order says, and fail if it says so."""
        order = self._order(trigger)
        end = time.monotonic() + order.delay_s
        while not deadline.passed and (order.hang or time.monotonic() < end or order.waits):
            cancellation.pause(TICK_S)
        if deadline.passed:
            raise DeadlineError(f"the simulated guest did not answer in {deadline.seconds:g} s")
        if order.error is not None:
            raise DriverError(order.error)

    def _order(self, trigger: str) -> "Order":
        """Return the order for `trigger`; raise UsageError if it is malformed."""
        try:
            orders = self.orders if self.orders is not None else json.loads(os.environ.get(VARIABLE) or "{}")
            order = Order(**orders.get(trigger, {}))
            error, until = order.error and str(order.error), order.until and str(order.until)
            return order._replace(delay_s=float(order.delay_s), error=error, until=until)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{VARIABLE}: {error}") from error

    def _get(self, site: Site) -> SimulatedMachine:
        """Return the machine's record; what ran in an earlier boot of the host does not run."""
        if self.memory is not None:
            machine = self.memory.get(site.name, SimulatedMachine())
        else:
            machine = _read(site.directory / FILE)
        if machine.alive and machine.boot_id != boot_id():
            return machine._replace(alive=False, exit_reason="host went down")
        return machine

    def _put(self, site: Site, machine: SimulatedMachine) -> None:
        if self.memory is not None:
            self.memory[site.name] = machine
        else:
            path = site.directory / FILE
            write_whole(path, json.dumps({**_unknown(path), **machine._asdict()}).encode())


def _read(path: Path) -> SimulatedMachine:
    """Return the record in `path`, of any version; a damaged one is a machine that is down, with the damage as reason.

    Raises DriverError for one that cannot be read.
    """
    try:
        data = json.loads(read_own(path))
        check_schema(data, SimulatedMachine().schema, path)
        return _checked(SimulatedMachine(**{name: value for name, value in data.items() if name in _FIELDS}))
    except TooNewError as error:
        raise DriverError(error.message, hint=error.hint) from error
    except FileNotFoundError:
        return SimulatedMachine()
    except OSError as error:
        if not isinstance(error, UnfitFileError):
            raise DriverError(f"{path}: {error.strerror}") from error
        return SimulatedMachine(exit_reason=f"{path}: {error.strerror}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return SimulatedMachine(exit_reason=f"{path}: {error}")


def _ports(directory: Path) -> tuple[OpenPort, ...]:
    """Return what `carry` recorded in `directory`; an empty tuple if it recorded nothing."""
    try:
        return tuple(OpenPort(*port) for port in json.loads(read_own(directory / PORTS)))
    except (OSError, ValueError, TypeError, RecursionError):
        return ()


def _unknown(path: Path) -> dict[str, Any]:
    """Return the fields of the record in `path` that a newer version wrote: they are kept."""
    try:
        return {name: value for name, value in json.loads(read_own(path)).items() if name not in _FIELDS}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


@cache
def _kinds() -> Mapping[str, Any]:
    """Return what each field of a `SimulatedMachine` can hold."""
    return get_type_hints(SimulatedMachine)


def _checked(machine: SimulatedMachine) -> SimulatedMachine:
    """Return `machine`; raise TypeError if a field has a value of another type."""
    for name, kind in _kinds().items():
        if not isinstance(getattr(machine, name), kind):
            raise TypeError(name)
    return machine
