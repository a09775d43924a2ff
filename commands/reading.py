"""The commands that read: none of them takes a lock or waits for one."""

import sys
from typing import TYPE_CHECKING

import click

from ..fsm import words
from ..fsm.states import State
from ..fsm.table import TABLE
from .options import InstanceName, name_argument, pass_session
from .session import Session
from .stdout import Format, Record, format_option, local_time, print_record, print_records, print_table, size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..fsm.records import Status

ILLEGAL = 3
"""Exit code of `can NAME TRIGGER` when the table has no such row: that of illegal-transition."""


@click.command("list")
@click.argument("names", nargs=-1, type=InstanceName())
@format_option
@pass_session
def list_command(session: Session, names: tuple[str, ...], output_format: Format) -> None:
    """List the instances, or those NAMED, and what is happening to them.

    Every instance is listed, a damaged one too. JSON is one object a line. Exit code 4 when there is no instance of one
    of the NAMES; the others are listed all the same.

    \b
    interlock list
    interlock list web --format json
    """
    interlock = session.interlock
    if not names:
        if not _print_statuses(session, interlock.instances(), output_format) and sys.stdout.isatty():
            session.report("no instances; this makes one: interlock create web --template debian")
        return
    asked = [interlock.status(name) for name in names]
    _print_statuses(session, [status for status in asked if status.exists], output_format)
    missing = [status.name for status in asked if not status.exists]
    for absent in missing[:-1]:
        session.complain(interlock.engine.not_found(absent), absent)
    if missing:
        session.about["instance"] = missing[-1]
        raise interlock.engine.not_found(missing[-1])


def _print_statuses(session: Session, statuses: "Iterable[Status]", output_format: Format) -> bool:
    """Print `statuses`, for programs each as it is read; return False for a table that would have no row."""
    if output_format != "table":
        print_records((status.to_json() for status in statuses), output_format, ())
        return True
    shown = list(statuses)
    rows = [_row(status) for status in shown]
    if rows:
        print_table(("NAME", "ARCH", "CPUS", "MEMORY", "DISK", "SSH", "STATUS"), rows)
    for status in shown:
        _propose_repair(session, status)
    return bool(rows)


def _propose_repair(session: Session, status: "Status") -> None:
    if status.damage:
        session.hint(session.interlock.engine.way_out(status.name), why=status.damage, instance=status.name)


def _row(status: "Status") -> list[str]:
    spec, seen = status.spec, status.observation
    port = seen.ssh_port if seen and seen.alive else None
    return [
        status.name,
        spec.arch if spec else "-",
        str(spec.cpus) if spec else "-",
        size(spec.memory_bytes) if spec else "-",
        size(spec.disk_bytes) if spec else "-",
        str(port) if port else "-",
        # Last, because it is as long as what there is to say.
        words.status(status),
    ]


@click.command("inspect")
@name_argument
@format_option
@pass_session
def inspect_command(session: Session, name: str, output_format: Format) -> None:
    """Show all that is known of the instance NAME: status, spec, files.

    \b
    interlock inspect web
    """
    interlock = session.interlock
    status = interlock.status(name)
    record: Record = status.to_json()
    if not status.damage and (status.spec is not None or (status.state is State.absent and not status.operation)):
        record["spec"] = interlock.engine.site(name).spec.to_json()
        record["logs"] = {log: str(path) for log, path in interlock.logs(name).items()}
        record["can"] = [str(verdict.trigger) for verdict in interlock.can(name) if verdict.legal]
    print_record(record, output_format)
    _propose_repair(session, status)


@click.command("history")
@name_argument
@click.option("--steps", is_flag=True, help="Show the steps of each transition too.")
@format_option
@pass_session
def history_command(session: Session, name: str, steps: bool, output_format: Format) -> None:
    """Show every transition of the instance NAME: when, what, who, how long, how it ended.

    JSON and YAML hold the whole journal, line for line, with times in UTC.

    \b
    interlock history web --steps
    """
    lines = list(session.interlock.history(name))
    if output_format != "table":
        print_records((line.to_json() for line in lines), output_format, ())
        return
    if lines and lines[0].seq > 1:
        session.report(f"the journal keeps its latest lines only: those before {lines[0].seq} are gone")
    shown = [line for line in lines if line.phase not in ("begun", "step") or steps or line is lines[-1]]
    print_table(
        ("SEQ", "TIME", "TRIGGER", "FROM", "TO", "PHASE", "TOOK", "PID", "DETAIL"),
        [
            [
                str(line.seq),
                local_time(line.time),
                str(line.trigger),
                str(line.source),
                str(line.state),
                str(line.phase),
                words.duration(line.elapsed_s) if line.phase != "begun" else "-",
                str(line.actor.pid),
                line.detail or (line.error or {}).get("message") or (line.step if line.phase == "step" else "") or "",
            ]
            for line in shown
        ],
    )


@click.command("can")
@name_argument
@click.argument(
    "trigger",
    required=False,
    metavar="[TRIGGER]",
    type=click.Choice([str(row.trigger) for row in TABLE if not row.observed]),
)
@format_option
@click.pass_context
def can_command(ctx: click.Context, name: str, trigger: str | None, output_format: Format) -> None:
    """Show what is legal for the instance NAME now, and for what is not: why, and the command to type.

    With a TRIGGER, the exit code tells: 0 when it would succeed, 3 when it is illegal.

    \b
    interlock can web
    interlock can web start
    """
    verdicts = ctx.obj.interlock.can(name)
    if trigger is not None:
        verdicts = [verdict for verdict in verdicts if verdict.trigger == trigger]
    print_records(
        (verdict.to_json() for verdict in verdicts),
        output_format,
        (
            ("TRIGGER", lambda record: record["trigger"]),
            ("LEGAL", lambda record: "yes" if record["legal"] else "already" if record["holds"] else "no"),
            ("COMMAND", lambda record: record["hint"] or "-"),
            ("WHY", lambda record: record["why"]),
        ),
    )
    if trigger is not None and not (verdicts[0].legal or verdicts[0].holds):
        ctx.exit(ILLEGAL)


@click.command("diagram")
@click.argument("name", required=False, type=InstanceName())
@click.option(
    "--format",
    "diagram_format",
    default="text",
    show_default=True,
    help="text, svg, mermaid, dot, markdown, json, plantuml, scxml, xstate or promela.",
)
@pass_session
def diagram_command(session: Session, name: str | None, diagram_format: str) -> None:
    """Draw the lifecycle, from the table that decides it; with a NAME, mark the state it is in.

    \b
    interlock diagram web
    interlock diagram --format svg
    """
    from ..diagrams.formats import FORMATS

    if diagram_format not in FORMATS:
        raise click.BadParameter(f"{diagram_format!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    current = None if name is None else session.interlock.status(name).state
    click.echo(FORMATS[diagram_format][0](current), nl=False)
