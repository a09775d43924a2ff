"""A dry run: what requests would do, tried on an imagined copy of the world, while the real one is left alone.

A legal request moves the imagined instance, and the next request starts from there: `restart` is a stop, then a start
of the stopped instance. Whatever would refuse a request refuses it here too, with the same error. The driver says what
its work would do to files (`foresee`); for work of the engine, `own_work.EFFECTS` and the columns of the row say it. So
a new row needs no code here. No lock is taken, and work that a dead process left is not settled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DamagedError, UsageError
from ..host.home import Home
from . import refusals, words
from .damage import repairable
from .engine import Engine, Outcome, calls_off, distinct
from .events import Announce, Event, quiet
from .happening import Happening
from .journal import FILE as JOURNAL
from .own_work import CONDITIONS, EFFECTS
from .port import Plan, Ports, Site
from .records import PROTECTED_FILE, SAVED, Effects, Status, Step, checked_name
from .spec import SPEC_FILE
from .states import State
from .status import decision
from .table import BOOTS, BY_TRIGGER, By, Decision, Recovery, Row, Trigger, gives_up, unasked


class Rehearsal(Engine):
    """The engine of a dry run in `home`; `steps` of an outcome are all transitions of its instance so far."""

    def __init__(self, home: Home, ports: Ports, announce: Announce = quiet) -> None:
        super().__init__(home, ports, announce)
        self._imagined: dict[str, Status] = {}
        self._steps: dict[str, tuple[Step, ...]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        """Name → the hypervisor's command line, for instances that exist only in the imagined world."""

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names that would exist, sorted."""
        gone = {name for name, status in self._imagined.items() if not status.exists}
        return sorted({*super().names(), *self._imagined} - gone)

    def admit(self, name: str, trigger: Trigger) -> Site:
        """Return the site of `name` if `trigger` would be legal; raise UsageError for work that the caller does."""
        if BY_TRIGGER[trigger].by is By.caller:
            raise UsageError(f"a dry run cannot {trigger}: the engine does not do that work")
        return super().admit(name, trigger)

    def site(self, name: str) -> Site:
        """Return the site of `name`, real or imagined."""
        imagined = self._imagined.get(name)
        if imagined is None:
            return super().site(name)
        if imagined.spec is None:
            raise self.not_found(name)
        return Site(name, imagined.directory, self.home.sockets(name), imagined.spec)

    def _read(self, name: str) -> Status:
        return self._imagined.get(name) or super()._read(name)

    def _settled(self, name: str) -> Status:
        return self._read(name)

    # -- requests --------------------------------------------------------------------------------------------------

    def create(self, name: str, plan: Plan, *, if_absent: bool = False) -> Outcome:
        """Imagine `name` as created by `plan`, which makes nothing; raise what would refuse it."""
        row, status = BY_TRIGGER[Trigger.create], self.read(name)
        with self._border(name):
            status = self._ready(status, row)
            if if_absent and status.state is not State.absent:
                return self._nothing(status, row)
            self._judge(status, row)
            notes: list[str] = []
            draft = plan(notes.append)
            site = Site(name, self.home.directory(name), self.home.sockets(name), draft.spec)
            files = (SPEC_FILE, JOURNAL, *draft.materials, *draft.shared)
            made = self.ports(draft.spec.driver).foresee(site, row.trigger, {"materials": frozenset(files)})
        effects = Effects(appear=("", *files), notes=tuple(notes)) + made
        self._commands[name] = effects.command
        status = Status(name, status.state, site.directory, spec=draft.spec)
        return self._move(name, status, row, effects)

    def _request(
        self, name: str, trigger: Trigger, *, force: bool = False, exists_is_fine: bool = False, **arguments: Any
    ) -> Outcome:
        """Imagine that `trigger` is carried out on `name`, or that its goal is met; raise what would refuse it."""
        del exists_is_fine
        checked_name(name)
        with self._border(name):
            return self._foreseen(name, trigger, arguments, force=force)

    def _foreseen(self, name: str, trigger: Trigger, arguments: Mapping[str, Any], *, force: bool) -> Outcome:
        row = BY_TRIGGER[trigger]
        status = self._understood(name) if not row.by_place else self._read(name)
        notes: tuple[str, ...] = ()
        if operation := status.under_way:
            if calls_off(trigger, operation, force=force):
                notes = (words.would_call_off(operation),)
                status = status._replace(operation=None)
            elif operation.trigger is trigger and row.dest in row.holds:
                self._announce_other(Happening.joined, name, trigger, operation)
                return self._nothing(status._replace(state=row.leads_to(status.state)), row)
        status = self._ready(status, row, arguments)
        if self._judge(status, row, arguments) is Decision.holds:
            self._announce(Event(Happening.holds, name, trigger, status.state))
            return self._nothing(status, row)
        work = {it: arguments[it] for it in (*row.needs, *row.options) if it in arguments}
        site = self.site(name)
        new = self._free(name, trigger, work.get("new"))
        if condition := CONDITIONS.get(trigger):
            condition(site, **{name: work[name] for name in row.needs})
        effects = Effects(notes=notes) + self._effects(row, site, status.state, work)
        if change := work.get("change"):
            status = status._replace(spec=change(site.spec))
        return self._move(name, status, row, effects, new)

    def _ready(self, status: Status, row: Row, asked: Mapping[str, Any] = words.NOTHING) -> Status:
        """Return `status` as it would be once settled; raises BusyError while another process is working on it."""
        name, operation = status.name, status.operation
        if working := status.under_way:
            raise refusals.busy(name, row.trigger, working)
        if name in self._imagined or (status.state is State.absent and not operation):
            return status
        seen = status.observation
        if seen is None and status.state is not State.absent:
            site = self.site(name)
            seen = self.port(site).observe(site)
        if seen and seen.alive is None and not asked.get(row.unseen):
            raise refusals.unseen(name, seen, status.spec)
        status = status._replace(observation=seen, operation=None)
        if seen and (seen.hidden or seen.alive is None):
            return status
        alive = bool(seen and seen.alive)
        if operation:
            return self._recovered(status, BY_TRIGGER[operation.trigger], row, alive=alive)
        if status.state is State.running and not alive:
            return self._went_down(status)
        return self._found_alive(status, row) if status.state is not State.running and alive else status

    def _recovered(self, status: Status, left: Row, wanted: Row, *, alive: bool) -> Status:
        """Return `status` as the rule of the interrupted row `left` would make it, unless `wanted` repeats that row."""
        lines_lost = alive and status.state is not State.running and left is not BOOTS
        if left is wanted and not lines_lost:
            return status
        if left.on_crash is Recovery.let_run and not alive and not status.saved and status.state is State.running:
            return self._went_down(status)
        given_up = gives_up(left, status.state, alive=alive, saved=status.saved, protected=status.protected)
        dest = status.state if given_up else None
        notes = () if given_up and left.on_crash is Recovery.redo else (words.cut_short(left),)
        status = self._imagine(status, left, Effects(notes=notes), dest)
        return self._found_alive(status, wanted) if lines_lost else status

    def _found_alive(self, status: Status, wanted: Row) -> Status:
        """Return `status`, of an instance at rest whose machine is alive, as settled; a `start` settles it itself."""
        if wanted is BOOTS:
            return status
        keeper = status.spec.keeper if status.spec else ""
        settled, why = (unasked(status.state), words.started_by(keeper)) if keeper else (BOOTS, words.STILL_ALIVE)
        return self._imagine(status, settled, Effects(notes=(why,)))

    def _went_down(self, status: Status) -> Status:
        reason = status.observation.exit_reason if status.observation else None
        return self._imagine(status, unasked(status.state), Effects(notes=(reason or "reason unknown",)))

    def _judge(self, status: Status, row: Row, asked: Mapping[str, Any] = words.NOTHING) -> Decision:
        """Return whether a request is legal or its goal is already met; raise what refuses it otherwise."""
        decided = decision(status, row)
        if decided in (Decision.legal, Decision.holds):
            return decided
        if status.state is State.absent:
            raise self.not_found(status.name, row.trigger)
        raise refusals.refused(decided, status.name, status.state, row.trigger, protected=status.protected, asked=asked)

    def _free(self, name: str, trigger: Trigger, new: str | Sequence[str] | None) -> Sequence[str]:
        """Return the names `new`; raise what refuses to create an instance with one of them."""
        names = [new] if isinstance(new, str) else distinct(new) if new is not None else ()
        for one in names:
            checked_name(one)
            other = self._understood(one)
            if working := other.under_way:
                raise refusals.busy(one, trigger, working)
            if one == name or other.state is not State.absent:
                raise refusals.taken(one, trigger)
        return names

    def _effects(self, row: Row, site: Site, state: State, work: dict[str, Any]) -> Effects:
        """Return what the work of `row` at `site` would do; an instance that is only imagined has no files."""
        if not site.directory.is_dir():
            return Effects(command=self._commands.get(site.name, ()) if row is BOOTS else ())
        own = EFFECTS[row.trigger](site, state, **work) if row.trigger in EFFECTS else Effects()
        gone = Effects(vanish=("", *([f"{site.runtime}/"] if site.runtime.is_dir() else [])))
        foreseen = self.port(site).foresee(site, row.trigger, work)
        return (gone if row.vanishes else Effects(vanish=("",)) if row.moves else Effects()) + own + foreseen

    # -- the imagined world ----------------------------------------------------------------------------------------

    def _move(self, name: str, status: Status, row: Row, effects: Effects, new: Sequence[str] = ()) -> Outcome:
        """Imagine that `row` is carried out on `name`, and that the instances `new` appear with it."""
        moved = new[0] if row.moves else name
        if row.moves:
            effects += Effects(appear=(f"{self.home.directory(moved)}/",))
        status = self._imagine(status, row, effects)
        if row.moves:
            self._imagined[name] = Status(name, State.absent, self.home.directory(name))
            self._imagined[moved] = status._replace(name=moved)
            self._steps[moved] = self._steps.pop(name)
        else:
            for copy in new:
                self._appear(name, copy, status)
        return Outcome(moved, row.trigger, status.state, changed=True, steps=self._steps[moved])

    def _appear(self, name: str, copy: str, original: Status) -> None:
        """Imagine the instance `copy` of `original`, as a step of the instance `name`."""
        row = BY_TRIGGER[Trigger.create]
        directory = self.home.directory(copy)
        made = Status(copy, State.absent, directory, spec=original.spec)
        self._imagine(made, row, Effects(appear=("",)))
        self._steps[name] += self._steps.pop(copy)

    def _imagine(self, status: Status, row: Row, effects: Effects, dest: State | None = None) -> Status:
        """Return and remember `status` as it is after `row`, which leads to `dest` (default: the row's)."""
        name, source = status.name, status.state
        dest = dest or row.leads_to(source)

        def fact(known: bool, file: str) -> bool:
            return file in effects.appear or (known and file not in effects.vanish)

        after = status._replace(
            state=dest,
            operation=None,
            observation=None,
            protected=fact(status.protected, PROTECTED_FILE),
            saved=fact(status.saved, SAVED) and dest is not State.running,
            spec=None if dest is State.absent else status.spec,
        )
        step = Step(name, row.trigger, source, dest, effects.at(status.directory))
        self._imagined[name] = after
        self._steps[name] = (*self._steps.get(name, ()), step)
        return after

    def _nothing(self, status: Status, row: Row) -> Outcome:
        """Return the outcome of a request whose goal is already met."""
        return Outcome(status.name, row.trigger, status.state, changed=False, steps=self._steps.get(status.name, ()))

    def _treat(self, name: str, row: Row, *, force: bool) -> Outcome:
        """Imagine what `row` does to an instance whose files cannot be understood."""
        status = self.read(name)
        if not row.vanishes:
            self._existing(name)
        if row.guarded and status.protected:
            raise refusals.guarded(name, row.trigger, force=force)
        if not row.recorded:
            if not status.damage:
                return self._nothing(status, row)
            if not repairable(status.directory):
                with self._border(name):
                    raise DamagedError(status.damage)
        gone = "" if row.vanishes else PROTECTED_FILE if status.protected and row.recorded else None
        effects = Effects(vanish=() if gone is None else (gone,), notes=(row.on_damage or "",))
        return self._move(name, status, row, effects)
