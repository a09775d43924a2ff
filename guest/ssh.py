"""Connects this host to a guest, with the system's OpenSSH and one configuration file for each instance.

`HostKeyAlias` ties the pinned key in `known_hosts` to the name `guest`, not to a port. So another guest on the same
port is noticed, and a new port needs no new key. The user's own configuration is not read (`ssh -F`), so it cannot
redirect or weaken a connection to a guest.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import DeadlineError, DriverError
from ..host.files import make_private_directory, write_whole

HOST_KEY_ALIAS = "guest"
"""The guest's name in `known_hosts`."""

CONFIG = "ssh.config"

LOOPBACK = "127.0.0.1"

_WITHIN = 'cd -- "$1" || exit; shift; [ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}" -l; exec "$@"'

_LOGIN_SHELL = 'exec "${SHELL:-/bin/sh}" -l'

_AS_ROOT = (
    '[ "$(id -u)" = 0 ] || as_root="sudo -n"; '
    '[ -z "$as_root" ] || command -v sudo >/dev/null || as_root="doas -n"; '
    'exec $as_root "$@"'
)

UNATTENDED = ("BatchMode=yes", "ForwardAgent=no", "ForwardX11=no")
"""Options for unattended sessions: they ask no questions, and forward neither agent nor X11."""


def config(
    name: str,
    user: str,
    port: int,
    key: Path,
    known_hosts: Path,
    *,
    address: str = LOOPBACK,
    control: Path | None = None,
    forward_agent: bool = False,
    forward_x11: bool = False,
    forward_x11_trusted: bool = False,
) -> str:
    """Return the ssh_config(5) by which `ssh -F FILE name` reaches the guest behind TCP `port` of `address`.

    `key` is the user's private key, `known_hosts` holds the guest's host key. Both are absolute: ssh resolves relative
    names against the caller's working directory. `control` is the socket of a connection to share, if one is open.
    """
    options = {
        "HostName": address,
        "Port": str(port),
        "User": user,
        "IdentityFile": _quoted(key),
        "IdentitiesOnly": "yes",
        "HostKeyAlias": HOST_KEY_ALIAS,
        "UserKnownHostsFile": _quoted(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        # Every other method would ask a question.
        "PreferredAuthentications": "publickey",
        # Preferred, because the post-quantum exchange of newer clients protects nothing on a loopback and is slow in an
        # emulated guest. The others stay for guests that lack it, such as those in FIPS mode.
        "KexAlgorithms": "^curve25519-sha256",
        # QEMU's network keeps a connection whose guest is gone. A rebooted guest ends it when it gets one of these
        # messages; if the guest stays silent, ssh ends it after a minute.
        "ConnectTimeout": "30",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "6",
        # No session becomes the shared connection itself: it would outlive its caller, or end while others use it.
        "ControlMaster": "no",
        "ControlPath": _quoted(control) if control else "none",
        "LogLevel": "ERROR",
        # To forward an agent, ssh must use it; IdentitiesOnly keeps it from offering the agent's keys.
        **({"ForwardAgent": "yes"} if forward_agent else {"IdentityAgent": "none"}),
        **({"ForwardX11": "yes"} if forward_x11 else {}),
        # Always set, because Debian's default is yes.
        "ForwardX11Trusted": "yes" if forward_x11_trusted else "no",
    }
    return "".join([f"Host {name}\n", *(f"  {key} {value}\n" for key, value in options.items())])


def command_line(
    config_file: Path, name: str, command: Sequence[str], *, terminal: bool = False, options: Sequence[str] = ()
) -> list[str]:
    """Return the host's command line that runs `command` (empty: a login shell) in the guest `name`.

    The arguments arrive in the guest unchanged: they are quoted for its login shell, because ssh joins them.
    """
    line = ["ssh", "-F", str(config_file)]
    for option in options:
        line += ["-o", option]
    if terminal:
        line += ["-t"]
    line += [name]
    if command:
        line += ["--", shlex.join(command)]
    return line


def tunnel_line(config_file: Path, name: str, local: int | str, port: int | None) -> list[str]:
    """Return the host's command line that forwards a port for as long as it runs; without `port`, a SOCKS proxy.

    `local` is a port of 127.0.0.1, or the path of a socket. The shared connection is not used: it would keep the
    forward after this program has ended.
    """
    here = local if str(local).startswith("/") else f"127.0.0.1:{local}"
    forward = ["-D", str(here)] if port is None else ["-L", f"{here}:127.0.0.1:{port}"]
    options = ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]
    return ["ssh", "-F", str(config_file), *options, "-N", *forward, name]


def config_of_several(folder: Path, configs: Sequence[Path]) -> Path:
    """Write an ssh_config(5) into `folder` that reaches every guest that one of `configs` reaches, and return its path.

    The same `configs` give the same file, so several programs may do this at once.
    """
    from hashlib import sha256  # loads OpenSSL, and `list` imports this module

    text = "".join(f'Include "{config}"\n' for config in configs).encode()
    file = make_private_directory(folder) / f"{sha256(text).hexdigest()[:12]}.config"
    write_whole(file, text)
    return file


def within(
    command: Sequence[str],
    *,
    workdir: str | None = None,
    shell: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command that runs `command`, or a login shell, in the guest's folder `workdir` by the program `shell`.

    `shell` runs as a login shell, and reads `command` as one line of its language. The variables of `environment` are
    added to the guest's own.
    """
    if shell is not None:
        command = [shell, "-lc", shlex.join(command)] if command else [shell, "-l"]
    if environment:
        variables = [f"{key}={value}" for key, value in environment.items()]
        command = ["env", *variables, *(command or ["sh", "-c", _LOGIN_SHELL])]
    if workdir is None:
        return list(command)
    return ["sh", "-c", _WITHIN, "sh", workdir, *command]


def as_root(*command: str) -> list[str]:
    """Return the command by which the guest's user runs `command` as root."""
    return ["sh", "-c", _AS_ROOT, "sh", *command]


def attempt(config_file: Path, name: str, command: Sequence[str], timeout_s: float) -> None:
    """Run `command` in the guest for at most `timeout_s` seconds, ignoring whether it succeeds."""
    from ..host.run import run

    with suppress(DeadlineError, DriverError, OSError):
        run(command_line(config_file, name, command, options=UNATTENDED), timeout_s=timeout_s)


def _quoted(path: Path) -> str:
    """Return `path` for ssh_config(5): in quotes, because it may have spaces, and with `%` doubled."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
