"""The command of a row without a command of its own: it takes NAMES, and --timeout if the row has a deadline."""

from typing import Any, Unpack

import click

from ..fsm.table import BY_TRIGGER, Trigger
from .many import Which, each, names_argument
from .options import outcome_options, pass_session, timeout_option
from .session import Session


def command(trigger: str) -> click.Command:
    """Return the command that requests `trigger`; its help is the reason of the row."""
    row = BY_TRIGGER[Trigger(trigger)]

    @pass_session
    def ask(session: Session, /, timeout_s: float | None = None, **which: Unpack[Which]) -> None:
        asked: dict[str, Any] = {"timeout_s": timeout_s} if row.timeout else {}
        each(session, row.trigger, lambda vms, name: vms.fire(name, row.trigger, **asked), **which)

    ask = outcome_options(ask)
    if row.timeout:
        ask = timeout_option("How long it may take.")(ask)
    text = f"{row.why}\n\n\b\ninterlock {trigger} web"
    return click.command(trigger, help=text)(names_argument(ask))
