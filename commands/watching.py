"""`watch` and `wait`: what happens to instances, as it happens."""

import re

import click

from ..errors import CancelledError, UsageError
from ..fsm.waiting import CONDITIONS
from .options import (
    InstanceName,
    chosen_format,
    format_option,
    json_format_option,
    name_argument,
    pass_session,
    timeout_option,
)
from .session import Session
from .stdout import Format, local_time, print_record, print_result
from .terminal import printable

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Since(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """A moment: the number of a line of the history, how long ago (`10m`), or a time, by default local."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        from datetime import UTC, datetime, timedelta

        text = str(value)
        if text.isdecimal():
            return int(text)
        try:
            if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
                moment = datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
            else:
                moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{text!r}: expected a line's number, 10m, 2h, or 2026-03-01T14:02", param, ctx)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@click.command("watch")
@click.argument("names", nargs=-1, type=InstanceName())
@click.option(
    "--since", type=Since(), metavar="MOMENT", help="Show everything after this: the SEQ of a line, 10m, or a time."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    callback=chosen_format,
    help="Output format: text, or JSON lines.",
)
@json_format_option
@click.pass_context
def watch_command(ctx: click.Context, names: tuple[str, ...], since: str | int | None, output_format: str) -> None:
    """Show what happens to the instances NAMES, or to all, until Ctrl-C.

    Shows every transition and step, whichever process carries it out, and each change of a machine's condition. After
    a break, give --since the last line that you saw, or its time, to miss nothing that the history still has.

    \b
    interlock watch
    interlock watch web --since 10m --format json
    """
    from ..api import Interlock

    if isinstance(since, int) and len(names) != 1:
        raise UsageError("a line's number is only valid for a single instance", hint="interlock watch --since 10m")
    try:
        # No listener: what the watch itself settles is also in a journal, and so is yielded.
        for change in Interlock().watch(names, since=since):
            if output_format == "json":
                print_record(change.to_json(), output_format)
            else:
                click.echo(f"{local_time(change.time)}  {printable(change.message)}")
    except CancelledError:
        ctx.exit(CancelledError.exit_code)  # Ctrl-C is the normal end of a watch


@click.command("wait")
@name_argument
@click.option(
    "--for",
    "condition",
    type=click.Choice(list(CONDITIONS)),
    default="ready",
    show_default=True,
    help="A state with no operation in progress, ready (running and healthy) or degraded.",
)
@timeout_option("How long to wait; after that, the exit code is 7.", default="")
@format_option
@pass_session
def wait_command(session: Session, name: str, condition: str, timeout_s: float | None, output_format: Format) -> None:
    """Wait until the instance NAME reaches a state or condition, no matter which process brings it about.

    Succeeds at once if that is already so. The exit code is 4 if there is no such instance, 7 if the time is up.

    \b
    interlock wait web
    interlock wait web --for stopped --timeout 60
    """
    status = session.interlock.wait_for(name, condition, timeout_s=timeout_s)
    print_result(status, output_format)
