"""The commands that read: none of them takes a lock or waits for one."""

import click

from ..fsm import words
from ..fsm.states import State
from ..fsm.table import TABLE
from .listing import list_instances, propose_repair, show_verdicts
from .options import InstanceName, format_option, name_argument, pass_session
from .session import Session
from .stdout import Format, Record, local_time, print_record, print_records, print_table


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
    list_instances(session, names, output_format)


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
    propose_repair(session, status)


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
    ctx.exit(show_verdicts(ctx.obj, name, trigger, output_format))


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
