"""The request path: how a transition is carried out on an instance of one home.

    status, statuses, verdicts, admit       read (`status.Reader`) and settle what has ended; never wait
    create, fire                            write: hold the instance's lock, settle what others left, then move it

The order of a write is always the same: lock, settle, ask the state machine, intent, work, outcome, unlock.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    BusyError,
    CancelledError,
    DamagedError,
    DeadlineError,
    HostError,
    IllegalTransitionError,
    InterlockError,
    UsageError,
)
from ..host import cancellation
from ..host.home import Home
from ..host.life import holder
from ..host.locks import Lock
from ..host.process import suspended, wake
from . import refusals
from .damage import TREATMENT, Damaged
from .events import Announce, Event, quiet
from .happening import Happening
from .journal import Journal, Phase
from .looks import Looks, hurried, shared
from .port import Deadline, Plan, Ports, Site
from .records import Operation, Status, Step, checked_name, is_protected
from .states import State
from .status import Reader, Verdict, decision, verdict
from .table import BOOTS, BY_TRIGGER, TABLE, By, Decision, Row, Trigger

if TYPE_CHECKING:
    from .instance import Instance

HANDOVER_S = 2.0
"""How long a lock may be held while no operation is visible: between lock and intent, or while something is settled."""

CALL_OFF_S = 30.0
"""How long an operation that was called off may take to end: enough time to end a guest."""

POLL_S = 0.02
"""How often a waiter tries to take the lock. flock(2) has no deadline, and a blocked waiter could not call work off."""


class Outcome(NamedTuple):
    """The result of a request."""

    instance: str
    trigger: Trigger
    state: State
    changed: bool
    """False if the goal of the request was already met, or another process met it in the meantime."""
    detail: str | None = None
    elapsed_s: float = 0.0
    mended: tuple[str, ...] = ()
    """Descriptions of what a repair has fixed; empty if there was nothing to fix."""
    message: str = ""
    """After a start: the message of the template's author to the users of the machine."""
    steps: tuple[Step, ...] | None = None
    """In a dry run: the transitions that would take place. Nothing has been done; `state` is the state after them."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `start --format json` prints."""
        foreseen = {} if self.steps is None else {"steps": [step.to_json() for step in self.steps]}
        return {
            "name": self.instance,
            "trigger": self.trigger,
            "state": self.state,
            "changed": self.changed,
            "detail": self.detail,
            "elapsed_s": round(self.elapsed_s, 3),
            **foreseen,
        }


class Engine(Reader):
    """The lifecycle of every instance in `home`. Safe to use from several threads and processes at once."""

    def __init__(self, home: Home, ports: Ports, announce: Announce = quiet, wait_s: float = 0.0) -> None:
        """Work on the instances in `home`; wait up to `wait_s` seconds for one that another process works on."""
        super().__init__(home, ports)
        self._announce, self._wait_s = announce, wait_s

    # -- reading ---------------------------------------------------------------------------------------------------

    def statuses(self) -> Iterator[Status]:
        """Yield the status of every instance, sorted by name; damaged instances are included and affect no others."""
        looks: Looks = {}
        for name in self.names():
            with shared(looks):
                status = self.status(name)
            if status.exists:
                yield status

    def status(self, name: str) -> Status:
        """Return all that is known about `name`, even if it is absent. Never waits; records what has ended.

        If the journal and the world disagree and no process works on the instance, the difference is settled first (an
        exit is recorded, leftovers of a dead process are removed), unless that would mean waiting for a guest.
        """
        checked_name(name)
        with self._border(name):
            return self._settled(name)

    def verdicts(self, name: str) -> list[Verdict]:
        """Return what the table says about each trigger that can be requested, in the current state of `name`.

        Raises DamagedError if the state cannot be read from the files.
        """
        status = self._understood(name)
        return [verdict(status, row.trigger) for row in TABLE if not row.observed]

    def admit(self, name: str, trigger: Trigger) -> Site:
        """Return the site of `name` if `trigger`, whose work the caller does, is legal; else raise the refusal."""
        status = self._understood(name)
        decided = decision(status, BY_TRIGGER[trigger])
        if decided is not Decision.legal:
            if status.state is State.absent:
                raise self.not_found(name, trigger)
            raise refusals.refused(decided, name, status.state, trigger, protected=status.protected)
        return self.site(name)

    def _understood(self, name: str) -> Status:
        """Return the status of `name`; raises DamagedError if the state cannot be read from the files."""
        status = self.status(name)
        if status.damage:
            with self._border(name):
                self.site(name)  # if the damage is in the spec, this raises an error with its own hint
                Journal(self.home.directory(name)).present()
                raise DamagedError(status.damage)
        return status

    # -- writing ---------------------------------------------------------------------------------------------------

    def create(self, name: str, plan: Plan, *, if_absent: bool = False) -> Outcome:
        """Move `name` from absent to created by carrying out `plan`; if this raises, nothing of it is left.

        `if_absent`: do nothing if the instance exists, and wait if another process is creating it.
        """
        try:
            return self._request(name, Trigger.create, exists_is_fine=if_absent, plan=plan)
        except BusyError:
            if not (if_absent and self.home.exists(name)):
                raise
            return Outcome(
                name, Trigger.create, self._read(name).state, changed=False
            )  # the process that created it is still working on it

    def fire(self, name: str, trigger: Trigger, *, force: bool = False, **arguments: Any) -> Outcome:
        """Carry out `trigger` on the instance `name`, or find that its goal is already met.

        `arguments` are those that its row takes: `timeout_s` (default: the spec's), `keep_on_failure` (default False: a
        guest that did not answer in time is ended), `restart` (the number of a restart after a failure, see `restarts`;
        nothing is done unless that restart is due). `force` ends a suspended process that holds the lock of `name`,
        whose work is then settled by the rule of its row; it also removes a damaged instance. Raises
        IllegalTransitionError, NotFoundError, BusyError, and whatever the work raises. The state has not moved then,
        except after a DegradedError.
        """
        row = _asked(trigger, arguments)
        treated = row.on_damage is not None and (force or not row.guarded)
        if treated and (not row.recorded or self.read(name).damage):
            return self._treat(name, row, force=force)
        try:
            return self._request(name, trigger, force=force, **arguments)
        except HostError:  # its driver is no longer installed, for example
            if not (treated and force):
                raise
            return self._treat(name, row, force=force)

    def _request(
        self, name: str, trigger: Trigger, *, force: bool = False, exists_is_fine: bool = False, **arguments: Any
    ) -> Outcome:
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
            restart = arguments.get("restart")
            overtaken = bool(restart) and instance.restart_due() != restart  # others were faster
            instance.moved = finished
            if not (finished or exists or overtaken):  # the process that created it has announced that
                try:
                    with self._with_new(name, trigger, arguments) as given:
                        instance.fire(trigger, **given)
                except IllegalTransitionError:
                    if instance.state is State.absent:
                        raise self.not_found(name, trigger) from None
                    raise
            changed = instance.moved
            if instance.shortfall and (changed or BY_TRIGGER[trigger].dest is instance.state):
                raise instance.shortfall
            detail = instance.last.detail if instance.last and changed else None
            message = instance.site.spec.message if changed and BY_TRIGGER[trigger] is BOOTS else ""
            took_s = time.monotonic() - began
            return Outcome(instance.name, trigger, instance.state, changed, detail, took_s, message=message)

    @contextmanager
    def _with_new(self, name: str, trigger: Trigger, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `arguments` with each name in `new` replaced by its absent instance, and hold the locks of those."""
        new = arguments.get("new")
        if new is None:
            yield arguments
            return
        with ExitStack() as held:
            if isinstance(new, str):
                instances: Any = held.enter_context(self._absent(new, name, trigger))
            else:
                instances = [held.enter_context(self._absent(one, name, trigger)) for one in distinct(new)]
            yield {**arguments, "new": instances}

    @contextmanager
    def _absent(self, new: str, name: str, trigger: Trigger) -> Iterator["Instance"]:
        """Yield the absent instance `new`, which `trigger` of `name` is to create, and hold its lock.

        The holder of that lock may be waiting for our lock, so this waits only as long as a reader may hold it.
        """
        checked_name(new)
        if new == name:
            raise refusals.taken(new, trigger)
        lock, patience = Lock(self.home.lock(new)), Deadline(HANDOVER_S)
        while not lock.acquire():
            if patience.passed:
                raise refusals.busy(new, trigger, self._read(new).operation, holder(lock.path))
            cancellation.pause(POLL_S)
        with self._released(lock, new):
            with self._border(new):
                other = self._open(new, lock)
                other.settle()
            if other.state is not State.absent:
                raise refusals.taken(new, trigger)
            yield other

    def _treat(self, name: str, row: Row, *, force: bool) -> Outcome:
        """Carry out `row` on an instance whose files cannot be understood, so without an entry in its journal."""
        checked_name(name)
        began = time.monotonic()
        with self._border(name), self._claimed(name, row.trigger, force=force) as (lock, _):
            directory = self.home.directory(name)
            if not row.vanishes:
                self._existing(name)  # checked under the lock, because its last holder may have deleted the instance
            if row.guarded and is_protected(directory):
                raise refusals.guarded(name, row.trigger, force=force)
            done = tuple(TREATMENT[row.trigger](Damaged(self.home, name, self.ports)))
            if not row.recorded:  # the repaired instance is settled as after a crash
                self._open(name, lock).settle()
            state = self._read(name).state
        took_s = time.monotonic() - began
        if not row.recorded:
            return Outcome(name, row.trigger, state, bool(done), elapsed_s=took_s, mended=done)
        if row.vanishes:
            self._announce(Event(Happening.done, name, row.trigger, state, elapsed_s=took_s, detail=done[0]))
        return Outcome(name, row.trigger, state, changed=True, detail=done[0], elapsed_s=took_s)

    @contextmanager
    def _claimed(
        self, name: str, trigger: Trigger, timeout_s: float | None = None, *, force: bool = False, joins: bool = False
    ) -> Iterator[tuple[Lock, Operation | None]]:
        """Hold the lock of `name`; yield it, and the operation that was waited for if it did the same work as ours."""
        self.home.prepare()
        lock = Lock(self.home.lock(name))
        joined = self._acquire(lock, name, trigger, timeout_s, force=force, joins=joins)
        with self._released(lock, name):
            yield lock, joined

    @contextmanager
    def _released(self, lock: Lock, name: str) -> Iterator[None]:
        """Release `lock` at the end; if there is no instance, remove the lock's file too."""
        try:
            yield
        finally:
            lock.release(forget=not os.path.lexists(self.home.directory(name)))

    def _acquire(
        self, lock: Lock, name: str, trigger: Trigger, timeout_s: float | None, *, force: bool, joins: bool
    ) -> Operation | None:
        """Take the lock; return the operation that was waited for, if it did the same work as ours.

        If another process holds the lock, what happens depends on its work. The same work is waited for; work whose row
        yields to ours is called off; any other is left alone, and after the engine's `wait_s` a BusyError names the
        process. A suspended process is woken to be called off; if its row does not yield, `force` ends it. Raises
        DeadlineError if `timeout_s` passes before the other process has ended its work.
        """
        row, own = BY_TRIGGER[trigger], Deadline(math.inf if timeout_s is None else timeout_s)
        joined = called_off = announced = None
        patience, others = Deadline(HANDOVER_S), Deadline(self._wait_s)
        cancellation.check()
        while not lock.acquire():
            operation = None
            with suppress(DamagedError):
                operation = self._read(name).operation
            if operation is None or operation.interrupted or called_off:
                if patience.passed:
                    self._end_suspended(lock, name, trigger, operation if called_off else None, force=force)
                    patience = Deadline(CALL_OFF_S)
            elif calls_off(trigger, operation, force=force):
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
                if operation.suspended and announced is None:
                    self._announce_other(Happening.suspended, name, trigger, operation)
                    announced = operation
                joined, patience = operation, Deadline(HANDOVER_S)
            else:
                patience = _patience(others, refusals.busy(name, trigger, operation))
            cancellation.pause(POLL_S)
        return None if called_off else joined

    def _end_suspended(
        self, lock: Lock, name: str, trigger: Trigger, operation: Operation | None, *, force: bool
    ) -> None:
        """End the process that holds `lock` if it is suspended and `force` is set; else raise BusyError."""
        by = holder(lock.path)
        if not (force and by and suspended(by)):
            raise refusals.busy(name, trigger, operation, by)
        wake(by, and_end=True)

    def _announce_other(self, happening: Happening, name: str, trigger: Trigger, other: Operation) -> None:
        event = Event(happening, name, trigger, other.source, detail=str(other.trigger), pid=other.actor.pid)
        self._announce(event)

    def _share_failure(self, instance: "Instance", joined: Operation, timeout_s: float | None, waited_s: float) -> None:
        """Raise the error of the operation that was waited for, if it failed.

        Do not raise it if that operation was called off or had less time than we have left: then we try ourselves.
        """
        line = instance.last
        if not line or line.phase not in (Phase.failed, Phase.done) or line.actor.pid != joined.actor.pid:
            return
        if line.error:
            error = InterlockError.from_record(line.error)
            own_s = instance.timeout_s(BY_TRIGGER[joined.trigger], timeout_s)
            more_time = own_s is not None and own_s - waited_s > (line.elapsed_s or 0.0)
            if not isinstance(error, CancelledError) and not (isinstance(error, DeadlineError) and more_time):
                raise error

    @contextmanager
    def at_rest(self, name: str) -> Iterator[Site | None]:
        """Yield the site of `name` if its machine is down, and keep it down until the block ends; else yield None."""
        lock, site = Lock(self.home.lock(name)), None
        with suppress(OSError):
            if lock.acquire():
                with suppress(InterlockError):
                    found = self.site(name)
                    down = self.ports(found.spec.driver).observe(found).alive is False
                    site = found if down and self._read(name).operation is None else None
        with self._released(lock, name):
            yield site

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _open(self, name: str, lock: Lock) -> "Instance":
        from .instance import Instance

        return Instance(self, name, lock, self._announce)

    def _settled(self, name: str) -> Status:
        status = self._read(name)
        if status.damage or not self._needs_settling(status):
            return status
        with suppress(InterlockError, OSError):
            lock = Lock(self.home.lock(name))
            if lock.acquire():
                with self._released(lock, name):
                    with suppress(InterlockError, OSError), hurried():
                        self._open(name, lock).settle(patient=False)
                    status = self._read(name)
                    if status.operation:  # the lock was free, so no process works on it, even if that one is alive
                        return status._replace(operation=status.operation._replace(interrupted=True))
                    return status
        return self._read(name)

    def _needs_settling(self, status: Status) -> bool:
        """True if the journal and the world disagree; only the lock shows whether a process is working on it."""
        if status.operation:
            return True
        if status.state is State.absent:
            home, name = self.home, status.name
            leftovers = (status.directory, home.creating(name), home.deleting(name), home.lock(name))
            return any(os.path.lexists(path) for path in leftovers)
        seen = status.observation
        return seen is not None and seen.alive is (status.state is not State.running)


def calls_off(trigger: Trigger, operation: Operation, *, force: bool) -> bool:
    """True if `trigger` ends `operation`: its row yields to it, or its process is suspended and `force` is set."""
    return trigger in BY_TRIGGER[operation.trigger].yields_to or (operation.suspended and force)


def _patience(others: Deadline, error: InterlockError) -> Deadline:
    """Return how long to wait for a lock that is held for other work; raises `error` once `others` has passed."""
    if others.passed:
        raise error
    return Deadline(HANDOVER_S)


def distinct(names: Sequence[str]) -> Sequence[str]:
    """Return `names`; raise UsageError if there are none, or if two of them are the same."""
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"expected names that differ, not {', '.join(names) or 'nothing'}")
    return names


def _asked(trigger: Trigger, arguments: dict[str, Any]) -> Row:
    """Return the row of `trigger`; raise UsageError unless it can be requested with `arguments`."""
    row = BY_TRIGGER.get(trigger)
    if row is None:
        raise UsageError(f"{trigger!r}: expected one of {', '.join(BY_TRIGGER)}")
    if row.by is By.nobody:
        raise UsageError(f"{row.trigger} is observed, not asked for")
    if row.by is By.caller:
        raise UsageError(f"{row.trigger} is carried out by the caller")
    for name in row.needs:
        if name not in arguments:
            raise UsageError(f"{row.trigger} needs a {name}")
    for name, value in arguments.items():
        if name not in row.takes and value is not None and value is not False:
            raise UsageError(f"{row.trigger} takes no {name}")
    timeout_s = arguments.get("timeout_s")
    if timeout_s is not None and not timeout_s >= 0:  # NaN is not
        raise UsageError(f"timeout must be a number of seconds ≥ 0, not {timeout_s}")
    return row
