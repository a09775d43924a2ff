"""A fleet on another host: its file is read here, and sent with each call."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..fleet.applying import Agree, Fleet, FleetResult, refuse_without_consent, typed
from ..fleet.file import portable
from ..fleet.planning import FleetStep
from ..fsm.events import Announce
from ..host.progress import Report, unheard
from . import answers
from .connection import Connection

if TYPE_CHECKING:
    from .client import RemoteInterlock


class RemoteFleet(Fleet):
    """The instances on another host that one file describes.

    The file is read once, here, with the templates that it names by their paths; those that it names otherwise are
    found there. Between the plan that `agree` is shown and its carrying out, the host plans again: agreeing to a plan
    that deletes or restarts something is agreeing to the deletions and restarts of the plan that is carried out.
    """

    def __init__(self, vms: "RemoteInterlock", file: str | Path | Mapping[str, Any]) -> None:
        self._there = vms
        self.name, self._content = portable(file)
        self._typed = typed(file)
        self._shown = "FILE" if isinstance(file, Mapping) else str(file)

    def status(self, *, prune: bool = False) -> list[FleetStep]:
        """Return a step for each instance in the file, then one for each other instance of the fleet."""
        steps = [result.step for result in self._results("status")]
        if not prune:
            return steps
        pruning = {result.step.name: result.step for result in self._results("apply", "--dry-run", "--prune")}
        return [pruning.get(step.name, step) for step in steps]

    def apply(
        self,
        *,
        prune: bool = False,
        agree: Agree | None = None,
        on_event: Announce | None = None,
        report: Report = unheard,
    ) -> list[FleetResult]:
        """Make the instances there as the file says, and return the result of each step that had differences."""
        steps = [step for step in self.status(prune=prune) if step.differences]
        if self._there.dry_run:
            return [FleetResult(step) for step in steps]
        if agree is None:
            refuse_without_consent(steps, self._typed)
        elif not agree(steps):
            return []
        options = [option for option, given in (("--prune", prune), ("--yes", agree is not None)) if given]
        return self._results("apply", *options, on_event=on_event, report=report)

    def _results(
        self, command: str, *options: str, on_event: Announce | None = None, report: Report = unheard
    ) -> list[FleetResult]:
        """Return what `fleet COMMAND` prints there; raise its error if it prints no step, or was cancelled."""
        connection = Connection(self._there.host)
        file = connection.keep("fleet.yaml", self._content.encode(), typed=self._shown)
        words = ["fleet", command, *options, "--json", file]
        ended, ear = self._there.call(connection, words, on_event=on_event)
        for said in ear.reports:
            report(said)
        steps = [answers.fleet_step(record) for record in answers.objects(ended.stdout) if "differences" in record]
        if ended.status and not steps:
            raise self._there.failure(connection, ended, ear)
        return [FleetResult(step, ear.errors.get(step.name)) for step in steps]
