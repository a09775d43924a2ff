"""Carrying a plan out: the steps of one instance in order, all instances at the same time.

A process that applies a fleet holds the fleet's lock, so a second one waits, finds everything as the file says, and
does nothing. The plan is made under that lock and not kept: after an apply that was killed, the next one plans for what
still differs. So a guest that gets other processors is stopped first, then edited, then started: the instance never
looks finished before it is.
"""

import contextvars
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..creation.plan import read as read_template
from ..errors import CancelledError, InterlockError, UsageError
from ..fsm.events import Announce
from ..fsm.records import Status
from ..fsm.table import BOOTS, Trigger
from ..host.files import read_own
from ..host.locks import held
from ..host.progress import Report, unheard
from . import file as files
from .planning import AGAIN, MARK, FleetStep, Mark, plan

if TYPE_CHECKING:
    from ..api import Interlock
    from ..templates.load import Loaded

Agree = Callable[[Sequence[FleetStep]], bool]
"""Gets the steps of a plan before anything is done; if it returns False, nothing is done."""

Create = Callable[..., Any]
"""`Interlock.create`, with an argument `beside`: further files for the instance's directory."""

Rehearse = Callable[[], "Interlock"]
"""Returns the API of a dry run on the same home."""

MANY = 32
"""How many instances are worked on at once if no instance is booted."""


class FleetResult(NamedTuple):
    """The result of one step of a fleet's plan."""

    step: FleetStep
    error: InterlockError | None = None

    @property
    def done(self) -> bool:
        """True if the instance is now as the file says."""
        return self.error is None and not self.step.mend

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `fleet apply`."""
        return {**self.step.to_json(), "done": self.done}


class Fleet:
    """The instances that one file names, and those that were created for it earlier.

        fleet = vms.fleet("shop.yaml")
        for step in fleet.status():
            print(step.name, *step.differences)
        for result in fleet.apply(agree=lambda steps: True):
            if result.error:
                raise result.error

    Reading the file raises NotFoundError, and InvalidTemplateError with every mistake and its place.
    """

    def __init__(
        self, vms: "Interlock", file: str | Path | Mapping[str, Any], *, create: Create, rehearse: Rehearse
    ) -> None:
        self._vms, self._create, self._rehearse = vms, create, rehearse
        self._file = files.read(file)
        self.name = self._file.fleet
        self._typed = typed(file)

    @staticmethod
    def portable(file: str) -> str:
        """Return the content of `file` (`-`: standard input), with the text of each template that it names by a path.

        It means the same on another host. Raises NotFoundError, and InvalidTemplateError with every mistake.
        """
        return files.portable(file)[1]

    @staticmethod
    def schema() -> dict[str, Any]:
        """Return the JSON Schema of such files, for editors."""
        return files.json_schema()

    def status(self, *, prune: bool = False) -> list[FleetStep]:
        """Return a step for each instance in the file, in order, then one for each that the file does not name.

        If an instance is as the file says, its step has no differences. Nothing is done. With `prune`, the steps of
        instances that the file does not name delete them.
        """
        seen = {status.name: status for status in self._vms.instances()}
        marks = dict(_marks(self._vms, seen))
        return plan(self.name, self._file.wanted, seen, marks, prune=prune, again=self._typed or AGAIN)

    def apply(
        self,
        *,
        prune: bool = False,
        agree: Agree | None = None,
        on_event: Announce | None = None,
        report: Report = unheard,
    ) -> list[FleetResult]:
        """Make the instances as the file says, and return the result of each step that had differences, in order.

        `agree` sees the plan before anything is done. Without it, a plan that deletes an instance or restarts a guest
        is refused with UsageError. With `prune`, instances of the fleet that the file does not name are deleted.
        Errors that would refuse a creation or an edit are raised before anything is done. A step that fails does not
        stop the others: its result has the error. A cancellation is raised as CancelledError once all steps have ended.
        In a dry run nothing is done, and the results are those of a success.
        """
        waiting = f'waiting for another process that applies the fleet "{self.name}"'
        if self._vms.dry_run:
            return [FleetResult(step) for step in self.status(prune=prune) if step.differences]
        self._vms.home.prepare()
        with held(self._vms.home.lock(f".fleet-{self.name}"), waiting, report):
            steps = [step for step in self.status(prune=prune) if step.differences]
            if agree is None:
                refuse_without_consent(steps, self._typed)
            loaded = self._rehearsed(steps)
            if agree is not None and not agree(steps):
                return []
            return self._carried_out(steps, loaded, on_event)

    def _rehearsed(self, steps: Sequence[FleetStep]) -> "dict[tuple[Any, ...], Loaded]":
        """Read the templates that are needed and return them; raise errors that would refuse a creation or an edit."""
        loaded: dict[tuple[Any, ...], Loaded] = {}
        rehearsal = self._rehearse()
        for step in steps:
            if Trigger.create in step.rows:
                order = self._file.orders[step.name]
                key = _key(order)
                if key not in loaded:
                    loaded[key] = read_template(self._vms.home, order.template, order.entry.wishes.edits)
                    rehearsal.create(step.name, loaded[key], order.entry.wishes, driver=order.entry.driver)
            elif step.edits:
                rehearsal.edit(step.name, *step.edits)
        return loaded

    def _carried_out(
        self, steps: Sequence[FleetStep], loaded: "Mapping[tuple[Any, ...], Loaded]", on_event: Announce | None
    ) -> list[FleetResult]:
        def work(step: FleetStep) -> FleetResult:
            try:
                for row in step.rows:
                    self._carry_out(step, row, loaded, on_event)
            except InterlockError as error:
                return FleetResult(step, error)
            return FleetResult(step)

        booting = any(BOOTS.trigger in step.rows for step in steps)
        workers = (os.cpu_count() or 1) if booting else MANY
        with ThreadPoolExecutor(max(1, min(workers, len(steps)))) as threads:
            asked = [threads.submit(contextvars.copy_context().run, work, step) for step in steps]
        results = [one.result() for one in asked]
        for result in results:
            if isinstance(result.error, CancelledError):
                raise result.error
        return results

    def _carry_out(
        self, step: FleetStep, row: Trigger, loaded: "Mapping[tuple[Any, ...], Loaded]", on_event: Announce | None
    ) -> None:
        vms, name = self._vms, step.name
        if row is Trigger.create:
            order = self._file.orders[name]
            mark = next(one.mark for one in self._file.wanted if one.name == name)
            self._create(
                name,
                loaded[_key(order)],
                order.entry.wishes,
                driver=order.entry.driver,
                on_event=on_event,
                beside={MARK: mark.content()},
            )
        elif row is Trigger.edit:
            vms.edit(name, *step.edits, on_event=on_event)
        else:
            vms.fire(name, row, on_event=on_event)


def typed(file: str | Path | Mapping[str, Any]) -> str | None:
    """Return the command that applies `file`; None if it is not a file."""
    return None if isinstance(file, Mapping) else f"interlock fleet apply {shlex.quote(str(file))}"


def refuse_without_consent(steps: Sequence[FleetStep], command: str | None) -> None:
    """Raise UsageError if any of `steps` deletes an instance or restarts a guest; `command` applies the fleet."""
    if asking := [step.name for step in steps if step.consent]:
        raise UsageError(
            f"the plan deletes or restarts {', '.join(asking)}, and nobody has agreed to that",
            hint=command and f"{command} --yes",
        )


def members(vms: "Interlock") -> Iterator[tuple[str, Status]]:
    """Yield each instance that belongs to a fleet, after the fleet's name; by name."""
    seen = {status.name: status for status in vms.instances()}
    for name, mark in _marks(vms, seen):
        if mark.name == name:
            yield mark.fleet, seen[name]


def _marks(vms: "Interlock", seen: Mapping[str, Status]) -> Iterator[tuple[str, Mark]]:
    for name in seen:
        with suppress(OSError):  # without a readable mark, the instance belongs to no fleet
            if mark := Mark.parsed(read_own(vms.home.directory(name) / MARK)):
                yield name, mark


def _key(order: files.Order) -> tuple[Any, ...]:
    """Return a key that is the same for instances whose template is read only once."""
    return (order.template, order.entry.wishes, order.entry.driver)
