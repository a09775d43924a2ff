"""How this host speaks to a guest: the system's OpenSSH, with one configuration file for each instance.

Who the guest is does not depend on where it listens: `HostKeyAlias` ties the pinned key in `known_hosts` to the name
`guest`, so a port that changes hands is noticed and one that merely changes is not. Nothing of the user's own
configuration is read (`ssh -F`), hence nothing in it can redirect, multiplex or weaken a connection to a guest.
"""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import DeadlineError, DriverError

HOST_KEY_ALIAS = "guest"
"""The name under which `known_hosts` holds the guest's key."""

CONFIG = "ssh.config"

UNATTENDED = ("BatchMode=yes", "ForwardAgent=no", "ForwardX11=no")
"""Options of a session that nobody sits at: it asks nothing, and brings nothing of its user's along."""


def config(
    name: str,
    user: str,
    port: int,
    key: Path,
    known_hosts: Path,
    *,
    forward_agent: bool = False,
    forward_x11: bool = False,
    forward_x11_trusted: bool = False,
) -> str:
    """Return the ssh_config(5) by which `ssh -F FILE name` reaches the guest behind local TCP `port`.

    `key` is the user's private key, `known_hosts` holds the guest's own. Both are absolute: ssh resolves relative
    names against the caller's working directory.
    """
    options = {
        "HostName": "127.0.0.1",
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
        # Every other method could only ask a question that nobody is there to answer.
        "PreferredAuthentications": "publickey",
        # First: the post-quantum exchange of newer clients protects nothing on a loopback, and costs an emulated guest
        # dearly. The others stay, for guests that do not know it: those in FIPS mode.
        "KexAlgorithms": "^curve25519-sha256",
        # QEMU's network keeps a connection whose guest is gone: one that hangs up by rebooting ends its sessions by
        # answering these when it is up again, one that stays silent ends them after a minute.
        "ConnectTimeout": "30",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "6",
        # A shared connection outlives what it was opened for, and keeps answering for a guest that is gone.
        "ControlMaster": "no",
        "ControlPath": "none",
        "LogLevel": "ERROR",
        # An agent that comes along must be known here; IdentitiesOnly keeps its keys from being tried all the same.
        **({"ForwardAgent": "yes"} if forward_agent else {"IdentityAgent": "none"}),
        **({"ForwardX11": "yes"} if forward_x11 else {}),
        # Said in either case: Debian's ssh trusts unless told otherwise.
        "ForwardX11Trusted": "yes" if forward_x11_trusted else "no",
    }
    return "".join([f"Host {name}\n", *(f"  {key} {value}\n" for key, value in options.items())])


def command_line(
    config_file: Path, name: str, command: Sequence[str], *, terminal: bool = False, options: Sequence[str] = ()
) -> list[str]:
    """Return the host's command line that runs `command` (empty: a login shell) in the guest `name`.

    The arguments arrive in the guest as they are given here: ssh would join them with blanks for the login shell to
    take apart again, so they are quoted for that shell.
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


def attempt(config_file: Path, name: str, command: Sequence[str], timeout_s: float) -> None:
    """Run `command` in the guest for at most `timeout_s` seconds. Whether it ran is for its effect to tell."""
    from ..host.run import run

    with suppress(DeadlineError, DriverError, OSError):
        run(command_line(config_file, name, command, options=UNATTENDED), timeout_s=timeout_s)


def _quoted(path: Path) -> str:
    """Return `path` as ssh_config(5) reads it back: quoted because of blanks, and with its `%` doubled."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
