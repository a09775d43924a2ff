"""The ways into a guest, and out of it, that only ssh can open: to its loopback, to its sockets, and from them.

All of an instance's go through one ssh in the background, begun once the guest is ready:

    runtime/forwards.sock    by which that ssh is asked which process it is
    runtime/forwards.json    the answer: pid, start time and boot

It lives as long as its connection does. That ends with the hypervisor, in the moment in which the kernel closes the
hypervisor's sockets, and a while after a guest that rebooted. So nobody has to look after it.
"""

import json
from dataclasses import asdict
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
    # Bound anew over a socket that an earlier run left on the host.
    "StreamLocalBindUnlink=yes",
    # A guest that rebooted or hangs does not answer: after three silences the forwards are known to be down.
    "ServerAliveCountMax=3",
)

_ANSWER_S = 10.0
"""How long the ssh in the background may take to say which process it is; it takes a millisecond."""

_END_S = 5.0
"""How long the ssh of a machine that has ended may need to notice; the kernel tells it at once."""

_CLEAR = 'for it; do [ ! -S "$it" ] || rm -f "$it" 2>/dev/null || sudo -n rm -f "$it" || exit; done'
"""Remove sockets that an earlier connection left in the guest: its sshd would not bind over them."""


def missing(site: "Site") -> "list[Forward]":
    """Return what only ssh can open and is not open: all of it, or nothing."""
    from .hostfwd import by_hypervisor

    wanted = [forward for forward in site.spec.forwards if not by_hypervisor(forward)]
    return [] if wanted and _alive(site.runtime) else wanted


def establish(site: "Site", deadline: "Deadline", pidfd: int) -> None:
    """Open what is missing, and return once all of it works. `pidfd` is the hypervisor's.

    Raises DriverError in ssh's words.
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
    """Return `forward` as the argument of ssh's -L, or of -R: where it listens, then where it leads. Source: ssh(1)."""
    # Of the guest's own address ssh needs to know no more than that it is the guest's.
    guest_ip = "127.0.0.1" if forward.guest_ip == "0.0.0.0" else forward.guest_ip  # noqa: S104 - no address to bind
    guest = _end(guest_ip, forward.guest_port, forward.guest_socket)
    host_ = _end(forward.host_ip, forward.host_port, forward.host_socket)
    return f"{guest}:{host_}" if forward.reverse else f"{host_}:{guest}"


def condition(runtime: Path) -> str | None:
    """Return DOWN when forwards were open in this run of the machine and are not any more."""
    return DOWN if _recorded(runtime) and not _alive(runtime) else None


def end(runtime: Path) -> None:
    """Return once the ssh of a machine that has ended is gone too; one that does not notice is killed."""
    with hypervisor.held(_recorded(runtime)) as pidfd:
        if pidfd is not None and not hypervisor.wait(pidfd, _END_S):
            hypervisor.end(pidfd, grace_s=0)
    remove_tree(runtime / RECORD)


def _end(ip: str, port: int, socket: str) -> str:
    """Return one end of a rule: ssh splits at colons, and in the path of a socket expands what begins with `%`."""
    if socket:
        return socket.replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")
    return f"[{ip}]:{port}"


def _record(site: "Site") -> bool:
    """Record which process the ssh behind the socket is; False when there is none.

    It went into the background by itself, so nobody but it knows. An ssh that an earlier start began, and did not come
    to record, is found in the same way.
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
    write_whole(site.runtime / RECORD, json.dumps(asdict(actor)).encode() + b"\n")
    return True


def _recorded(runtime: Path) -> Actor | None:
    try:
        return Actor(**json.loads(read_own(runtime / RECORD)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _alive(runtime: Path) -> bool:
    known = _recorded(runtime)
    return known is not None and host.alive(known)
