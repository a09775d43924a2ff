"""Port forwards that QEMU's own user network carries, and whether this host's end of every forward is free.

QEMU carries TCP and UDP from a host port to the guest's own address. What it cannot do, such as reaching the guest's
loopback or a socket, is done over ssh: `ssh_forwards.py`.
"""

import socket
from collections.abc import Sequence

from ...errors import DriverError
from ...fsm.spec import Forward
from ..contract import Site
from . import host_ports, ssh_port
from .monitor import Monitor

NETWORK = "net"
"""What QEMU calls the network of the guest's card."""

OWN_ADDRESS = "0.0.0.0"  # noqa: S104 - the guest's, not ours
"""Stands for the guest's own address."""


def by_hypervisor(forward: Forward) -> bool:
    """True when QEMU itself carries `forward`; otherwise ssh does."""
    if forward.proto == "udp":
        return True
    plain = forward.host_port and forward.guest_port and not forward.reverse
    return bool(plain) and _carried(forward)


def rules(forwards: Sequence[Forward]) -> list[str]:
    """Return QEMU's `hostfwd` for each forward that it carries: `tcp:127.0.0.1:8080-:80`."""
    own = [forward for forward in forwards if by_hypervisor(forward)]
    return [f"{_host_end(it)}-:{it.guest_port}" for it in own]


def change(site: Site, gone: Sequence[Forward], come: Sequence[Forward]) -> None:
    """Let the hypervisor of `site`, which runs, close what it carries of `gone` and open what it carries of `come`.

    What is closed or open already stays so. Raises DriverError for a port that is taken. Source: QEMU, hmp-commands.hx.
    """
    gone, come = ([forward for forward in forwards if by_hypervisor(forward)] for forwards in (gone, come))
    ssh = ("tcp", ssh_port.recorded(site.directory))
    with Monitor(site.runtime) as monitor:
        for forward in gone:
            _tell(monitor, f"hostfwd_remove {NETWORK} {_host_end(forward)}")
        for forward in come:
            if ssh == (forward.proto, forward.host_port):
                raise DriverError(f"port {forward.host_port} is the one by which ssh reaches the guest")
            _tell(monitor, f"hostfwd_remove {NETWORK} {_host_end(forward)}")
            if words := _tell(monitor, f"hostfwd_add {NETWORK} {_host_end(forward)}-:{forward.guest_port}"):
                host_ports.check_free(forward.host_ip, forward.host_port, forward.proto)
                raise DriverError(f"cannot forward {forward.host_ip}:{forward.host_port}: {words}")


def _tell(monitor: Monitor, command: str) -> str:
    """Return what QEMU says to a command for people."""
    return str(monitor.ask("human-monitor-command", command_line=command)).strip()


def _host_end(forward: Forward) -> str:
    return f"{forward.proto}:{forward.host_ip}:{forward.host_port}"


def check(forwards: Sequence[Forward]) -> None:
    """Raise DriverError when a host port or socket of `forwards` is taken, or nothing here can carry the forward."""
    for forward in forwards:
        if forward.proto == "udp" and not _carried(forward):
            raise DriverError(
                f"cannot forward UDP from {forward.host_ip} to {forward.guest_ip}: QEMU's network carries UDP "
                f"only from an IPv4 address of the host to the guest's own address, {OWN_ADDRESS}"
            )
        if forward.host_port and not forward.reverse:
            host_ports.check_free(forward.host_ip, forward.host_port, forward.proto)
        if forward.host_socket and not forward.reverse:
            host_ports.check_socket(forward.host_socket)


def _carried(forward: Forward) -> bool:
    """True when QEMU's network carries between these addresses: from IPv4, to the guest's own."""
    return forward.guest_ip == OWN_ADDRESS and host_ports.family(forward.host_ip) == socket.AF_INET
