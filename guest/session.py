"""One command in a guest, run over ssh and watched from the host.

A wait watches three things at once: the guest, the deadline, and the machine's pidfd, which becomes readable when the
machine dies, so that a wait ends at the same moment as its machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeadlineError
from ..fsm.port import Deadline
from ..host import cancellation
from ..host.run import MERGED
from ..host.run import run as run_on_host
from . import ssh

_LOOK_S = 0.1
"""How often to check for changes that no file descriptor signals."""

_SILENCE_S = 5
"""Seconds of silence after which ssh asks the guest for a sign of life, because it may have rebooted."""

OPTIONS = (*ssh.UNATTENDED, f"ServerAliveInterval={_SILENCE_S}")
"""For sessions that wait for something in the guest: they notice when the guest is gone."""


class GuestGoneError(Exception):
    """The machine died during the wait. The driver knows why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a guest answers, and how to recognise it."""

    name: str
    config: Path
    """The ssh_config(5) that leads to it."""
    port: int
    instance_id: str
    address: str = ssh.LOOPBACK
    """The address of that port: this host's loopback for a guest behind QEMU's user network."""


class Wait:
    """A wait for something in a guest, and what ends it early: the deadline, the machine's death, a signal."""

    def __init__(self, deadline: Deadline, pidfd: int, look: Callable[[], bool] = lambda: True) -> None:
        self.awake = False
        """True once `look` has found that the guest uses its network."""
        self._deadline = deadline
        self._pidfd = pidfd
        self._look = look

    def pause(self, seconds: float, *descriptors: int) -> list[int]:
        """Return the readable ones of `descriptors`, as soon as there are any; an empty list after `seconds`, or when
        the guest begins to use its network.

        Raises DeadlineError when time is up, GuestGoneError when the machine died.
        """
        turn = Deadline(seconds)
        while True:
            slept, self.awake = not self.awake, self._look()
            if slept and self.awake:
                return []
            if self._deadline.passed:
                raise DeadlineError(f"the guest did not answer within {self._deadline.seconds:g} s")
            look_s = min(turn.remaining_s, self._deadline.remaining_s, _LOOK_S)
            ready = cancellation.readable(look_s, (self._pidfd, *descriptors))
            if self._pidfd in ready:
                raise GuestGoneError
            if ready or turn.passed:
                return ready


def run(
    endpoint: Endpoint,
    command: Sequence[str],
    wait: Wait,
    *,
    stdin: bytes = b"",
    hear: Callable[[bytes], object] = lambda _: None,
) -> int:
    """Run `command` in the guest as its user and return its exit status; 255 when ssh itself failed.

    `hear` gets the output on stdout and stderr, piece by piece. Raises what `wait` raises, after ending the session.
    """
    line = ssh.command_line(endpoint.config, endpoint.name, command, options=OPTIONS)
    return run_on_host(line, stdin=stdin, stdout=hear, stderr=MERGED, wait=wait.pause).status
