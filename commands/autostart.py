"""The commands about starts at login."""

import click

from .options import Group, InstanceName, pass_session
from .session import Session

names_argument = click.argument("names", nargs=-1, required=True, type=InstanceName())


@click.group("autostart", cls=Group)
def autostart_command() -> None:
    """Start instances when you log in, or stop doing so.

    `list --filter autostart=true` shows which do. No instance is started or stopped by these commands.
    """


@autostart_command.command("enable")
@names_argument
@pass_session
def enable_command(session: Session, names: tuple[str, ...]) -> None:
    """Let the instances NAMES start when you log in.

    A unit of your systemd does it, and shuts them down when your last session ends. To have them started when the host
    boots, and kept until it goes down: `loginctl enable-linger`.

    \b
    interlock autostart enable web
    """
    for name in names:
        if session.interlock.autostart(name, enabled=True):
            session.report(f'"{name}" starts at login from now on')
        else:
            session.report(f'"{name}" starts at login already')


@autostart_command.command("disable")
@names_argument
@pass_session
def disable_command(session: Session, names: tuple[str, ...]) -> None:
    """Let the instances NAMES no longer start when you log in.

    \b
    interlock autostart disable web
    """
    for name in names:
        if session.interlock.autostart(name, enabled=False):
            session.report(f'"{name}" no longer starts at login')
        else:
            session.report(f'"{name}" does not start at login')
