"""The switch of a network of guests: passes each frame from its sender to the hypervisors that should receive it.

Run as a program with the network's folder. It begins to serve when no other switch does, and serves until it dies:

    lock            locked by the switch that serves; the others wait for it
    switch          its socket, to which the hypervisors send
    KEY.sock        the socket of one hypervisor, at which it receives

Each hypervisor has a switch as a child, so a switch serves whenever a guest runs. A switch keeps no state that the next
one could not learn from a frame or two: it learns where a card is from the frames that the card sends. It imports only
the standard library, and nothing of this package.
"""

import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_MAC_BYTES = 6
_LONGEST_BYTES = 1 << 17
"""A card that leaves checksums and segments to its host sends 64 KiB and headers."""

_PATIENCE = struct.pack("ll", 0, 5000)
"""Seconds and microseconds to wait for a hypervisor that has no room for a frame; then the frame is dropped."""


def main(folder: str) -> None:
    """Serve the network in `folder`, once nobody else does."""
    os.chdir(folder)
    lock = os.open("lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    Path("switch").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as switch:
        switch.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        switch.bind("switch")
        Switch(switch).serve()


class Switch:
    """What is known about a network: which socket leads to each card."""

    def __init__(self, own: socket.socket) -> None:
        self._own = own
        self._places: dict[bytes, str] = {}
        self._full: set[str] = set()
        """Hypervisors that had no room for the last frame, such as paused ones: the switch does not wait for them."""

    def serve(self) -> None:
        """Hand on frames for ever."""
        while True:
            frame, sender = self._own.recvfrom(_LONGEST_BYTES)
            if sender:
                self.hand_on(frame, sender.rpartition("/")[2])

    def hand_on(self, frame: bytes, sender: str) -> None:
        """Send `frame`, which came from the socket `sender`, to its receiver, or to all others if that is unknown."""
        receiver, source = frame[:_MAC_BYTES], frame[_MAC_BYTES : 2 * _MAC_BYTES]
        if len(source) < _MAC_BYTES:
            return
        if not source[0] & 1:  # no card has the address of a group
            self._places[source] = sender
        place = self._places.get(receiver)
        for one in [place] if place else sorted(path.name for path in Path().glob("*.sock")):
            if one != sender:
                self._send(frame, one)

    def _send(self, frame: bytes, place: str) -> None:
        try:
            self._own.sendto(frame, socket.MSG_DONTWAIT, place)
        except BlockingIOError:
            if place not in self._full:
                self._wait(frame, place)
        except OSError:  # it has ended
            self._places = {card: it for card, it in self._places.items() if it != place}
        else:
            self._full.discard(place)

    def _wait(self, frame: bytes, place: str) -> None:
        try:
            self._own.sendto(frame, place)
        except OSError:
            self._full.add(place)


if __name__ == "__main__":
    main(sys.argv[1])
