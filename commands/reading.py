"""The commands that read: none of them takes a lock or waits for one."""

import click

from ..fsm import words
from ..fsm.states import State
from ..fsm.table import TABLE
from .listing import COLUMNS, KEYS, Listing, list_instances, propose_repair, show_verdicts
from .many import filter_option
from .options import (
    InstanceName,
    Named,
    chosen_format,
    format_option,
    json_format_option,
    name_argument,
    optional_name_argument,
    pass_session,
)
from .session import Session
from .stdout import FORMATS, Format, Record, local_time, print_record, print_records, print_table


class ListFormat(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """One of our formats, or a Go template."""

    name = "format"
    completes = FORMATS

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from .go_template import compiled

        text = str(value)
        if "{{" not in text and text not in FORMATS:
            self.fail(f"{text!r}: expected {', '.join(FORMATS)}, or a Go template such as '{{{{.Name}}}}'", param, ctx)
        try:
            compiled(text, KEYS | {"status"})
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return text


class Columns(click.ParamType):  # type: ignore[type-arg] # likewise
    """Titles of columns of the table, separated by commas, in upper case."""

    name = "columns"
    completes = tuple(COLUMNS)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        chosen = tuple(title.strip().upper() for title in str(value).split(","))
        known = (*COLUMNS, *sorted({key.upper() for key in KEYS} - COLUMNS.keys()))
        for title in chosen:
            if title not in known:
                self.fail(f"{title}: expected one of {', '.join(known)}", param, ctx)
        return chosen


class SortKey(click.ParamType):  # type: ignore[type-arg] # likewise
    """A key of the record, with a leading `-` for the reverse order."""

    name = "sort"
    completes = tuple(sorted(KEYS - {"operation"}))

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        key = str(value).removeprefix("-")
        if key not in KEYS - {"operation"}:
            self.fail(f"{key!r}: expected one of {', '.join(sorted(KEYS - {'operation'}))}", param, ctx)
        return str(value)


@click.command("list")
@click.argument("names", nargs=-1, type=InstanceName())
@click.option(
    "--format",
    "output_format",
    type=ListFormat(),
    default="table",
    show_default=True,
    metavar="FORMAT",
    callback=chosen_format,
    help="table, json, yaml, or a Go template: '{{.Name}}\\t{{.Status}}'.",
)
@json_format_option
@click.option(
    "--all",
    "-a",
    is_flag=True,
    hidden=True,
    expose_value=False,
    help="Does nothing; accepted because other programs need it.",
)
@click.option("--quiet", "-q", "only_names", is_flag=True, help="Print only the names.")
@filter_option
@click.option(
    "--sort",
    type=SortKey(),
    default="name",
    show_default=True,
    metavar="KEY",
    help="Sort by a key of the JSON; -KEY reverses the order.",
)
@click.option(
    "--columns", type=Columns(), metavar="TITLES", help="Columns of the table: NAME,STATUS, or keys of the JSON."
)
@click.option("--all-hosts", is_flag=True, help="List the instances of this host and of every host in hosts.yaml.")
@pass_session
def list_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    names: tuple[str, ...],
    output_format: str,
    only_names: bool,
    filters: tuple[tuple[str, str], ...],
    sort: str,
    columns: tuple[str, ...] | None,
    all_hosts: bool,
) -> None:
    """List the instances NAMES, or all, and what is happening to them.

    Damaged instances are listed too. JSON is one object per line. The exit code is 4 if one of NAMES does not exist;
    the others are listed all the same. With --all-hosts, it is 6 if a host does not answer.

    \b
    interlock list
    interlock list web --format json
    interlock list -q --filter state=running
    interlock list --sort -memory_bytes --columns NAME,MEMORY,DRIVER
    interlock list --all-hosts
    """
    if all_hosts:
        if names or only_names or sort != "name" or "{{" in output_format:
            raise click.UsageError("--all-hosts takes --filter, --columns and --format, nothing else")
        from .all_hosts import list_all_hosts

        list_all_hosts(session, Listing(output_format, filters, columns=columns or tuple(COLUMNS)))
        return
    chosen = "{{.Name}}" if only_names else output_format
    list_instances(session, names, Listing(chosen, filters, sort, columns or tuple(COLUMNS)))


@click.command("inspect")
@name_argument
@format_option
@pass_session
def inspect_command(session: Session, name: str, output_format: Format) -> None:
    """Show everything known about the instance NAME: status, spec, files.

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
        session.report(f"the journal keeps only its latest lines: those before line {lines[0].seq} are gone")
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
    """Show what is legal for the instance NAME now, and for the rest why it is not, and the command to type instead.

    With TRIGGER, the exit code is 0 if it would succeed, and 3 if it is illegal.

    \b
    interlock can web
    interlock can web start
    """
    ctx.exit(show_verdicts(ctx.obj, name, trigger, output_format))


@click.command("diagram")
@optional_name_argument
@click.option(
    "--format",
    "diagram_format",
    type=Named("diagram"),
    default="text",
    show_default=True,
    help="Output format: text, svg, mermaid, dot, markdown, json, plantuml, scxml, xstate or promela.",
)
@json_format_option
@pass_session
def diagram_command(session: Session, name: str | None, diagram_format: str) -> None:
    """Draw the lifecycle; with NAME, mark the state of that instance.

    \b
    interlock diagram web
    interlock diagram --format svg
    """
    from ..diagrams.formats import FORMATS

    if diagram_format not in FORMATS:
        raise click.BadParameter(f"{diagram_format!r} is not one of {', '.join(FORMATS)}", param_hint="--format")
    current = None if name is None else session.interlock.status(name).state
    if session.as_json:
        from ..diagrams.render import description

        print_record(description(current), "json")
        return
    click.echo(FORMATS[diagram_format][0](current), nl=False)
