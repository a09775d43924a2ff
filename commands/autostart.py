"""The commands about starts at login."""

import click

from ..errors import CancelledError, InterlockError
from .options import Group, InstanceName, json_option, pass_session
from .session import Session
from .stdout import print_record

names_argument = click.argument("names", nargs=-1, required=True, type=InstanceName())


@click.group("autostart", cls=Group)
def autostart_command() -> None:
    """Start instances when you log in, or stop doing so.

    `list --filter autostart=true` shows which ones do. These commands themselves start and stop nothing.

    \b
    interlock autostart enable web
    """


@autostart_command.command("enable")
@names_argument
@json_option
@pass_session
def enable_command(session: Session, names: tuple[str, ...]) -> None:
    """Have the instances NAMES started when you log in.

    A systemd user unit starts them, and shuts them down when your last session ends. To have them started when the host
    boots, and kept until it shuts down, run `loginctl enable-linger`.

    \b
    interlock autostart enable web
    """
    _change(session, names, enabled=True)


@autostart_command.command("disable")
@names_argument
@json_option
@pass_session
def disable_command(session: Session, names: tuple[str, ...]) -> None:
    """No longer start the instances NAMES when you log in.

    A machine that was started at this login still ends when your last session ends, but without being shut down first.
    To avoid that, stop it and start it yourself.

    \b
    interlock autostart disable web
    """
    _change(session, names, enabled=False)


_SAID = {
    (True, True): "starts at login from now on",
    (True, False): "already starts at login",
    (False, True): "no longer starts at login",
    (False, False): "does not start at login",
}
"""(autostart is enabled, that changed) → what the command says."""


def _change(session: Session, names: tuple[str, ...], *, enabled: bool) -> None:
    """Enable or disable autostart of each of `names`, and end with the exit code of the first that failed."""
    failed: list[InterlockError] = []
    for name in names:
        try:
            changed = session.interlock.autostart(name, enabled=enabled)
        except CancelledError:
            raise
        except InterlockError as error:
            session.complain(error, name)
            failed.append(error)
            continue
        session.report(f'"{name}" {_SAID[enabled, changed]}')
        if session.as_json:
            print_record({"name": name, "autostart": enabled, "changed": changed}, "json")
    if failed:
        click.get_current_context().exit(failed[0].exit_code)
