"""The commands that lead into a guest."""

import os
import sys
from pathlib import Path

import click

from ..errors import NotFoundError
from ..host import cancellation
from ..host.files import open_private
from .options import name_argument, pass_session
from .session import Session
from .terminal import printable

FOLLOW_S = 0.2
"""How often a log that is followed is looked at: it is a plain file that another process appends to."""

COMMAND_NOT_FOUND = 127
"""The exit status of a shell that found no program. Source: POSIX, Shell Command Language, 2.8.2."""

PIECE_BYTES = 1 << 20
"""How much of a log is in memory at once."""


@click.command("shell", context_settings={"allow_interspersed_args": False})
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def shell_command(session: Session, name: str, command: tuple[str, ...]) -> None:
    """Log in to the guest of the instance NAME, or run COMMAND in it.

    Standard input, output and the exit code are the command's own.

    \b
    interlock shell web
    interlock shell web -- tar c /etc > etc.tar
    """
    command = command[1:] if command[:1] == ("--",) else command  # click hands on the one that follows a name
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    argv = list(session.interlock.shell(name, command, terminal=terminal))
    sys.stdout.flush()
    if len(command) == 1 and len(command[0].split()) > 1:
        sys.exit(_run_single_word(session, name, command[0], argv))
    cancellation.step_aside()
    os.execvp(argv[0], argv)  # noqa: S606 - ssh takes our place, so that nothing stands between it and its caller


def _run_single_word(session: Session, name: str, word: str, argv: list[str]) -> int:
    """Return the exit status of `argv`, which runs `word` in the guest. If no program has that name, say how to run it.

    A word with blanks in it is rarely a program's name, and mostly a command line meant for a shell.
    """
    import shlex
    import subprocess

    with cancellation.interruptible():
        status = subprocess.call(argv)
    if status == COMMAND_NOT_FOUND:
        hint = shlex.join(["interlock", "shell", name, "--", "sh", "-c", word])
        session.complain(NotFoundError(f'the guest of "{name}" has no program called "{word}"', hint=hint))
    return status


@click.command("logs")
@name_argument
@click.option("--serial", "which", flag_value="serial", help="What the guest wrote to its serial console (default).")
@click.option("--qemu", "which", flag_value="qemu", help="What the hypervisor wrote.")
@click.option("--follow", "-f", is_flag=True, help="Go on as it grows.")
@pass_session
def logs_command(session: Session, name: str, which: str | None, follow: bool) -> None:
    """Show a log of the instance NAME.

    \b
    interlock logs web --follow
    interlock logs web --qemu
    """
    logs = session.interlock.logs(name)
    if not logs:
        raise NotFoundError(f'instance "{name}" has no logs')
    which = which or next(iter(logs))
    if which not in logs:
        raise NotFoundError(f'instance "{name}" has no log "{which}"; it has: {", ".join(logs)}')
    _show(logs[which], follow=follow)


def _show(path: Path, *, follow: bool) -> None:
    """Print the file, and what is appended to it; a file that is replaced by a shorter one is read from its start.

    What follows it ends when the folder of the file is gone or another: its instance was deleted.
    """
    position = 0
    folder = _identity(path.parent)
    while True:
        if path.exists():
            with open_private(path, "rb") as file:
                if path.stat().st_size < position:
                    position = 0
                file.seek(position)
                while text := file.read(PIECE_BYTES):
                    if sys.stdout.isatty():
                        click.echo(printable(text.decode(errors="replace")), nl=False)
                    else:
                        sys.stdout.buffer.write(text)
                        sys.stdout.buffer.flush()
                position = file.tell()
        if not follow or _identity(path.parent) != folder:
            return
        cancellation.pause(FOLLOW_S)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells `folder` from another of its name; None when there is none."""
    try:
        seen = folder.stat()
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino
