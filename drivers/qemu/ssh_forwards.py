"""Port forwards that only ssh can open: to the guest's loopback, and to and from its sockets.

All of an instance's go through one ssh process in the background, started once the guest is ready:

    runtime/forwards.sock    its control socket, which tells its pid
    runtime/forwards.json    its pid, start time and boot

It ends with its connection: at once when the kernel closes the dead hypervisor's sockets, and after a while when the
guest reboots. So nothing has to supervise it.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ...host import process as host
from ...host.files import read_own, remove_tree
from ...host.process import Actor
from . import hypervisor

if TYPE_CHECKING:
    from ...fsm.spec import Forward
    from ..contract import Deadline, Site

SOCKET = "forwards.sock"
RECORD = "forwards.json"

DOWN = "port forwards are down"

_OPTIONS = (
    "ExitOnForwardFailure=yes",
    # Replaces a socket that an earlier run left on the host.
    "StreamLocalBindUnlink=yes",
    # A guest that rebooted or hangs does not answer: after three missed answers the forwards count as down.
    "ServerAliveCountMax=3",
)

_ANSWER_S = 10.0
"""How long the background ssh may take to tell its pid; usually a millisecond."""

_END_S = 5.0
"""How long the ssh of a machine that ended may take to notice; usually it ends at once."""

_CLEAR = 'for it; do [ ! -S "$it" ] || rm -f "$it" 2>/dev/null || sudo -n rm -f "$it" || exit; done'
"""Removes sockets that an earlier connection left in the guest, because its sshd does not bind over them."""


def missing(site: "Site") -> "list[Forward]":
    """Return the forwards that only ssh can open, or nothing if they are open."""
    from .hostfwd import by_hypervisor

    wanted = [forward for forward in site.spec.forwards if not by_hypervisor(forward)]
    return [] if wanted and _alive(site.runtime) else wanted


def establish(site: "Site", deadline: "Deadline", pidfd: int) -> None:
    """Open the missing forwards, and return once all of them work. `pidfd` is the hypervisor's.

    Raises DriverError with ssh's words.
    """
    from ...errors import DriverError
    from ...guest import session, ssh
    from ...host.files import make_private_directory
    from ...host.run import run
    from .host_ports import check_socket

    wanted, config, socket = missing(site), site.directory / ssh.CONFIG, site.runtime / SOCKET
    wait = session.Wait(deadline, pidfd).pause
    if not wanted or (socket.exists() and _record(site)):
        return
    for forward in wanted:
        if forward.host_socket and not forward.reverse:
            check_socket(forward.host_socket)
            make_private_directory(Path(forward.host_socket).parent)
    if left := [forward.guest_socket for forward in wanted if forward.reverse and forward.guest_socket]:
        clear = ssh.command_line(config, site.name, ["sh", "-c", _CLEAR, "sh", *left], options=session.OPTIONS)
        run(clear, wait=wait)
    remove_tree(socket)
    *begin, name = ssh.command_line(config, site.name, [], options=(*session.OPTIONS, *_OPTIONS))
    rules = [word for forward in wanted for word in ("-R" if forward.reverse else "-L", rule(forward))]
    ended = run([*begin, "-f", "-N", "-M", "-S", str(socket), *rules, name], wait=wait, leaves=True)
    if ended.status or not _record(site):
        first, *rest = ended.words or ["ssh ended"]
        raise DriverError(f"cannot forward ports: {first}", details=rest)


def rule(forward: "Forward") -> str:
    """Return `forward` as the argument of ssh's -L or -R: where to listen, then where to connect. Source: ssh(1)."""
    # Inside the guest, its own address and its loopback are the same for ssh.
    guest_ip = "127.0.0.1" if forward.guest_ip == "0.0.0.0" else forward.guest_ip  # noqa: S104 - no address to bind
    guest = _end(guest_ip, forward.guest_port, forward.guest_socket)
    host_ = _end(forward.host_ip, forward.host_port, forward.host_socket)
    return f"{guest}:{host_}" if forward.reverse else f"{host_}:{guest}"


def condition(runtime: Path) -> str | None:
    """Return DOWN when the forwards were open in this run of the machine and no longer are."""
    return DOWN if _recorded(runtime) and not _alive(runtime) else None


def end(runtime: Path) -> None:
    """Return once the ssh of a machine that ended is gone too; if it does not notice, it is killed."""
    with hypervisor.held(_recorded(runtime)) as pidfd:
        if pidfd is not None and not hypervisor.wait(pidfd, _END_S):
            hypervisor.end(pidfd, grace_s=0)
    remove_tree(runtime / RECORD)


def _end(ip: str, port: int, socket: str) -> str:
    """Return one end of a rule: ssh splits at colons, and expands `%` in the path of a socket."""
    if socket:
        return socket.replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")
    return f"[{ip}]:{port}"


def _record(site: "Site") -> bool:
    """Record which process the ssh behind the socket is; False if there is none.

    It went into the background by itself, so only it knows its pid. An ssh whose start was interrupted before it was
    recorded is found in the same way.
    """
    import re

    from ...guest import ssh
    from ...host.files import write_whole
    from ...host.run import MERGED, run

    ask = ["ssh", "-F", str(site.directory / ssh.CONFIG), "-S", str(site.runtime / SOCKET), "-O", "check", site.name]
    found = re.search(rb"\(pid=(\d+)\)", run(ask, stderr=MERGED, timeout_s=_ANSWER_S).stdout)
    ticks = host.started_ticks(int(found[1])) if found else None
    if found is None or ticks is None:
        return False
    actor = Actor(int(found[1]), ticks, host.boot_id())
    write_whole(site.runtime / RECORD, json.dumps(actor._asdict()).encode() + b"\n")
    return True


def _recorded(runtime: Path) -> Actor | None:
    try:
        return Actor(**json.loads(read_own(runtime / RECORD)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _alive(runtime: Path) -> bool:
    known = _recorded(runtime)
    return known is not None and host.alive(known)
