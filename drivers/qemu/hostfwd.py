"""The ways into a guest that QEMU's own user network opens, and whether this host has room for all of them.

QEMU carries what arrives at a host port to the guest's own address, over TCP or UDP. What it cannot do, reach the
guest's loopback or a socket, say, is done over ssh: `ssh_forwards.py`.
"""

import socket
from collections.abc import Sequence

from ...errors import DriverError
from ...fsm.spec import Forward
from . import host_ports

OWN_ADDRESS = "0.0.0.0"  # noqa: S104 - the guest's, not ours
"""Stands for the guest's own address, whatever that is."""


def by_hypervisor(forward: Forward) -> bool:
    """True when QEMU itself carries `forward`; otherwise ssh does."""
    if forward.proto == "udp":
        return True
    plain = forward.host_port and forward.guest_port and not forward.reverse
    return bool(plain) and _carried(forward)


def rules(forwards: Sequence[Forward]) -> list[str]:
    """Return QEMU's `hostfwd` for each forward that is its own: `tcp:127.0.0.1:8080-:80`."""
    own = [forward for forward in forwards if by_hypervisor(forward)]
    return [f"{it.proto}:{it.host_ip}:{it.host_port}-:{it.guest_port}" for it in own]


def check(forwards: Sequence[Forward]) -> None:
    """Raise DriverError naming the owner when a host port that `forwards` ask for is taken or cannot be had."""
    for forward in forwards:
        if forward.proto == "udp" and not _carried(forward):
            raise DriverError(
                f"cannot forward UDP from {forward.host_ip} to {forward.guest_ip}: QEMU's network carries UDP from an "
                f"IPv4 address of the host's to the guest's own address, {OWN_ADDRESS}, only"
            )
        if forward.host_port and not forward.reverse:
            host_ports.check_free(forward.host_ip, forward.host_port, forward.proto)
        if forward.host_socket and not forward.reverse:
            host_ports.check_socket(forward.host_socket)


def _carried(forward: Forward) -> bool:
    """True when QEMU's network carries between these addresses: from IPv4, to the guest's own."""
    return forward.guest_ip == OWN_ADDRESS and host_ports.family(forward.host_ip) == socket.AF_INET
