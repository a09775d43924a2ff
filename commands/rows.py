"""The command of a row that has none of its own: NAME, and --timeout where the row has a deadline."""

from typing import Any

import click

from ..fsm.table import BY_TRIGGER, Trigger
from .options import name_argument, pass_session, timeout_option
from .session import Session
from .stdout import Format, format_option, print_record


def command(trigger: str) -> click.Command:
    """Return the command that asks for `trigger`; its help is the row's reason."""
    row = BY_TRIGGER[Trigger(trigger)]

    @pass_session
    def ask(session: Session, /, name: str, output_format: Format, **asked: Any) -> None:
        outcome = session.interlock.fire(name, row.trigger, **asked)
        if output_format != "table":
            print_record(outcome.to_json(), output_format)

    ask = format_option(ask)
    if row.timeout:
        ask = timeout_option("Give up when it has not ended by then.")(ask)
    text = f"{row.why}\n\n\b\ninterlock {trigger} web"
    return click.command(trigger, help=text)(name_argument(ask))
