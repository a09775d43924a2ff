"""Port forwards that only ssh can open: to the guest's loopback, and to and from its sockets.

All of an instance's go through the connection that its sessions share (`ssh_control`), once the guest is ready:

    runtime/forwards.json    pid, start time and boot of the ssh process that has them open

They end with it: at once when the hypervisor ends, and after a while when the guest reboots. A connection that is
opened later has another process, and no forwards until `establish` opens them again.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ...host import process as host
from ...host.files import read_own, remove_tree
from ...host.process import Actor
from . import hypervisor, ssh_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...fsm.spec import Forward
    from ...host.run import Ended
    from ..contract import Deadline, Site

RECORD = "forwards.json"

DOWN = "port forwards are down"

_FAILED = "cannot forward ports"

_ANSWER_S = 10.0
"""How long ssh may take to answer; usually a millisecond."""

_END_S = 5.0
"""How long the ssh of a machine that ended may take to notice; usually it ends at once."""

_CLEAR = 'for it; do [ ! -S "$it" ] || rm -f "$it" 2>/dev/null || sudo -n rm -f "$it" || exit; done'
"""Removes sockets that an earlier connection left in the guest, because its sshd does not bind over them."""


def missing(site: "Site") -> "list[Forward]":
    """Return the forwards that only ssh can open, or nothing if they are open."""
    wanted = _by_ssh(site.spec.forwards)
    return [] if wanted and _alive(site.runtime) else wanted


def _by_ssh(forwards: "Sequence[Forward]") -> "list[Forward]":
    from .hostfwd import by_hypervisor

    return [forward for forward in forwards if not by_hypervisor(forward)]


def establish(site: "Site", deadline: "Deadline", pidfd: int) -> None:
    """Open the missing forwards, and return once all of them work. `pidfd` is the hypervisor's.

    Raises DriverError with ssh's words.
    """
    _open(site, missing(site), deadline, pidfd)


def _open(site: "Site", wanted: "list[Forward]", deadline: "Deadline", pidfd: int) -> None:
    """Open `wanted`, and return once all of them work."""
    from ...errors import DriverError
    from ...guest import session, ssh
    from ...host.files import make_private_directory
    from ...host.run import run
    from .host_ports import check_socket

    wait = session.Wait(deadline, pidfd).pause
    if not wanted:
        return
    for forward in wanted:
        if forward.host_socket and not forward.reverse:
            check_socket(forward.host_socket)
            make_private_directory(Path(forward.host_socket).parent)
    if not ssh_control.opened(site.runtime, wait):
        raise DriverError(f"{_FAILED}: ssh did not open a connection", hint=f"interlock restart {site.name}")
    if left := [forward.guest_socket for forward in wanted if forward.reverse and forward.guest_socket]:
        clear = ["sh", "-c", _CLEAR, "sh", *left]
        run(ssh.command_line(site.directory / ssh.CONFIG, site.name, clear, options=session.OPTIONS), wait=wait)
    for forward in wanted:
        if (words := ask(site, "forward", forward)) is not None:
            raise DriverError(f"{_FAILED}: {rule(forward)} was refused", details=words)
    if not _record(site):
        raise DriverError(f"{_FAILED}: the connection ended", hint=f"interlock resume {site.name}")


def change(
    site: "Site", gone: "Sequence[Forward]", come: "Sequence[Forward]", deadline: "Deadline", pidfd: int
) -> None:
    """Close what ssh carries of `gone`, and open what it carries of `come`; the others stay open, or are opened again.

    Raises DriverError with ssh's words.
    """
    if not _alive(site.runtime):
        return establish(site, deadline, pidfd)
    for forward in _by_ssh(gone):
        ask(site, "cancel", forward)
        if forward.host_socket and not forward.reverse:
            remove_tree(Path(forward.host_socket))
    return _open(site, _by_ssh(come), deadline, pidfd)


def ask(site: "Site", command: str, forward: "Forward") -> tuple[str, ...] | None:
    """Let the shared connection open `forward` (`forward`) or close it (`cancel`); return its words where it refuses.

    To open what is open, and to close what is closed, changes nothing.
    """
    ended = _ask(site, command, "-R" if forward.reverse else "-L", rule(forward))
    return ended.words if ended.status else None


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
    """Return once the ssh of a machine that ended is gone too; one that an older version left is killed if need be."""
    with hypervisor.held(_recorded(runtime)) as pidfd:
        if pidfd is not None and not hypervisor.wait(pidfd, _END_S):
            hypervisor.end(pidfd, grace_s=0)
    remove_tree(runtime / RECORD)


def _end(ip: str, port: int, socket: str) -> str:
    """Return one end of a rule: ssh splits at colons, and expands `%` in the path of a socket."""
    if socket:
        return socket.replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")
    return f"[{ip}]:{port}"


def connection(site: "Site") -> Actor | None:
    """Return the process of the shared connection; None if it is not open."""
    import re

    found = re.search(rb"\(pid=(\d+)\)", _ask(site, "check").stdout)
    ticks = host.started_ticks(int(found[1])) if found else None
    return Actor(int(found[1]), ticks, host.boot_id()) if found and ticks is not None else None


def _ask(site: "Site", command: str, *arguments: str) -> "Ended":
    """Ask the ssh behind the socket for `command` of its -O. Source: ssh(1)."""
    from ...guest import ssh
    from ...host.run import MERGED, run

    place = ("-F", str(site.directory / ssh.CONFIG), "-S", str(site.runtime / ssh_control.SOCKET))
    return run(["ssh", *place, "-O", command, *arguments, site.name], stderr=MERGED, timeout_s=_ANSWER_S)


def _record(site: "Site") -> bool:
    """Record which process the ssh behind the socket is; False if there is none."""
    from ...host.files import write_whole

    actor = connection(site)
    if actor is None:
        return False
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
