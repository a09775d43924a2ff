"""The ssh connection that the sessions in a running guest share: OpenSSH's ControlMaster, a child of the hypervisor.

    runtime/ssh.sock     its control socket
    runtime/ssh.shared   a link to it. ssh.config names it, so every `ssh -F ssh.config` uses the connection
    runtime/ssh.calls    a FIFO; each line in it asks for the connection once

A shell beside the hypervisor waits at the FIFO and runs ssh when it is called. The kernel kills both with the
hypervisor. Nothing depends on the connection: without it, each session makes a connection of its own. After a reboot of
the guest it is gone, and the next command calls for it.

Sessions do not share it if the spec forwards the user's ssh agent or X11: the connection has those of the user who
started the machine, not the caller's. Nor do they if the guest's server would lose some of the sessions
(`ssh_greeting`): then the link is missing, and the connection carries only forwards.
"""

import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...host import files
from .hypervisor import OnCall

if TYPE_CHECKING:
    from ...host.run import Wait
    from ..contract import Site

SOCKET = "ssh.sock"
SHARED = "ssh.shared"
_CALLS = "ssh.calls"
_GREETING = Path(__file__).absolute().with_name("ssh_greeting.py")

_LONGEST_PATH_BYTES = 90
"""ssh makes the socket under a name that is 17 bytes longer and renames it. The limit for that is 107: unix(7)."""

_OPTIONS = (
    "BatchMode=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    # A guest that rebooted answers with a reset, so its sessions end with the next question.
    "ServerAliveInterval=5",
    "ServerAliveCountMax=6",
    # Replaces a socket that an earlier run left on the host.
    "StreamLocalBindUnlink=yes",
)

_TURN_S = 0.02
"""Between two looks for the socket; the connection takes a tenth of a second, or a second under emulation."""

_OPEN_S = 30.0


def shared(site: "Site") -> Path | None:
    """Return the link by which sessions in the guest of `site` share a connection while one is open; None if they must
    not share one, or the socket's path would be too long.
    """
    spec = site.spec
    return None if spec.forward_agent or spec.forward_x11 or not on_call(site) else site.runtime / SHARED


def on_call(site: "Site") -> OnCall | None:
    """Return what the hypervisor of `site` needs beside it to open the connection; None if no socket's path fits."""
    from ...guest import ssh

    path = site.runtime / SOCKET
    if len(bytes(path)) > _LONGEST_PATH_BYTES:
        return None
    options = (*_OPTIONS, "ProxyUseFdpass=yes", f"ProxyCommand={_proxy(site)}")
    *begin, name = ssh.command_line(site.directory / ssh.CONFIG, site.name, [], options=options)
    return OnCall(site.runtime / _CALLS, path, [*begin, "-N", "-M", "-S", str(path), name])


def _proxy(site: "Site") -> str:
    """Return the ProxyCommand that connects, for the shell that runs it; ssh expands what begins with `%`."""
    program = shlex.join([sys.executable, "-I", "-S", str(_GREETING)]).replace("%", "%%")
    link = shlex.quote(str(site.runtime / SHARED)).replace("%", "%%")
    return f"{program} %h %p {link} {SOCKET}"


def call(runtime: Path) -> bool:
    """Return whether the connection is open, and call for it if it is not. Does not wait."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0)
        try:
            client.connect(str(runtime / SOCKET))
        except BlockingIOError:  # it answers others
            return True
        except OSError:
            files.call(runtime / _CALLS)
            return False
    return True


def opened(runtime: Path, wait: "Wait") -> bool:
    """Return whether the connection is open, as soon as it is; False if it does not come up in time.

    `wait` is how to wait, and raises what ends the wait early.
    """
    from ...fsm.port import Deadline

    if call(runtime):
        return True
    turn = Deadline(_OPEN_S)
    while (runtime / _CALLS).exists() and not turn.passed:
        wait(_TURN_S)
        if (runtime / SOCKET).exists():
            return call(runtime)
    return False
