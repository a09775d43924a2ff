"""One instance under its lock: the model that the state machine moves.

A transition has three steps: write the intent to the journal, do the driver's work, write the outcome to the journal.
The state in memory moves after the third step and is discarded with this object; what counts is the journal's state.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import (
    CancelledError,
    DamagedError,
    DeadlineError,
    DegradedError,
    DriverError,
    InterlockError,
    UnreadableError,
)
from ..host import cancellation
from ..host.files import link_or_copy, make_private_directory, publish, remove_tree, retire, same_file, write_whole
from ..host.locks import Lock
from ..host.process import this_process
from ..host.progress import Report, unheard
from . import looks, refusals, restarts, words
from .causes import as_error
from .entry import Entry
from .events import Announce, Event
from .happening import Happening
from .journal import Journal, Line, Phase
from .machine import fire
from .own_work import CONDITIONS, OWN_WORK
from .port import Draft, Plan, Port, Site, candidates
from .records import FORKED, WARM, Observation, is_protected, is_saved, is_warm, now, seconds_since
from .spec import SPEC_FILE, UNREADABLE, written
from .states import AT_REST, State
from .table import BOOTS, BY_TRIGGER, By, Decision, Recovery, Row, Trigger, decide, gives_up, unasked

if TYPE_CHECKING:
    from transitions import EventData

    from .status import Reader

PROBE_S = 5.0
"""How long recovery waits for a guest that nobody asked to start: enough for a healthy guest to answer ssh."""


class Instance:
    """The instance `name` of `home`. The caller holds its lock, `lock`, as long as this object is used."""

    def __init__(self, reader: "Reader", name: str, lock: Lock, announce: Announce) -> None:
        home = self.home = reader.home
        self.name = name
        self.lock = lock
        self.announce = announce
        self.last: Line | None = None
        self.shortfall: DegradedError | None = None
        """What failed in a running guest, as found when the instance was settled or after the last transition."""
        self.seen: Observation | None = None
        """What its driver saw when the instance was settled; None if the driver was not asked."""
        self.moved = False
        """True once a transition has been carried out; False if the goal of the last request was already met."""
        self.directory = home.directory(name)
        self._reader = reader
        if home.exists(name):
            self.last = Journal(self.directory).present()
        self.state = self.last.state if self.last else State.absent

    @property
    def site(self) -> Site:
        """The site, which is all that a driver gets."""
        return Site(self.name, self.directory, self.home.sockets(self.name), self._reader.spec(self.directory))

    @property
    def port(self) -> Port:
        """The driver that its spec names."""
        return self._reader.ports(self.site.spec.driver)

    # -- the judge -----------------------------------------------------------------------------------------------

    def fire(self, trigger: Trigger, **arguments: Any) -> None:
        """Have the state machine carry out `trigger`, or find that its goal is already met.

        Raises the error that refuses it, and whatever the work raises; the state has not moved then.
        """
        self.moved = False
        if not fire(self, trigger, **arguments):
            decision, protected = self.decide(BY_TRIGGER[trigger]), is_protected(self.directory)
            raise refusals.refused(decision, self.name, self.state, trigger, protected=protected, asked=arguments)

    def decide(self, row: Row) -> Decision:
        """Return the decision about a request for `row` now. Called by the state machine."""
        seen = self._observe() if row.holds_unless and self.state in row.sources else self.seen
        protected, saved = is_protected(self.directory), is_saved(self.directory)
        # If this row was cut short, it saved the memory itself: it could not have begun while other memory was saved.
        saved = saved and not (self.last and self.last.in_flight and self.last.trigger is row.trigger)
        return decide(row, self.state, protected=protected, saved=saved, seen=seen)

    def leave_alone(self, event: "EventData") -> None:
        """Announce that the goal of the request is already met. Called by the state machine.

        A request that would call off a restart in progress also calls off one that is still due.
        """
        trigger = Trigger(event.event.name)
        self.announce(Event(Happening.holds, self.name, trigger, self.state))
        if trigger in BOOTS.yields_to and (number := self.restart_due()):
            entry = Entry(self, BOOTS, None)
            entry.asked = {"restart": number}
            entry.outcome(Phase.failed, CancelledError(entry.called_off_by(f"{trigger} (pid {os.getpid()})")))

    def restart_due(self) -> int | None:
        """Return the number of the restart that is due, once the instance is settled; None if no restart is due."""
        if self.state not in AT_REST or self.seen is None:
            return None
        with suppress(DamagedError, UnreadableError):  # such an instance is not restarted
            if self.site.spec.restart == restarts.ON_FAILURE:
                return restarts.due(Journal(self.directory).lines(), failed=self.seen.failed)
        return None

    def _machine(self) -> tuple[Port, Site]:
        """Return the driver and the site of the machine, to observe it or to end it; its spec need not be readable.

        If the spec cannot be read, the driver is the one that sees a machine alive there. If no driver does, raises
        the error of the spec.
        """
        try:
            return self.port, self.site
        except (DamagedError, UnreadableError):
            site = Site(self.name, self.directory, self.home.sockets(self.name), UNREADABLE)
            for port in candidates(self._reader.ports):
                if port.observe(site).alive:
                    return port, site
            raise

    def _observe(self, *, unseen: bool = False) -> Observation:
        """Return what its driver sees; raises OSError or InterlockError if it cannot tell whether the machine is alive.

        With `unseen`, an observation that says that this is unknown is returned instead.
        """
        port, site = self._machine()
        with looks.shared(None):
            seen = port.observe(site)
        if seen.alive is None and not unseen:
            raise refusals.unseen(self.name, seen, site.spec)
        return seen

    def _kill(self, report: Report) -> None:
        port, site = self._machine()
        port.kill(site, report)

    def write(self, line: Line) -> Line:
        """Append `line` to the journal with the next number and the present reason, and return it as written."""
        seq, kept = (self.last.seq + 1, self.last.reason) if self.last else (1, None)
        self.last = Journal(self.directory).append(line._replace(kept=kept), seq=seq)
        return self.last

    # -- one transition ------------------------------------------------------------------------------------------

    def carry_out(self, event: "EventData") -> None:
        """Write the intent, do the work, write the outcome; undo the work if it fails. Called by the state machine.

        Of the arguments of the trigger, this method uses `timeout_s` (which counts from `since`), `keep_on_failure` and
        `restart`, and `reason` for what was observed. The others are passed to the work.
        """
        row = BY_TRIGGER[Trigger(event.event.name)]
        arguments = dict(event.kwargs)
        timeout_s, since = arguments.pop("timeout_s", None), arguments.pop("since", None)
        restart = arguments.pop("restart", 0)
        limit_s, wait_s = self.timeout_s(row, timeout_s), self._back_off_s(restart)
        entry = Entry(self, row, None if limit_s is None else limit_s + wait_s, since)
        keep = arguments.pop("keep_on_failure", False)
        entry.former = arguments.get("former", entry.former)
        named = ((name, event.kwargs.get(name)) for name in (*row.needs, *row.options, "restart"))
        entry.asked = {name: value for name, value in named if value and isinstance(value, str | int)}
        if condition := CONDITIONS.get(row.trigger):
            condition(self.site, **{name: arguments[name] for name in row.needs})
        self.moved = True
        if row.observed:
            entry.detail = arguments["reason"]
            entry.outcome(Phase.done)
            entry.announce_outcome(Happening.observed)
            return
        if row.appears:
            self.directory = make_private_directory(self.home.creating(self.name))
        try:
            entry.begin()
            with cancellation.calling_off(entry.called_off):
                if restart:
                    entry.step(words.backing_off(restart, wait_s))
                    cancellation.pause(wait_s)
                ending = self._work(entry, **arguments)
            entry.worked = True
            self.shortfall = ending if isinstance(ending, DegradedError) else None
            entry.detail = ending if isinstance(ending, str) else words.restarted(restart) if restart else None
            entry.outcome(Phase.done, self.shortfall)
            self._take_place(row)
        except BaseException as error:
            problem = as_error(error)
            with cancellation.shielded():
                self._fail(entry, problem, event.kwargs, keep=keep)
            if problem is error or not isinstance(error, Exception):
                raise
            raise problem from error
        entry.announce_outcome(Happening.degraded if self.shortfall else Happening.done, self.shortfall)

    def _work(self, entry: Entry, plan: Plan | None = None, **arguments: Any) -> str | DegradedError | None:
        """Do the work of the entry's row, by the engine itself or by the driver's method of that name.

        Only `create` gets a plan, so only it can see a template. A driver gets the site, the report, the deadline of
        work that waits for a guest, and the options of the row.
        """
        row = entry.row
        waits = (entry.deadline,) if row.timeout else ()
        if row.by is By.engine:
            return OWN_WORK[row.trigger](self, entry.step, *waits, **arguments)
        if plan is not None:
            draft = self._furnish_by(entry, plan)
            if draft.original and draft.live:
                self.port.adopt(self.site, draft.original, entry.step)
            elif draft.original:
                self.port.copy(self.site, draft.original, entry.step, full=draft.full)
            if draft.original:
                return words.copied(draft.original.name, live=draft.live)
        port, site = self._machine() if row.by_place else (self.port, self.site)
        if not (arguments.get("cold") and (is_saved(self.directory) or is_warm(self.directory))):
            arguments.pop("cold", None)  # a driver that saves no memory need not know it
        ending: str | DegradedError | None = getattr(port, row.trigger)(site, entry.step, *waits, **arguments)
        return ending

    def _furnish_by(self, entry: Entry, plan: Plan) -> Draft:
        """Put the files of the draft that `plan` makes into the directory, and return the draft."""
        try:
            return self._furnish(entry, plan(entry.step))
        except FileNotFoundError:
            # The image was deleted after it was found and before it was linked. The second plan gets it again.
            return self._furnish(entry, plan(entry.step))

    def _furnish(self, entry: Entry, draft: Draft) -> Draft:
        """Put the files of `draft` into the directory, where files of an earlier draft may exist already."""
        entry.step("writing the spec")
        write_whole(self.directory / SPEC_FILE, written(draft.spec.to_json()))
        remove_tree(self.directory / WARM)  # so that it is never incomplete
        for name, material in draft.materials.items():
            if isinstance(material, bytes):
                write_whole(self.directory / name, material)
            elif not same_file(material, self.directory / name):  # the plan may have linked it already
                remove_tree(self.directory / name)
                make_private_directory((self.directory / name).parent)
                link_or_copy(material, self.directory / name)
        for name, file in draft.shared.items():
            remove_tree(self.directory / name)
            os.link(file, self.directory / name)
        return draft

    def _back_off_s(self, restart: int) -> float:
        """Return how long the restart of that number still has to wait; one in progress has waited already."""
        if not restart or self.last is None or (self.seen and self.seen.alive):
            return 0.0
        return max(0.0, restarts.delay_s(restart) - seconds_since(self.last.time))

    def timeout_s(self, row: Row, asked: float | None) -> float | None:
        """Return how long the work of `row` may take: `asked`, else what the spec says; None for no limit."""
        if row.timeout is None or asked is not None:
            return asked
        site = self._machine()[1] if row.by_place else self.site
        limit: float = getattr(site.spec, row.timeout)
        return limit

    def _take_place(self, row: Row) -> None:
        """Make the directory appear or vanish by one rename: at that moment the name changes for everybody else."""
        if row.vanishes:
            self._vanish()
        elif row.appears:
            final = self.home.directory(self.name)
            publish(self.directory, final)
            self.directory = final

    def _vanish(self) -> None:
        retire(self.directory, self.home.deleting(self.name))
        remove_tree(self.home.sockets(self.name))

    def _fail(self, entry: Entry, problem: InterlockError, asked: Mapping[str, Any], *, keep: bool) -> None:
        """Undo the work that failed, as after a crash at the same place, and record the failure and the undoing.

        Work that is recorded as done stays done, as after a crash: a signal came late, or the directory should have
        vanished and did not, which the next settling completes. Only `create` is undone even then, because its
        directory is not visible yet.
        """
        with suppress(DamagedError, DriverError):  # a signal may have come after a line was written, before we knew
            self.last = Journal(self.directory).last()
        done = self.last and self.last.seq > entry.after and self.last.phase is Phase.done
        worked = entry.worked or self.name != entry.name  # a move has happened once the name differs
        redone = worked and entry.row.on_crash in (Recovery.redo, Recovery.abandon, Recovery.let_run)
        if redone or (done and entry.row.on_crash is not Recovery.roll_back):
            # The state is no longer the source. By the journal, the next command completes the work in the same way.
            entry.announce_outcome(Happening.left, problem)
            return
        probed = entry.row.on_crash is Recovery.probe
        try:
            if keep and probed and not is_saved(self.directory) and not isinstance(problem, CancelledError):
                entry.detail = "its guest was left as it is"
                happening, phase = Happening.left, Phase.left
            else:
                self._undo(entry.row)
                happening, phase = Happening.failed, Phase.failed
        except Exception as second:  # noqa: BLE001 - a driver can raise anything while it undoes
            entry.detail = as_error(second).message
            happening, phase = Happening.left, Phase.left
        if entry.asked.get("restart") == restarts.TRIES:
            problem.message = words.given_up(problem.message)
        if isinstance(problem, DeadlineError):
            problem.hint = problem.hint or self._way_from_deadline(entry, asked)
            if probed:
                ended = "the guest's memory is saved" if is_saved(self.directory) else "the guest was ended"
                became = "the guest was left alive" if happening is Happening.left else ended
                problem.details = (*problem.details, became)
        if self.directory.is_dir():
            with suppress(OSError):  # a full disk: the journal has the intent, so the next command settles it
                entry.outcome(phase, problem)
        entry.announce_outcome(happening, problem)

    def _way_from_deadline(self, entry: Entry, asked: Mapping[str, Any]) -> str:
        """Return the command to propose if the work of `entry`, requested with `asked`, took too long.

        The logs show what a guest was doing, but the guest does not notice that its memory is being saved.
        """
        if entry.row.on_crash is not Recovery.let_run:
            return f"interlock logs {self.name}"
        longer_s = 2 * max(entry.deadline.seconds, self.timeout_s(entry.row, None) or 0.0)
        return f"{words.typed(self.name, entry.row.trigger, asked)} --timeout {longer_s:g}"

    def _undo(self, row: Row) -> None:
        """Undo the unfinished work of `row` by the rule of the row."""
        match row.on_crash:
            case Recovery.roll_back:
                self._discard_staging()
            case Recovery.probe:
                self._kill(unheard)
            case Recovery.let_run if self.state is State.running:
                if not self._observe().alive:
                    raise DriverError("the machine is down")
                self.port.resume(self.site, unheard)
                remove_tree(self.directory / FORKED)
            case _:  # what was done stays done
                pass

    def _discard_staging(self) -> None:
        """Remove what `create` has made; raises if the driver cannot remove its part, which may be on other hosts."""
        staging, port = self.home.creating(self.name), None
        with suppress(InterlockError):  # if there is no readable spec, no driver has been called yet
            spec = self._reader.spec(staging)
            port = self._reader.ports(spec.driver)
        if port is not None:
            port.delete(Site(self.name, staging, self.home.sockets(self.name), spec), unheard)
        remove_tree(staging)
        remove_tree(self.home.sockets(self.name))

    # -- what others left ----------------------------------------------------------------------------------------

    def settle(self, wanted: Trigger | None = None, *, patient: bool = True, **asked: Any) -> bool:
        """Make journal and world agree: finish or undo what a dead process left, record what nobody requested.

        `wanted` is the trigger that the caller is about to request, with the arguments `asked`; unless it is `start`, a
        guest that is still booting gets only a moment. Without `patient`, nothing is done that would have to wait for a
        guest: `list` settles like that. Returns True if `wanted` itself was finished.
        """
        self._sweep()
        if self.last is None:
            return False
        if self.state is State.absent and not self.last.in_flight:  # only the rename was missing
            self._vanish()
            return False
        if not (patient or self.last.in_flight or self.state is State.running or self._keeper()):
            return False
        leads_out = wanted is not None and bool(asked.get(BY_TRIGGER[wanted].unseen))
        seen = self.seen = self._observe(unseen=leads_out)
        if seen.hidden:
            pass  # nothing can be done to it, and every request is refused
        elif seen.alive is None:
            if self.last.in_flight:  # its result is unknown, and waiting would not reveal it
                self._give_up(self.last)
        elif self.last.in_flight:
            return self._recover(self.last, wanted, asked, alive=bool(seen.alive), patient=patient)
        elif self.state is not State.running:
            return bool(seen.alive) and self._found_alive(wanted, asked)
        elif seen.alive:
            self.shortfall = seen.degraded
        else:
            self.fire(unasked(self.state).trigger, reason=self._how_it_ended(seen))
        return False

    def _how_it_ended(self, seen: Observation) -> str:
        """Return why the machine is down, and if its restarts are used up, that it will not be restarted."""
        reason = seen.exit_reason or "reason unknown"
        with suppress(DamagedError, UnreadableError):
            restarted = seen.failed and self.site.spec.restart == restarts.ON_FAILURE
            if restarted and restarts.tried(Journal(self.directory).lines(), now()) == restarts.TRIES:
                return words.given_up(reason)
        return reason

    def _found_alive(self, wanted: Trigger | None, asked: Mapping[str, Any]) -> bool:
        """Settle that the machine of an instance at rest is alive; return True if `wanted` was done.

        If another program keeps the machine, that program has started it: the instance is recorded as running, and
        `wanted` is decided from there, except that a start also waits for the guest. Otherwise lines of the journal
        were lost, and it is unknown whether the guest answers.
        """
        keeper = self._keeper()
        if keeper and wanted is not BOOTS.trigger:
            self.fire(unasked(self.state).trigger, reason=words.started_by(keeper))
            return False
        return self._finish_start(wanted, asked)

    def _keeper(self) -> str:
        """Return what else may have started or stopped the machine; empty if only Interlock does."""
        with suppress(DamagedError, UnreadableError):
            return self.site.spec.keeper
        return ""

    def _sweep(self) -> None:
        """Remove what a `create` or `delete` left beside the instances; holding the lock proves its process dead."""
        staging = self.home.creating(self.name)
        if os.path.lexists(staging):
            line = None
            with suppress(DamagedError, DriverError):
                line = Journal(staging).last()
            self._discard_staging()
            pid = line.actor.pid if line else None
            self.announce(Event(Happening.interrupted, self.name, Trigger.create, State.absent, pid=pid))
            self.announce(Event(Happening.undone, self.name, Trigger.create, State.absent))
        try:
            remove_tree(self.home.deleting(self.name))
        except DriverError as err:
            message = f'remains of the former "{self.name}" are in the way: {err.message}'
            raise DriverError(message, hint=err.hint, details=err.details) from err

    def _recover(
        self, line: Line, wanted: Trigger | None, asked: Mapping[str, Any], *, alive: bool, patient: bool
    ) -> bool:
        """Settle the operation of `line`, left by a dead process, by the rule of its row; True if `wanted` was done."""
        row, at_rest = BY_TRIGGER[line.trigger], self.state is not State.running
        ends_or_waits = row.timeout and row.on_crash in (Recovery.probe, Recovery.redo)
        if alive and not patient and (at_rest or ends_or_waits):
            return False
        at_once = wanted is not None and BY_TRIGGER[wanted].at_once
        self._announce_interrupted(line)
        if line.former and line.former != self.name:  # it has moved already: finish the rest
            self.fire(row.trigger, former=line.former)
            return False
        saved, protected = is_saved(self.directory), is_protected(self.directory)
        if gives_up(row, self.state, alive=alive, saved=saved, protected=protected):
            # A machine that no longer responds cannot be resumed, but `kill` must still be able to end it.
            with suppress(*([InterlockError] if at_once else [])):
                self._undo(row)
            self._record_undone(row)
            return alive and at_rest and self._found_alive(wanted, asked)
        if row.on_crash is Recovery.probe:
            return self._finish_start(wanted, asked)
        if row.on_crash is Recovery.let_run and not saved:
            reason = self.seen.exit_reason if self.seen else None
            self.fire(unasked(self.state).trigger, reason=reason or "reason unknown")
            return False
        before = {name: value for name, value in (line.asked or {}).items() if name in row.takes}
        own = asked if wanted is row.trigger else {"timeout_s": 0.0} if at_once and row.timeout else before
        self.fire(row.trigger, **own)
        return wanted is row.trigger

    def _finish_start(self, wanted: Trigger | None, asked: Mapping[str, Any]) -> bool:
        """Make the instance of a live machine `running`, or end the machine; return True if `wanted` was done."""
        try:
            if wanted is BOOTS.trigger:
                self.fire(BOOTS.trigger, **asked)
            else:
                patience_s = None if wanted is None else 0.0 if BY_TRIGGER[wanted].at_once else PROBE_S
                self.fire(BOOTS.trigger, timeout_s=patience_s, boot=False)
        except InterlockError:  # undone and recorded, which is enough unless the caller wants a start
            if wanted is BOOTS.trigger or self.last is None or self.last.in_flight:
                raise
        return wanted is BOOTS.trigger

    def _give_up(self, line: Line) -> None:
        """Settle the operation of `line`, left by a dead process, without observing the machine; the state stays."""
        self._announce_interrupted(line)
        self._record_undone(BY_TRIGGER[line.trigger])

    def _announce_interrupted(self, line: Line) -> None:
        self.announce(Event(Happening.interrupted, self.name, line.trigger, line.source, pid=line.actor.pid))

    def _record_undone(self, row: Row) -> None:
        self.write(Line(row.trigger, self.state, row.leads_to(self.state), Phase.undone, this_process(), now()))
        self.announce(Event(Happening.undone, self.name, row.trigger, self.state))
