"""The commands that reach into a guest."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..api import guest_of
from ..errors import CancelledError, DeadlineError, DriverError, NotFoundError, UsageError
from ..host import cancellation
from ..host.environment import passed_on
from ..host.files import open_private
from .naming import the_only_instance
from .options import Named, json_option, name_argument, optional_name_argument, pass_session, timeout_option
from .program import become, saying_open
from .session import Session
from .stdout import print_record, write
from .terminal import printable

if TYPE_CHECKING:
    from .. import Completed

FOLLOW_S = 0.2
"""How often a followed log is read: it is a plain file that another process appends to."""

COMMAND_NOT_FOUND = 127
"""The exit status of a shell that found no program. Source: POSIX, Shell Command Language, 2.8.2."""

PIECE_BYTES = 1 << 20
"""How much of a log is read into memory at once."""

LINE_BYTES = 64 << 10
"""The longest part of a line of a log in one object; a longer line is split into several objects."""


_workdir_option = click.option(
    "--workdir", metavar="DIR", help="Working directory in the guest; default: the user's home."
)
_start_option = click.option("--start", is_flag=True, help="Start the instance first if it is not running.")


@click.command("shell", context_settings={"allow_interspersed_args": False})
@_workdir_option
@click.option("--shell", metavar="PROGRAM", help="Shell to log in with, or to run COMMAND with, such as bash.")
@click.option(
    "--preserve-env",
    is_flag=True,
    help="Pass this environment on, except what concerns this host; other users of this host can read it.",
)
@_start_option
@json_option
@optional_name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def shell_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    name: str | None,
    command: tuple[str, ...],
    workdir: str | None,
    shell: str | None,
    preserve_env: bool,
    start: bool,
) -> None:
    """Log in to the guest of the instance NAME, or run COMMAND in it.

    Standard input, output and the exit code are those of COMMAND. Options come before NAME. At a terminal, NAME can be
    left out if there is only one instance. With --json, COMMAND has no terminal, and its output is printed at its end.

    \b
    interlock shell web
    interlock shell --start --workdir /etc web -- tar c . > etc.tar
    """
    name = name or the_only_instance(session, "shell")
    if session.as_json and not command:
        raise UsageError("a login has no result to print; give a command", hint="interlock shell --help")
    command = _begun(session, name, command, start=start)
    variables = passed_on(os.environ) if preserve_env else None
    if session.as_json:
        ended = session.interlock.run(name, command, input=0, workdir=workdir, shell=shell, environment=variables)
        sys.exit(_print_completed(name, ended))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    asked = session.interlock.shell(
        name, command, terminal=terminal, workdir=workdir, shell=shell, environment=variables
    )
    argv = list(asked)
    if len(command) == 1 and len(command[0].split()) > 1 and shell is None:
        sys.exit(_run_single_word(session, name, command[0], argv))
    become(argv)


@click.command("run", context_settings={"allow_interspersed_args": False})
@_workdir_option
@_start_option
@timeout_option("How long COMMAND may take; after that, it is ended with exit code 7.", default="")
@json_option
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@pass_session
def run_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, name: str, command: tuple[str, ...], workdir: str | None, start: bool, timeout_s: float | None
) -> None:
    """Run COMMAND in the guest of the instance NAME, always without a terminal.

    Standard input, output and error and the exit code are those of COMMAND; its arguments arrive exactly as given.
    Options come before NAME. After a timeout, the streams of COMMAND are closed; if that does not end it, it runs on.
    With --json, its output is printed at its end, and may be up to 64 MiB on each stream.

    \b
    interlock run web -- uname -a
    interlock run --timeout 60 web -- sh -c 'make test' < /dev/null
    """
    command = _begun(session, name, command, start=start)
    if session.as_json:
        ended = session.interlock.run(name, command, input=0, timeout_s=timeout_s, workdir=workdir)
        sys.exit(_print_completed(name, ended))
    argv = list(session.interlock.shell(name, command, terminal=False, workdir=workdir))
    if timeout_s is None:
        become(argv)
    from ..host.run import run

    sys.stdout.flush()
    try:
        status = run(argv, stdin=0, stdout=1, stderr=2, timeout_s=timeout_s).status
    except DeadlineError as error:
        raise DeadlineError(f'{command[0]} did not end in the guest of "{name}" within {timeout_s:g} s') from error
    sys.exit(status)


def _begun(session: Session, name: str, command: tuple[str, ...], *, start: bool) -> tuple[str, ...]:
    """Return `command` without the `--` that click leaves after a name; with `start`, start the instance first."""
    if start:
        from ..fsm.table import Trigger

        if any(verdict.trigger is Trigger.start and verdict.legal for verdict in session.interlock.can(name)):
            session.interlock.start(name)
    return command[1:] if command[:1] == ("--",) else command


def _print_completed(name: str, ended: "Completed") -> int:
    """Print how a command ended, and return its exit code, which becomes that of this program."""
    print_record({"name": name, **ended.to_json()}, "json")
    return ended.status if ended.status >= 0 else 128 - ended.status


@click.command("copy")
@click.option("--recursive", "-r", is_flag=True, help="Copy folders with everything in them.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "rsync", "scp"]),
    default="auto",
    show_default=True,
    help="The program that copies: auto is rsync if both sides have it, else scp.",
)
@json_option
@click.argument("paths", type=Named("guest-path"), nargs=-1, required=True)
@pass_session
def copy_command(session: Session, paths: tuple[str, ...], recursive: bool, backend: str) -> None:
    """Copy files between this host and running guests, or from guest to guest; the last of PATHS is the destination.

    NAME:PATH is a path in the guest of NAME, relative to the home of its user. Times and permissions are kept, links to
    files are followed; rsync sends only the differences. The exit code is that of the program that copies; with --json,
    it is 6 if that failed.

    \b
    interlock copy web:/etc/hostname .
    interlock copy -r site notes.txt web:
    interlock copy -r web:site db:
    """
    for name in filter(None, map(guest_of, paths)):
        session.bind(name, "copy")
    if session.as_json:
        session.interlock.copy(*paths, recursive=recursive, backend=backend)
        print_record({"sources": list(paths[:-1]), "target": paths[-1]}, "json")
        return
    seen = session.shows_progress
    copying = session.interlock.copying(*paths, recursive=recursive, backend=backend, measured=seen)
    if seen:
        from .copy_bar import copy

        sys.exit(copy(session, copying))
    if backend == "auto":
        session.report(f"copying by {copying.backend}")
    become(copying.line)


@click.command("ssh-config")
@json_option
@name_argument
@pass_session
def ssh_config_command(session: Session, name: str) -> None:
    """Print the ssh configuration with which other programs reach the guest of the running instance NAME.

    The port may change at the next start.

    \b
    interlock ssh-config web > ssh.config && rsync -e 'ssh -F ssh.config' -a site/ web:site/
    """
    path = session.interlock.ssh_config(name)
    with open_private(path, "rb") as file:
        text = file.read().decode()
    if session.as_json:
        print_record({"name": name, "path": str(path), "options": _options(text)}, "json")
    else:
        write(text)


def _options(text: str) -> dict[str, str]:
    """Return the options of the one host in an ssh_config(5) by their names in lower case, as `ssh -G` has them."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            options.setdefault(key.lower(), value.strip().strip('"'))
    return options


class Ports(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """A port of the guest, preceded by the port of the host if that is to differ: `8080:80`."""

    name = "ports"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        local, colon, port = str(value).rpartition(":")
        numbers = [local, port] if colon else [port, port]
        if not all(number.isdecimal() and 0 < int(number) < 1 << 16 for number in numbers):
            self.fail(f"{value!r}: expected a port such as 8080, or two such as 8080:80", param, ctx)
        return int(numbers[0]), int(numbers[1])


@click.command("tunnel")
@name_argument
@click.argument("ports", type=Ports(), metavar="[LOCAL:]PORT", required=False)
@click.option("--socks", type=click.IntRange(1, 65535), metavar="PORT", help="Open a SOCKS proxy on this port instead.")
@json_option
@click.pass_context
def tunnel_command(ctx: click.Context, name: str, ports: tuple[int, int] | None, socks: int | None) -> None:
    """Forward a port of 127.0.0.1 on this host to PORT in the guest of the instance NAME, until Ctrl-C.

    Through a SOCKS proxy, programs on this host reach whatever the guest can reach, by the names that the guest knows.
    With --json, the object is printed once the port is open.

    \b
    interlock tunnel web 8080:80
    interlock tunnel web --socks 1080
    """
    if (ports is None) == (socks is None):
        raise click.UsageError("give a port of the guest, or --socks with a port of this host")
    session = ctx.ensure_object(Session)
    local_port, port = ports or (socks or 0, None)
    argv = list(session.interlock.tunnel(name, port, local_port))
    here = f"127.0.0.1:{local_port}"
    way = f"forwarding {here} to port {port} of" if port else f"SOCKS proxy on {here} through"
    session.report(f'{way} "{name}"; Ctrl-C ends it')
    if not session.as_json:
        become(argv)
    opened = {"name": name, "host_ip": "127.0.0.1", "host_port": local_port, "guest_port": port}
    try:
        _lead(argv, opened)
    except CancelledError:
        ctx.exit(CancelledError.exit_code)  # Ctrl-C is the normal end of a tunnel


def _lead(argv: list[str], opened: dict[str, Any]) -> None:
    """Run ssh for a tunnel until it ends; print `opened` once its port is open."""
    from ..host.run import run

    waiting = [opened]

    def hear(_: bytes) -> None:
        if waiting:
            print_record(waiting.pop(), "json")

    ended = run(saying_open(argv), stdout=hear)
    raise DriverError(f'the tunnel to "{opened["name"]}" ended', details=ended.words)


def _run_single_word(session: Session, name: str, word: str, argv: list[str]) -> int:
    """Return the exit status of `argv`, which runs `word` in the guest. If no program has that name, say how to run it.

    A word with spaces in it is rarely the name of a program; usually it is a command line meant for a shell.
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
@click.option("--follow", "-f", is_flag=True, help="Keep printing as the log grows.")
@json_option
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
    lines = _Lines(name, which) if session.as_json else None
    try:
        _show(logs[which], lines.hear if lines else _print_piece, follow=follow)
    except CancelledError:
        if not follow:
            raise
        click.get_current_context().exit(CancelledError.exit_code)  # Ctrl-C is the normal end
    if lines:
        lines.end()


def _print_piece(text: bytes) -> None:
    if sys.stdout.isatty():
        click.echo(printable(text.decode(errors="replace")), nl=False)
    else:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


class _Lines:
    """Prints the log `which` of the instance `name`, as an object for each complete line."""

    def __init__(self, name: str, which: str) -> None:
        self._about = {"name": name, "log": which}
        self._begun = b""

    def hear(self, piece: bytes) -> None:
        *whole, self._begun = (self._begun + piece).split(b"\n")
        for line in whole:
            self._print(line)
        if len(self._begun) > LINE_BYTES:
            self.end()

    def end(self) -> None:
        """Print the last line, which is incomplete."""
        if self._begun:
            self._print(self._begun)
        self._begun = b""

    def _print(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, LINE_BYTES):
            text = line[start : start + LINE_BYTES].removesuffix(b"\r").decode(errors="replace")
            print_record({**self._about, "line": text}, "json")


def _show(path: Path, say: Callable[[bytes], None], *, follow: bool) -> None:
    """Pass the file to `say`; with `follow`, also what is appended to it. A file that has shrunk is read again.

    Following ends when the folder of the file is gone or replaced, because then its instance was deleted.
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
                    say(text)
                position = file.tell()
        if not follow or _identity(path.parent) != folder:
            return
        cancellation.pause(FOLLOW_S)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return a value that distinguishes `folder` from another one of that name; None if it does not exist."""
    try:
        seen = folder.stat()
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino
