"""The commands about fleets: instances that one file describes."""

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import CancelledError, DriftError, UsageError
from .agreement import agreeing, can_ask, confirmed
from .options import Group, Named, format_option, json_option, pass_session
from .session import Session
from .stdout import Format, print_records, print_schema

if TYPE_CHECKING:
    from .. import FleetResult, FleetStep

_file = Named("file")


@click.group("fleet", cls=Group)
def fleet_command() -> None:
    """Create and change the instances that one file describes, and show what differs from it.

    \b
    interlock fleet apply shop.yaml --dry-run
    interlock fleet apply shop.yaml
    interlock fleet status shop.yaml
    """


@fleet_command.command("apply")
@click.argument("file", type=_file)
@click.option("--prune", is_flag=True, help="Delete instances of the fleet that FILE does not name.")
@click.option("--yes", "-y", is_flag=True, help="Delete and restart without asking.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@format_option
@pass_session
def apply_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, /, file: str, prune: bool, yes: bool, dry_run: bool, output_format: Format
) -> None:
    """Make the instances as FILE says: create, start, stop, edit and delete what differs, all at the same time.

    The plan is shown first. At a terminal, you are asked before an instance is deleted or a guest restarted; elsewhere
    that takes --yes. Instances that were not created for the fleet are never touched, protected ones never deleted.
    What cannot be changed in place, such as the template, is left as it is, with the command that recreates it.

    A FILE of - is standard input. To finish an apply that was interrupted, apply again.

    \b
    interlock fleet apply shop.yaml --dry-run
    interlock fleet apply shop.yaml
    interlock fleet apply shop.yaml --prune --yes
    """
    fleet = session.interlock.fleet(file)

    def agree(steps: Sequence["FleetStep"]) -> bool:
        if output_format == "table":
            _print(session, steps, output_format)
        asking = [f"{'delete' if step.deletes else 'restart'} {step.name}" for step in steps if step.consent]
        if asking and not yes:
            if not can_ask():
                raise UsageError("the plan deletes instances or restarts guests", hint=agreeing(), details=asking)
            if not confirmed(f"{', '.join(asking)}: go on?", err=True):
                raise CancelledError("nothing was changed")
        return True

    if dry_run:
        steps = [step for step in fleet.status(prune=prune) if step.differences]
        _print(session, steps, output_format)
        session.report(_agrees(fleet.name) if not steps else "dry run: nothing was changed")
        return
    results = fleet.apply(prune=prune, agree=agree, report=session.report)
    if output_format != "table":
        print_records((result.to_json() for result in results), output_format, ())
    _conclude(session, fleet.name, results)


@fleet_command.command("status")
@click.argument("file", required=False, type=_file)
@format_option
@pass_session
def status_command(session: Session, /, file: str | None, output_format: Format) -> None:
    """Show what of a fleet is not as FILE says, and what `fleet apply` would do about it.

    The exit code is 3 if anything differs, also an instance that FILE does not name. Without FILE, the instances of
    all fleets are listed.

    \b
    interlock fleet status shop.yaml
    interlock fleet status
    """
    if file is None:
        _list(session, output_format)
        return
    fleet = session.interlock.fleet(file)
    steps = fleet.status()
    _print(session, steps, output_format)
    if drifted := [step for step in steps if step.differences]:
        hint = shlex.join(["interlock", "fleet", "apply", file])
        raise DriftError(_differing(fleet.name, drifted), hint=hint)
    session.report(_agrees(fleet.name))


@fleet_command.command("schema")
@json_option
@pass_session
def schema_command(session: Session) -> None:
    """Print the JSON Schema of a fleet's FILE, with which an editor completes and checks it.

    \b
    interlock fleet schema > fleet.schema.json
    """
    from .. import Fleet

    print_schema(Fleet.schema(), as_json=session.as_json)


def _list(session: Session, output_format: Format) -> None:
    from .. import FleetStep

    fleets = session.interlock.fleets()
    if not fleets:
        session.report("no instance was created by `fleet apply`")
    print_records(
        (
            {**FleetStep(fleet, status.name, status.state).to_json(), "differences": None}
            for fleet, members in fleets.items()
            for status in members
        ),
        output_format,
        (
            ("FLEET", lambda record: record["fleet"]),
            ("NAME", lambda record: record["name"]),
            ("STATE", lambda record: str(record["state"])),
        ),
    )


def _print(session: Session, steps: Iterable["FleetStep"], output_format: Format) -> None:
    """Print `steps`: what differs, and what `apply` does about it."""
    steps = [step._replace(mend=step.mend and session.typed(step.mend)) for step in steps]
    words = {step.name: ", ".join(map(str, step.differences)) for step in steps}

    def doing(record: dict[str, Any]) -> str:
        parts = [", ".join(record["rows"]), record["mend"] or ""]
        return "; then: ".join(filter(None, parts)) or "-"

    print_records(
        (step.to_json() for step in steps),
        output_format,
        (
            ("NAME", lambda record: record["name"]),
            ("STATE", lambda record: str(record["state"])),
            ("DIFFERS", lambda record: words[record["name"]] or "-"),
            ("APPLY", doing),
        ),
    )


def _agrees(fleet: str) -> str:
    return f'fleet "{fleet}" is as its file says'


def _differing(fleet: str, steps: Sequence["FleetStep"]) -> str:
    count = "1 instance is" if len(steps) == 1 else f"{len(steps)} instances are"
    return f'fleet "{fleet}": {count} not as the file says'


def _conclude(session: Session, fleet: str, results: Sequence["FleetResult"]) -> None:
    """Report the results, and end with the exit code of the first failure, or with 3 if something still differs.

    An instance that the file does not name is only noted, unless it was to be deleted and that failed.
    """
    failed = [result.error for result in results if result.error]
    for result in results:
        if result.error:
            session.complain(result.error, result.step.name)
    if failed:
        click.get_current_context().exit(failed[0].exit_code)
    session.about.clear()
    left = [result.step for result in results if not result.done]
    for step in left:
        if step.extra:
            session.note(f'"{step.name}" is not in the file: {session.typed(step.mend or "")}')
    if differing := [step for step in left if not step.extra]:
        details = [
            f"{step.name}: {', '.join(map(str, step.differences))}: {session.typed(step.mend or '')}"
            for step in differing
        ]
        raise DriftError(_differing(fleet, differing), hint=differing[0].mend, details=details)
    if not left:
        session.report(_agrees(fleet))
