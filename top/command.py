"""The command `top`."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ..api import Interlock
from ..commands.options import InstanceName, json_option, pass_session
from ..commands.session import Session
from ..errors import CancelledError, HostError, InterlockError, UsageError
from ..host import cancellation

if TYPE_CHECKING:
    from ..fsm.events import Event
    from .app import Top

_LOOK_S = 0.1


@click.command("top")
@click.argument("names", nargs=-1, type=InstanceName())
@json_option
@pass_session
def top_command(session: Session, names: tuple[str, ...]) -> None:
    """Show the instances NAMES, or all, live: what happens to them, what they use, and keys for what is legal now.

    Each key asks for the trigger beside it. Triggers that lose something ask first; those that are refused say why, and
    what to type. Quitting cancels nothing unless you say so: the terminal then waits for what is under way.

    \b
    interlock top
    interlock top web db
    """
    interlock = session.interlock
    for name in names:
        if not interlock.status(name).exists:
            raise interlock.engine.not_found(name)
    if session.as_json or not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise UsageError("top needs a terminal; programs can use watch", hint="interlock watch --json")
    try:
        from .app import Top
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise HostError("top needs the Python package textual, which is not installed", hint=_install()) from error
    from .outside import on_terminal

    view: Top | None = None

    def hear(event: "Event") -> None:
        if view and view.is_running:
            view.hear(event)
        else:
            session.stderr.announce(event)

    view = Top(Interlock(on_event=hear), on_terminal, names, session.typed)
    view.run(mouse=False)
    _wait_for_the_rest(session, view)
    if view.failure is not None:
        raise view.failure


def _install() -> str:
    """Return the command that installs textual beside this program, depending on how that was installed."""
    if "pipx" in sys.prefix:
        return "pipx inject interlock textual"
    return f"{sys.executable} -m pip install textual"


def _wait_for_the_rest(session: Session, view: "Top") -> None:
    """Wait for the requests of the view that are under way, and report how they ended."""
    for request in list(view.requests.under_way):
        session.report(f"still {request.words}; Ctrl-C cancels it")
    first: InterlockError | None = None
    for request in list(view.requests.under_way):
        with suppress(CancelledError):
            while not request.call.future.done():
                cancellation.pause(_LOOK_S)
        error = request.call.future.exception()
        if isinstance(error, InterlockError) and not isinstance(error, CancelledError):
            session.complain(error, request.instance)
            first = first or error
    if first:
        click.get_current_context().exit(first.exit_code)
