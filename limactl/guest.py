"""The commands that reach into a guest: `shell`, `copy`, `tunnel`, `show-ssh`. They wait for a start under way."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..api import guest_of
from ..errors import DriverError, UsageError
from ..host.environment import KEPT_BACK, passed_on
from .facts import state
from .home import SSH_CONFIG, host_name, ssh_config

if TYPE_CHECKING:
    from ..fsm.records import Status
    from .flags import Call
    from .session import Session


def shell(session: "Session", call: "Call") -> int:
    """Log in to a guest, or run a command in it, through a login shell; the process becomes ssh."""
    named, arguments = call.flags.get("instance"), list(call.arguments)
    if not named and not arguments:
        raise UsageError(
            "\"limactl shell\" requires at least 1 arg(s), only received 0.\nSee 'limactl shell --help'.\n\n"
            f"Usage:  limactl shell {call.command.usage}\n\n{call.command.summary}"
        )
    name = named or arguments.pop(0)
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if command[:1] and command[0] in ("create", "start", "delete", "shell"):
        session.stderr.warning(f"Perhaps you meant `limactl {' '.join(command)}`?")
    status = session.ready(name)
    if state(status) == "Stopped" and session.starts_now(call):
        session.vms.start(name)
        session.lima.refresh(session.vms.status(name), session.vms)
    else:
        _check_running(status)
    workdir = call.flags.get("workdir") or os.environ.get("LIMA_WORKDIR")
    program = call.flags.get("shell") or os.environ.get("LIMA_SHELL")
    line = _in_login_shell(command, program, _environment() if call.flags.get("preserve-env") else {})
    folders = [os.getcwd(), os.path.expanduser("~")] if status.spec and status.spec.mounts and not workdir else []  # noqa: PTH109, PTH111
    if folders:
        line = ["sh", "-c", _FIRST, "sh", *folders, "--", *line]
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    _become(session.vms.shell(name, line, terminal=terminal, workdir=workdir))
    return 0


_FIRST = (
    'found=; while [ "$1" != -- ]; do [ -n "$found" ] || { cd -- "$1" 2>/dev/null && found=1; }; shift; done; '
    'shift; exec "$@"'
)
"""Runs the command after `--` in the first folder before `--` that the guest has, or else in the current one."""

_LOGIN = 'exec "${0:-${SHELL:-/bin/sh}}" -l${1:+c} ${1:+"$1"}'
"""Becomes the login shell $0, by default the user's own, which runs $1 if that is given."""


def copy(session: "Session", call: "Call") -> int:
    """Copy files between this host and guests; the process becomes rsync or scp."""
    for name in dict.fromkeys(filter(None, map(guest_of, call.arguments))):
        _check_running(session.ready(name))
    recursive, backend = bool(call.flags.get("recursive")), call.flags.get("backend", "auto")
    copying = session.vms.copying(*call.arguments, recursive=recursive, backend=backend)
    session.stderr.debug(f"copying by {copying.backend}")
    _become(copying.line)
    return 0


def tunnel(session: "Session", call: "Call") -> int:
    """Open a SOCKS proxy into the guest; ssh serves it in the background until the guest is down."""
    from ..commands.stdout import write
    from ..host.run import run

    name, kind = call.arguments[0], call.flags.get("type", "socks")
    if kind != "socks":
        raise UsageError(f'unknown tunnel type: "{kind}"; only socks is supported')
    status = session.ready(name)
    _check_running(status)
    port = call.flags.get("socks-port") or _free_port()
    ssh, *words = session.vms.tunnel(name, None, port)
    done = run([ssh, "-f", *words], leaves=True)
    if done.status:
        raise DriverError(f"cannot open a SOCKS proxy on port {port}", details=done.words)
    write(f"Set `ALL_PROXY=socks5h://127.0.0.1:{port}`, etc.\n")
    return 0


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def show_ssh(session: "Session", call: "Call") -> int:
    """Print how ssh reaches a guest, running or stopped: as a command line, as options, or as a configuration."""
    from ..commands.stdout import write

    name, form = call.arguments[0], call.flags.get("format", "cmd")
    status = session.ready(name)
    session.lima.refresh(status, session.vms)
    place = session.lima.directory(name) / SSH_CONFIG
    session.stderr.warning(f"`limactl show-ssh` is deprecated. Instead, use `ssh -F {place} {host_name(name)}`.")
    if status.spec and state(status) == "Stopped":
        text = session.lima.ssh_config_at_rest(name, status.spec)
    else:
        text = ssh_config(session.vms, name)
    pairs = [line.split(None, 1) for line in text.splitlines()[1:]]
    options = [word for key, value in pairs for word in ("-o", f"{key}={value}")]
    match form:
        case "config":
            write(text)
        case "cmd":
            write(shlex.join(["ssh", *options, host_name(name)]) + "\n")
        case "args":
            write(shlex.join(options) + "\n")
        case "options":
            write("".join(f"{key}={value}\n" for key, value in pairs))
        case _:
            raise UsageError(f'unknown format: "{form}"')
    return 0


def _check_running(status: "Status") -> None:
    """Raise UsageError with the command to type if the instance is stopped."""
    if state(status) == "Stopped":
        raise UsageError(
            f"instance `{status.name}` is stopped, run `limactl start {status.name}` to start the instance"
        )


def _in_login_shell(command: Sequence[str], program: str | None, environment: Mapping[str, str]) -> list[str]:
    """Return the command line that runs `command` as limactl does: in a login shell, the user's own or `program`."""
    line = shlex.join(command)
    variables = ["env", *(f"{key}={value}" for key, value in environment.items())] if environment else []
    return [*variables, "sh", "-c", _LOGIN, program or "", *([line] if line else [])]


def _environment() -> dict[str, str]:
    """Return the variables of this host to pass on, according to LIMA_SHELLENV_ALLOW and LIMA_SHELLENV_BLOCK."""
    allowed = _patterns("LIMA_SHELLENV_ALLOW")
    blocked = _patterns("LIMA_SHELLENV_BLOCK")
    if allowed:
        return {key: value for key, value in os.environ.items() if any(fnmatchcase(key, it) for it in allowed)}
    refused = [*KEPT_BACK, *(it.removeprefix("+") for it in blocked)] if _adds(blocked) else blocked
    return passed_on(os.environ, refused)


def _patterns(variable: str) -> list[str]:
    return [pattern for pattern in os.environ.get(variable, "").split(",") if pattern]


def _adds(blocked: Sequence[str]) -> bool:
    """Return whether the list of blocked variables extends the default one: it is empty, or begins with a `+`."""
    return not blocked or blocked[0].startswith("+")


def _become(argv: Sequence[str]) -> None:
    """Replace this process by the program `argv`, whose exit code becomes ours."""
    from ..host import cancellation

    sys.stdout.flush()
    cancellation.step_aside()
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is wanted
