"""The engine: fires transitions on the instances of one home, and says what is known of them.

    status, statuses, history, verdicts     read; take no lock, wait for nobody
    create, fire                            write; hold the instance's lock, settle what others left, then move it

The order inside a write is always the same: lock, settle, ask the table, intent, work, outcome, unlock.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import (
    BusyError,
    CancelledError,
    DamagedError,
    DeadlineError,
    DriverError,
    InterlockError,
    NotFoundError,
    TooNewError,
    UnreadableError,
    UsageError,
)
from ..host import cancellation
from ..host.files import remove_tree, retire
from ..host.home import NAME, Home
from ..host.life import holder
from ..host.locks import Lock
from ..host.process import alive, suspended, wake
from . import refusals, words
from .events import Announce, Event, Happening, quiet
from .journal import Entry, Journal, Line, Phase
from .port import Deadline, Plan, Port, Site
from .records import PROTECTED_FILE, Observation, Operation, Status, checked_name
from .repair import Mending, mend, repairable
from .spec import UNREADABLE, Spec
from .states import State
from .table import BY_PAIR, BY_TRIGGER, TABLE, Trigger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .instance import Instance, Ports

HANDOVER_S = 2.0
"""How long a lock may be held without an operation to be seen: the time between lock and intent, or a settling."""

CALL_OFF_S = 30.0
"""How long an operation that was called off may take to come to its end: time to end a guest."""

POLL_S = 0.02
"""How often a waiter looks. flock(2) has no deadline, and a blocked waiter could not relay the steps."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request."""

    instance: str
    trigger: Trigger
    state: State
    changed: bool
    """False when what was asked for was already so, or another process did it meanwhile."""
    detail: str | None = None
    elapsed_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `start --format json` prints."""
        return {
            "name": self.instance,
            "trigger": self.trigger,
            "state": self.state,
            "changed": self.changed,
            "detail": self.detail,
            "elapsed_s": round(self.elapsed_s, 3),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the table says about one trigger in one state: an answer of `interlock can`."""

    instance: str
    trigger: Trigger
    state: State
    legal: bool
    holds: bool
    """True when it would succeed without doing anything."""
    why: str
    hint: str | None
    """The command to type; None when there is nothing to do."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock can --format json`."""
        return {
            "name": self.instance,
            "trigger": self.trigger,
            "state": self.state,
            "legal": self.legal,
            "holds": self.holds,
            "why": self.why,
            "hint": self.hint,
        }


class Engine:
    """The lifecycle of every instance in `home`. Safe to use from several threads and processes at once."""

    def __init__(self, home: Home, ports: "Ports", announce: Announce = quiet) -> None:
        self.home = home
        self._ports = ports
        self._announce = announce

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names that have something on disk, sorted: instances, and those on their way in or out."""
        found: set[str] = set()
        instances = self.home.instances
        for folder in (instances, instances / ".creating", instances / ".deleting", self.home.root / "locks"):
            with suppress(FileNotFoundError):
                found.update(entry.name for entry in folder.iterdir() if NAME.fullmatch(entry.name))
        return sorted(found)

    def statuses(self) -> Iterator[Status]:
        """Yield the status of every instance, by name; a damaged one is one of them and disturbs no other."""
        for name in self.names():
            status = self.status(name)
            if status.exists:
                yield status

    def status(self, name: str) -> Status:
        """Return all that is known of `name`, an absent one too. Never waits; records what is plainly over.

        When the journal and the world disagree and nobody is at work, the difference is settled first (an exit is
        recorded, a dead process's leftovers are removed), unless that would need waiting for a guest.
        """
        checked_name(name)
        with self._border(name):
            return self._settled(name)

    def history(self, name: str) -> Iterator[Entry]:
        """Yield the journal of `name`, oldest line first; raises NotFoundError, DamagedError."""
        with self._border(name):
            self._existing(name)
            yield from Journal(self.home.directory(name)).lines()

    def verdicts(self, name: str) -> list[Verdict]:
        """Return what the table says about each trigger that can be asked for, in the state `name` is in now.

        Raises DamagedError where no state can be told.
        """
        status = self.status(name)
        if status.damage:
            with self._border(name):
                self.site(name)  # which says it with a hint of its own, where it is the spec
                Journal(self.home.directory(name)).present()
                raise DamagedError(status.damage)
        return [verdict(status, row.trigger) for row in TABLE if not row.observed]

    def site(self, name: str) -> Site:
        """Return where the existing instance `name` lies; raises NotFoundError, DamagedError."""
        directory = self.home.directory(name)
        with self._border(name):
            self._existing(name)
            return Site(name, directory, self.home.sockets(name), Spec.read(directory))

    def not_found(self, name: str, trigger: Trigger | None = None) -> NotFoundError:
        """Return the error for the absent `name`; who mistyped the name of an instance and wants `trigger` reads how.

        The hint is for the instance of the nearest name, else it lists what there is, or makes the first instance.
        """
        from difflib import get_close_matches

        names = [other for other in self.names() if other != name]
        for meant in get_close_matches(name, names, n=1):
            answer = trigger and verdict(self.status(meant), trigger)
            useful = answer and not answer.holds and not BY_TRIGGER[answer.trigger].guarded
            way = answer.hint if answer and useful else words.look(meant)
            return NotFoundError(f'{words.missing(name)}; did you mean "{meant}"?', hint=way)
        return NotFoundError(words.missing(name), hint=words.LIST if names else words.first(name))

    def way_out(self, name: str) -> str:
        """Return the command to type when `name` is damaged: to repair it where that helps, else to remove it."""
        directory = self.home.directory(name)
        return words.repair(name) if repairable(directory) else words.remove(name, protected=_protected(directory))

    def port(self, site: Site) -> Port:
        """Return the driver that `site` names."""
        return self._ports(site.spec.driver)

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, name: str, plan: Plan, *, if_absent: bool = False) -> Outcome:
        """Bring `name` from absent to created by carrying out `plan`; when this raises, nothing of it is left.

        `if_absent`: one that exists is as good, and one that another process is creating is waited for.
        """
        try:
            return self._request(name, Trigger.create, exists_is_fine=if_absent, plan=plan)
        except BusyError:
            if not (if_absent and self.home.exists(name)):
                raise
            return Outcome(name, Trigger.create, self._read(name).state, changed=False)  # its maker goes on with it

    def fire(self, name: str, trigger: Trigger, *, force: bool = False, **arguments: Any) -> Outcome:
        """Carry out `trigger` on the instance `name`, or find that what it asks for is already so.

        `arguments`: `timeout_s` for start, stop and provision (default: the spec's), `keep_on_failure` for start
        (default False: a guest that did not answer in time is ended). `force` ends a process that is suspended in the
        middle of work on `name`; what it was at is then settled by its row's rule. Raises IllegalTransitionError,
        NotFoundError, BusyError, and whatever the work raises; the state has not moved then. DegradedError alone says
        that it has.
        """
        if BY_TRIGGER[trigger].observed:
            raise UsageError(f"{trigger} is observed, not asked for")
        timeout_s = arguments.get("timeout_s")
        if timeout_s is not None and not timeout_s >= 0:  # NaN is not
            raise UsageError(f"a timeout of {timeout_s} s is none")
        return self._request(name, trigger, force=force, **arguments)

    def discard(self, name: str) -> Outcome:
        """Remove the damaged instance `name`, of which no state can be told; ends only a process proved to be its own.

        Every driver that could have made it is asked to end and remove what it finds; raises what they raise.
        """
        checked_name(name)
        began = time.monotonic()
        with self._border(name), self._claimed(name, Trigger.delete, force=True):
            self._refuse_if_protected(name, Trigger.delete, force=True)
            site = Site(name, self.home.directory(name), self.home.sockets(name), UNREADABLE)
            # Where this host is short of something, both raise HostError, and nothing is known to be damaged.
            with suppress(DamagedError, UnreadableError):
                Journal(site.directory).last()
            with suppress(DamagedError, UnreadableError):
                site = self.site(name)
            for driver in self._candidates(site) if _is_own(site.directory) else ():
                if driver.observe(site).hidden:
                    raise refusals.out_of_reach(name, Trigger.delete)
                driver.kill(site, lambda _: None)
                driver.delete(site, lambda _: None)
            self._clear_away(site)
        took_s, detail = time.monotonic() - began, "it was damaged"
        self._announce(Event(Happening.done, name, Trigger.delete, State.absent, elapsed_s=took_s, detail=detail))
        return Outcome(name, Trigger.delete, State.absent, changed=True, detail=detail, elapsed_s=took_s)

    def _clear_away(self, site: Site) -> None:
        """Remove all that `site` has; raise DriverError naming what stayed, once everything else is gone."""
        try:
            try:
                retire(site.directory, self.home.deleting(site.name))
            except OSError:  # it cannot be moved: what is in it can be removed all the same
                remove_tree(site.directory)
        finally:
            remove_tree(site.runtime)

    def repair(self, name: str) -> Mending:
        """Mend what can be of `name`, and settle what the world did meanwhile; no state is set that nothing tells.

        Raises DamagedError with the way out where no state can be told.
        """
        checked_name(name)
        with self._border(name):
            self.home.prepare()
            lock, patience = Lock(self.home.lock(name)), Deadline(HANDOVER_S)
            while not lock.acquire():
                if patience.passed:
                    raise refusals.busy(name, "repair", self._read(name).operation)
                cancellation.pause(POLL_S)
            with self._released(lock, name):
                self._existing(name)  # asked under the lock: a delete may have held it
                mended = tuple(mend(self.home.directory(name)))
                instance = self._open(name, lock)
                instance.settle()
                return Mending(name, instance.state, mended)

    def unprotect_damaged(self, name: str) -> Outcome:
        """Take the protection of the damaged instance `name` back: its journal cannot record it any more."""
        checked_name(name)
        with self._border(name), self._claimed(name, Trigger.unprotect):
            self._existing(name)
            remove_tree(self.home.directory(name) / PROTECTED_FILE)
        return Outcome(name, Trigger.unprotect, self._read(name).state, changed=True, detail="it is damaged")

    def _request(
        self, name: str, trigger: Trigger, *, force: bool = False, exists_is_fine: bool = False, **arguments: Any
    ) -> Outcome:
        from .machine import fire  # `list` and `inspect` need no state machine

        checked_name(name)
        began = time.monotonic()
        timeout_s = arguments.get("timeout_s")
        if timeout_s is not None:
            arguments["since"] = began
        claimed = self._claimed(name, trigger, timeout_s, force=force, joins=exists_is_fine)
        with self._border(name), claimed as (lock, joined):
            instance = self._open(name, lock)
            if joined:
                self._share_failure(instance, joined, timeout_s, time.monotonic() - began)
            finished = instance.settle(wanted=trigger, **arguments)
            exists = exists_is_fine and instance.state is not State.absent
            holds = not finished and (exists or instance.holds(BY_TRIGGER[trigger]))
            legal = not finished and not holds and (trigger, instance.state) in BY_PAIR
            if legal and trigger is Trigger.create and "plan" not in arguments:
                raise UsageError(f"{trigger} needs a plan")
            if legal and BY_TRIGGER[trigger].guarded:
                self._refuse_if_protected(name, trigger)
            if legal:
                fire(instance, trigger, **arguments)
            elif exists:
                pass  # what another process has announced
            elif holds:
                self._announce(Event(Happening.holds, name, trigger, instance.state))
            elif not finished:
                raise self._refusal(name, instance.state, trigger)
            changed = legal or finished
            if instance.shortfall and (changed or BY_TRIGGER[trigger].dest is instance.state):
                raise instance.shortfall
            detail = instance.last.detail if instance.last and changed else None
            return Outcome(name, trigger, instance.state, changed, detail, time.monotonic() - began)

    def _refusal(self, name: str, state: State, trigger: Trigger) -> InterlockError:
        if state is State.absent:
            return self.not_found(name, trigger)
        return refusals.illegal(name, state, trigger, protected=_protected(self.home.directory(name)))

    def _refuse_if_protected(self, name: str, trigger: Trigger, *, force: bool = False) -> None:
        if _protected(self.home.directory(name)):
            raise refusals.protected(name, trigger, force=force)

    @contextmanager
    def _claimed(
        self, name: str, trigger: Trigger, timeout_s: float | None = None, *, force: bool = False, joins: bool = False
    ) -> Iterator[tuple[Lock, Operation | None]]:
        """Hold the lock of `name`; yield it, with what was waited for if that was the same work as ours."""
        self.home.prepare()
        lock = Lock(self.home.lock(name))
        joined = self._acquire(lock, name, trigger, timeout_s, force=force, joins=joins)
        with self._released(lock, name):
            yield lock, joined

    @contextmanager
    def _released(self, lock: Lock, name: str) -> Iterator[None]:
        """Give `lock` back at the end; without an instance, its file goes too."""
        try:
            yield
        finally:
            lock.release(forget=not os.path.lexists(self.home.directory(name)))

    def _acquire(
        self, lock: Lock, name: str, trigger: Trigger, timeout_s: float | None, *, force: bool, joins: bool
    ) -> Operation | None:
        """Take the lock; return the operation that was waited for, if it was the same as ours.

        Whoever has it is waited for when it is at the same work, called off when its row yields to ours, and otherwise
        left alone: then BusyError says who it is. A process that is suspended is woken to be called off; where its row
        does not yield, `force` ends it. Raises DeadlineError when `timeout_s` ends before the other's work.
        """
        row, own = BY_TRIGGER[trigger], Deadline(math.inf if timeout_s is None else timeout_s)
        joined = called_off = told = None
        patience = Deadline(HANDOVER_S)
        cancellation.check()
        while not lock.acquire():
            operation = None
            with suppress(DamagedError):
                operation = self._read(name).operation
            if operation is None or operation.interrupted or called_off:
                if patience.passed:
                    self._end_suspended(lock, name, trigger, operation if called_off else None, force=force)
                    patience = Deadline(CALL_OFF_S)
            elif _calls_off(trigger, operation, force=force):
                self._announce_other(Happening.preempted, name, trigger, operation)
                lock.ask_to_let_go(operation.actor, f"{trigger} (pid {os.getpid()})")
                if operation.suspended:
                    wake(operation.actor, and_end=trigger not in BY_TRIGGER[operation.trigger].yields_to)
                called_off, patience = operation, Deadline(CALL_OFF_S)
            elif operation.trigger is trigger and (joins or row.dest in row.holds):
                if own.passed:
                    raise refusals.still_busy(name, trigger, operation, own.seconds)
                if joined is None:
                    self._announce_other(Happening.joined, name, trigger, operation)
                if operation.suspended and told is None:
                    self._announce_other(Happening.suspended, name, trigger, operation)
                    told = operation
                joined, patience = operation, Deadline(HANDOVER_S)
            else:
                raise refusals.busy(name, trigger, operation)
            cancellation.pause(POLL_S)
        return None if called_off else joined

    def _end_suspended(
        self, lock: Lock, name: str, trigger: Trigger, operation: Operation | None, *, force: bool
    ) -> None:
        """End the process that holds `lock` if it is suspended and `force` is asked for; else raise BusyError."""
        by = holder(lock.path)
        if not (force and by and suspended(by)):
            raise refusals.busy(name, trigger, operation, by)
        wake(by, and_end=True)

    def _announce_other(self, happening: Happening, name: str, trigger: Trigger, other: Operation) -> None:
        event = Event(happening, name, trigger, other.source, detail=str(other.trigger), pid=other.actor.pid)
        self._announce(event)

    def _share_failure(self, instance: "Instance", joined: Operation, timeout_s: float | None, waited_s: float) -> None:
        """Raise the error of the operation that was waited for, if that is what came of it.

        That the other was called off, or had less time than is left to us, is no reason for us to fail.
        """
        line = instance.last
        if not line or line.phase not in (Phase.failed, Phase.done) or line.actor.pid != joined.actor.pid:
            return
        if line.error:
            error = InterlockError.from_record(line.error)
            own_s = instance.timeout_s(joined.trigger, timeout_s)
            more_time = own_s is not None and own_s - waited_s > (line.elapsed_s or 0.0)
            if not isinstance(error, CancelledError) and not (isinstance(error, DeadlineError) and more_time):
                raise error

    @contextmanager
    def _border(self, name: str) -> Iterator[None]:
        """Let only errors of ours pass, and give one about the files of `name` the command that leads out of it."""
        try:
            yield
        except OSError as error:
            from .instance import as_error

            raise as_error(error) from error
        except DamagedError as error:
            error.hint = error.hint or self.way_out(name)
            raise
        except UnreadableError as error:
            error.hint = error.hint or words.repair(name)
            raise

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _open(self, name: str, lock: Lock) -> "Instance":
        from .instance import Instance

        return Instance(self.home, name, lock, self._ports, self._announce)

    def _settled(self, name: str) -> Status:
        status = self._read(name)
        if status.damage or not self._needs_settling(status):
            return status
        with suppress(InterlockError, OSError):
            lock = Lock(self.home.lock(name))
            if lock.acquire():
                with self._released(lock, name):
                    with suppress(InterlockError, OSError):
                        self._open(name, lock).settle(patient=False)
                    status = self._read(name)
                    if status.operation:  # nobody is at it: whoever was has no lock, and need not be dead for that
                        return replace(status, operation=replace(status.operation, interrupted=True))
                    return status
        return self._read(name)

    def _read(self, name: str) -> Status:
        """Return what journal, spec and driver say of `name` at this moment."""
        directory = self.home.directory(name)
        line, before = None, _version(directory)
        try:
            self.home.exists(name)
            line = Journal(directory).present()
            spec = Spec.read(directory)
        except (DamagedError, DriverError) as error:
            if _version(directory) != before:  # on its way in or out while it was read: that is no damage
                return self._read(name)
            if before is None:
                return self._read_absent(name)
            state = line.state if line else State.absent
            return Status(
                name,
                state,
                directory,
                damage=error.message,
                newer=isinstance(error, TooNewError),
                unreadable=isinstance(error, DriverError),
                protected=_protected(directory),
            )
        status = Status(
            name,
            line.state,
            directory,
            operation=operation(line),
            spec=spec,
            reason=line.reason,
            protected=_protected(directory),
            changed_at=line.time,
        )
        if status.state is not State.running and status.operation is None:
            return status  # at rest there is nothing to see that the journal does not say
        try:
            port = self._ports(spec.driver)
        except InterlockError as error:
            return replace(status, damage=error.message)
        site = Site(name, directory, self.home.sockets(name), spec)
        return replace(status, observation=_observed(port, site))

    def _read_absent(self, name: str) -> Status:
        """Return the status of a name without a directory: somebody may be creating it."""
        staging = self.home.creating(name)
        with suppress(DamagedError, DriverError):
            line = Journal(staging).last()
            return Status(name, State.absent, staging, operation=operation(line, outcome_counts=False))
        if self.home.directory(name).exists():  # created between the two looks
            return self._read(name)
        return Status(name, State.absent, self.home.directory(name))

    def _needs_settling(self, status: Status) -> bool:
        """True when the journal and the world disagree, unless somebody is at work: that the lock tells."""
        if status.operation:
            return True
        if status.state is State.absent:
            home, name = self.home, status.name
            leftovers = (status.directory, home.creating(name), home.deleting(name), home.lock(name))
            return any(os.path.lexists(path) for path in leftovers)
        return status.observation is not None and status.observation.alive is False

    def _existing(self, name: str) -> None:
        checked_name(name)
        if not self.home.exists(name):
            raise self.not_found(name)

    def _candidates(self, site: Site) -> list[Port]:
        """Return the drivers that could have made what lies at `site`: the one that its spec names, else all."""
        if site.spec is not UNREADABLE:
            with suppress(InterlockError):  # the damage may be that it names none
                return [self._ports(site.spec.driver)]
        from .instance import candidates

        return list(candidates(self._ports))


def _observed(port: Port, site: Site) -> Observation:
    """Return what `port` sees of the machine at `site`; where it cannot tell, that and why."""
    try:
        return port.observe(site)
    except (InterlockError, OSError) as error:
        from .instance import as_error

        return Observation(alive=None, condition=words.untold(as_error(error).message))


def _calls_off(trigger: Trigger, operation: Operation, *, force: bool) -> bool:
    """True when `operation` is to end for the sake of `trigger`: by its row, or because its process is suspended."""
    return trigger in BY_TRIGGER[operation.trigger].yields_to or (operation.suspended and force)


def _protected(directory: Path) -> bool:
    # Called for each instance by `list`. A link in the place of a directory is not followed.
    return os.path.lexists(f"{directory}/{PROTECTED_FILE}") and not directory.is_symlink()


def _is_own(directory: Path) -> bool:
    """True for a directory, False for a file or a link in its place: no machine that it leads to is ours to end."""
    return directory.is_dir() and not directory.is_symlink()


def _version(directory: Path) -> tuple[int, int] | None:
    """Return what changes when `directory` or the names in it do; None when there is none."""
    try:
        seen = os.lstat(directory)
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_ctime_ns


def verdict(status: Status, trigger: Trigger) -> Verdict:
    """Return what the table says about `trigger` for an instance of this status."""
    row, name, state = BY_TRIGGER[trigger], status.name, status.state
    holds = row.already(state, status.observation)
    legal = state in row.sources and not holds
    if error := _refused(status, trigger):
        return Verdict(name, trigger, state, legal=False, holds=False, why=error.message, hint=error.hint)
    if legal:
        why = row.why
    elif holds:
        why = words.sentence(Event(Happening.holds, name, trigger, state))
    elif state is State.absent:
        why = words.missing(name)
    else:
        why = words.refusal(name, state, trigger)
    hint = None if holds else words.way(name, state, trigger, protected=status.protected)
    return Verdict(name, trigger, state, legal, holds, why, hint)


def _refused(status: Status, trigger: Trigger) -> InterlockError | None:
    """Return why `trigger` is refused although the state would allow it; None when it is not."""
    row, name = BY_TRIGGER[trigger], status.name
    if status.observation and status.observation.hidden:
        return refusals.out_of_reach(name, trigger)
    if row.guarded and status.protected and status.state in row.sources:
        return refusals.protected(name, trigger)
    return None


def operation(line: Line, *, outcome_counts: bool = True) -> Operation | None:
    """Return the operation that `line` leaves in flight, None when it is an outcome.

    While an instance is being created its last line may already be the outcome: the name does not mean anything before
    the rename, so there (`outcome_counts` False) it is in flight all the same.
    """
    if outcome_counts and not line.in_flight:
        return None
    return Operation(
        trigger=line.trigger,
        source=line.source,
        step=line.step or "",
        since=line.since,
        step_since=line.time,
        deadline=line.deadline,
        actor=line.actor,
        interrupted=line.phase is Phase.left or not alive(line.actor),
        suspended=suspended(line.actor),
    )
