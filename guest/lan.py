"""Where a guest is on the network that it shares with the guests of its home's other instances.

It follows from the instance's id, which no other instance has, so nobody hands out addresses and nobody keeps a list:
a copy has its own, and one that is renamed keeps it. Of ten guests two have the same one in one home of three thousand;
`start` refuses the second of them (drivers/qemu/lan.py).

The network is 198.18.0.0/15: reserved for trials, so it is neither on the internet, nor the network of a home or an
office, nor one that programs in guests choose for their containers. Source: RFC 2544, appendix C.2.2; RFC 6890.
"""

from hashlib import sha256
from typing import NamedTuple

_NETWORK = 198 << 24 | 18 << 16
_PREFIX = 15
_PLACES = (1 << (32 - _PREFIX)) - 2
"""Without the first and the last, which mean the network, and everybody in it."""


class Place(NamedTuple):
    """One guest's place on the network."""

    address: str
    """`198.18.7.9`"""
    mac: str
    """Of its card: `52:55:00:11:22:33`, of the kind that nobody makes."""

    @property
    def with_prefix(self) -> str:
        """Return the address as the guest's card has it: `198.18.7.9/15`."""
        return f"{self.address}/{_PREFIX}"


def place(instance_id: str) -> Place:
    """Return the place of the guest of the instance with that id."""
    digest = sha256(instance_id.encode()).digest()
    number = _NETWORK + 1 + int.from_bytes(digest[:8]) % _PLACES
    address = ".".join(str(byte) for byte in number.to_bytes(4))
    return Place(address, ":".join(f"{byte:02x}" for byte in (0x52, 0x55, *digest[8:12])))


def names(name: str) -> tuple[str, str]:
    """Return what guests call the one of the instance `name`: as Lima's do, and beside host.interlock.internal."""
    return f"lima-{name}.internal", f"{name}.interlock.internal"
