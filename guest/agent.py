"""The host's half of the protocol with the agent in a guest (guest/agent.sh), with bounds on what it reads.

A request is one line, NONCE VERB ARGUMENT, and so is its answer, NONCE ok WORDS or NONCE failed REASON. Other lines are
skipped: the guest may flood the port, and the answer to an earlier request may arrive late.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import DriverError
from .report import lines

PORT = "interlock.agent"
"""The name of the virtio-serial port in the guest."""

_ANSWER_BYTES = 8 << 10
"""Longer lines are skipped. The agent's own lines are at most half as long."""

_HEARD_BYTES = 1 << 20
"""A request fails if the guest sends more than this without answering it."""

_NUMBERS_BELOW = 1 << 50

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:@+,=")


class AgentError(DriverError):
    """The agent gave no answer, or said that it failed."""


class Load(NamedTuple):
    """How busy a guest is, as its agent reports it."""

    load: tuple[float, float, float]
    """Of the last 1, 5 and 15 minutes."""
    available_bytes: int
    """Memory available to programs without swapping."""
    uptime_s: float


class Exchange:
    """One request, and the answer to it."""

    def __init__(self, verb: str, argument: str = "", content: bytes = b"") -> None:
        """`content` is sent after the request, whose argument states its length."""
        self._nonce = os.urandom(8).hex()
        self._verb = verb
        self._heard = 0
        self._rest = b""
        self.request = f"{self._nonce} {verb} {argument}".rstrip().encode() + b"\n" + content

    def hear(self, piece: bytes) -> str | None:
        """Take the next piece of the guest's output; return the words of the answer once it is complete.

        Raises AgentError if the answer is `failed`, or if the guest sends too much without answering.
        """
        self._heard += len(piece)
        if self._heard > _HEARD_BYTES:
            raise AgentError(f"the guest floods its port instead of answering {self._verb}")
        *whole, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[: _ANSWER_BYTES + 1]
        for line in whole:
            if len(line) <= _ANSWER_BYTES and line.startswith(f"{self._nonce} ".encode()):
                return self._words(line)
        return None

    def _words(self, line: bytes) -> str:
        said = (lines(line.partition(b" ")[2]) or [""])[0]
        how, _, words = said.partition(" ")
        if how != "ok":
            raise AgentError(f"the agent in the guest failed at {self._verb}: {words or said or 'no reason given'}")
        return words


def escaped(facts: Mapping[str, bytes]) -> str:
    """Return `facts` as one line of words, NAME=VALUE, the values escaped as for %b of printf(1)."""
    return " ".join(f"{name}={''.join(map(_escaped, value))}" for name, value in facts.items())


def _escaped(byte: int) -> str:
    return chr(byte) if byte in _PLAIN else f"\\0{byte:03o}"


def listening(words: str) -> frozenset[tuple[str, int]]:
    """Return the address and port of each TCP socket that the guest lists as listening; other words are skipped.

    Source: proc(5), /proc/net/tcp.
    """
    return frozenset(found for word in words.split() if (found := _address(word)))


def _address(word: str) -> tuple[str, int] | None:
    from ipaddress import ip_address

    table, _, rest = word.partition(":")
    number, _, port = rest.partition(":")
    try:
        packed = b"".join(group[::-1] for group in _groups(bytes.fromhex(number)))
        return (str(ip_address(packed)), int(port, 16)) if table in ("tcp", "tcp6") and len(port) == 4 else None  # noqa: PLR2004
    except ValueError:
        return None


def _groups(address: bytes) -> Iterable[bytes]:
    """Yield the 32-bit groups of an address; the kernel writes each as a number in little-endian byte order."""
    return (address[at : at + 4] for at in range(0, len(address), 4))


def load(words: str) -> Load:
    """Return the load that the guest's `words` state; raises AgentError if they state no load."""
    try:
        one, five, fifteen, available, uptime = numbers = [float(word) for word in words.split()]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < _NUMBERS_BELOW for number in numbers):  # false for NaN
        raise AgentError("the guest does not say how busy it is")
    return Load((one, five, fifteen), int(available) << 10, uptime)
