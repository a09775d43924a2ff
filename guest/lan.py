"""A guest's address on the network that it shares with the guests of its home's other instances.

The address is derived from the instance's unique id, so addresses are neither assigned nor recorded: a copy gets its
own, and a renamed instance keeps its address. With ten guests, two of them have the same address in one home out of
three thousand; `start` refuses the second one (drivers/qemu/lan.py).

The network is 198.18.0.0/15, which is reserved for benchmarks: it is not on the internet, homes and offices do not use
it, and neither do container engines in guests. Source: RFC 2544, appendix C.2.2; RFC 6890.
"""

from hashlib import sha256
from typing import NamedTuple

_NETWORK = 198 << 24 | 18 << 16
_PREFIX = 15
_PLACES = (1 << (32 - _PREFIX)) - 2
"""How many addresses guests can have: all but the first and the last, the addresses of the network and of broadcast."""


class Place(NamedTuple):
    """One guest's place on the network."""

    address: str
    """`198.18.7.9`"""
    mac: str
    """The address of its card: `52:55:00:11:22:33`, a locally administered one."""

    @property
    def with_prefix(self) -> str:
        """Return the address as the guest's card has it: `198.18.7.9/15`."""
        return f"{self.address}/{_PREFIX}"


def place(instance_id: str) -> Place:
    """Return the place of the guest whose instance has the id `instance_id`."""
    digest = sha256(instance_id.encode()).digest()
    number = _NETWORK + 1 + int.from_bytes(digest[:8]) % _PLACES
    address = ".".join(str(byte) for byte in number.to_bytes(4))
    return Place(address, ":".join(f"{byte:02x}" for byte in (0x52, 0x55, *digest[8:12])))


def names(name: str) -> tuple[str, str]:
    """Return the names by which other guests know the guest of the instance `name`: in Lima's form, and in our own."""
    return f"lima-{name}.internal", f"{name}.interlock.internal"
