"""When a guest is ready: it shows the key it was given, lets us in, and says that its first boot is over.

Nothing less proves it. A connection proves nothing, because QEMU's user network accepts before the guest listens; a
banner proves a program that speaks ssh, not which one; a login proves no finished first boot.

A wait watches three things at once: the guest, the deadline, and a *lifeline*, a descriptor that becomes readable when
the machine is dead (a pidfd), so that the end of the machine ends the wait in the same moment.
"""

import os
import select
import shlex
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..fsm.errors import DeadlineError, DriverError
from ..fsm.port import Deadline, Report
from . import ssh
from .seed import BOOTED

WAITING_FOR_SSH = "waiting for ssh"
WAITING_FOR_FIRST_BOOT = "waiting for first boot to finish"

_LOOK_S = 0.1
"""How often to look at what cannot be waited for."""

_RETRY_S = 0.03
"""Between two attempts while the guest refuses connections: its network is up, its sshd about to be."""

_FIRST_AGAIN_S, _LAST_AGAIN_S = 1.0, 5.0
"""Between two sessions that the guest ends: its sshd is up, the user it shall let in is not yet made. An sshd of
OpenSSH 9.8 holds each failure against us for five seconds and, at fifteen, lets nobody in (PerSourcePenalties)."""

_ASLEEP_TURN_S = 6.0
_FIRST_TURN_S, _LAST_TURN_S = 0.15, 5.0
_TURN_GROWTH = 1.4
"""How long to wait for a greeting before another connection is made beside those that wait. One that was made before
the guest had an address is lost for six seconds: that is when QEMU tries to carry it again. But QEMU never forgets one,
also not if we hang up: each reaches the guest in the end, and an sshd that is met by dozens turns newcomers away."""

_ASLEEP_S = 5
"""Seconds without a sign from the guest after which its session is given up: it rebooted, say."""


class GuestGoneError(Exception):
    """The machine died while its guest was waited for. Whoever holds the lifeline knows why."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a guest will answer, and how it is known."""

    name: str
    config: Path
    """The ssh_config(5) that leads to it."""
    port: int
    instance_id: str


def wait(
    door: Door, deadline: Deadline, lifeline: int, report: Report, look: Callable[[], bool] = lambda: True
) -> None:
    """Return once the guest behind `door` is ready.

    `look` is called now and then, says whether the guest has begun to use its network, and may raise.

    Raises DeadlineError when time is up, GuestGoneError when the machine died, DriverError when another than the
    instance's own guest answers.
    """
    patience = _Patience(deadline, lifeline, look)
    again_s = _FIRST_AGAIN_S
    while True:
        with _greeted_by(door.port, patience, report) as connection:
            if _first_boot_is_over(door, connection, patience, report):
                return
        patience.pause(again_s)
        again_s = min(_LAST_AGAIN_S, 2 * again_s)


class _Patience:
    """What ends a wait before its time, asked at every turn of it."""

    def __init__(self, deadline: Deadline, lifeline: int, look: Callable[[], bool]) -> None:
        self.awake = False
        """True once the guest has begun to use its network."""
        self._deadline = deadline
        self._lifeline = lifeline
        self._look = look

    def pause(self, seconds: float, *descriptors: int) -> list[int]:
        """Return those of `descriptors` that can be read, as soon as there are any; none after `seconds` or when the
        guest wakes."""
        turn = Deadline(seconds)
        poll = select.poll()
        for watched in (self._lifeline, *descriptors):
            poll.register(watched, select.POLLIN)
        while True:
            slept, self.awake = not self.awake, self._look()
            if slept and self.awake:
                return []
            if self._deadline.passed:
                raise DeadlineError(f"the guest did not answer within {self._deadline.seconds:g} s")
            ready = [fd for fd, _ in poll.poll(1000 * min(turn.remaining_s, self._deadline.remaining_s, _LOOK_S))]
            if self._lifeline in ready:
                raise GuestGoneError
            if ready or turn.passed:
                return ready


def _greeted_by(port: int, patience: _Patience, report: Report) -> socket.socket:
    """Return a connection in which something behind `port` has begun to speak ssh; its greeting is still to be read.

    Source: RFC 4253, section 4.2.
    """
    turn_s = _FIRST_TURN_S
    waiting: dict[int, socket.socket] = {}
    try:
        while True:
            with suppress(ConnectionError):
                connection = socket.create_connection(("127.0.0.1", port))
                waiting[connection.fileno()] = connection
            ready = patience.pause(turn_s if patience.awake else _ASLEEP_TURN_S, *waiting)
            for descriptor in ready:
                # Greeted or closed, it is the guest's doing, which therefore has a network: none is lost any more.
                turn_s = _LAST_TURN_S
                report(WAITING_FOR_SSH)
                connection = waiting.pop(descriptor)
                if _greets(connection):
                    return connection
                connection.close()
            if ready:
                patience.pause(_RETRY_S)
            elif patience.awake:
                turn_s = min(_LAST_TURN_S, turn_s * _TURN_GROWTH)
    finally:
        for connection in waiting.values():
            connection.close()


def _greets(connection: socket.socket) -> bool:
    """Return whether what is there to read begins as ssh does, and leave it to be read."""
    with suppress(ConnectionError):
        return connection.recv(4, socket.MSG_PEEK) == b"SSH-"
    return False


def _first_boot_is_over(door: Door, connection: socket.socket, patience: _Patience, report: Report) -> bool:
    """Return True once the guest has said so over ssh, False when it let nobody in or hung up.

    One session waits inside the guest: to log in again and again would cost an emulated guest more than its boot. It
    goes through the connection that was greeted, because an emulated sshd needs a tenth of a second to greet another.
    """
    loop = f'echo >&2; until [ "$(cat {BOOTED} 2>&-)" = {shlex.quote(door.instance_id)} ]; do sleep 0.1 || exit; done'
    # `-`: what ssh was given as stdin and stdout is the connection; so the session's own words may go to stderr only.
    options = ("ProxyCommand=-", "BatchMode=yes", f"ServerAliveInterval={_ASLEEP_S}", "StdinNull=yes")
    command = ssh.command_line(door.config, door.name, ["sh", "-c", loop], options=options)
    with subprocess.Popen(
        command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=subprocess.PIPE
    ) as session:
        assert session.stderr  # noqa: S101 - for the type checker: it is a pipe
        words = b""
        try:
            # The first byte says that it let us in, the end of the output that the session is over.
            while True:
                if patience.pause(_LAST_TURN_S, session.stderr.fileno()):
                    said = os.read(session.stderr.fileno(), 4096)
                    if not said:
                        break
                    words += said
                    if said.startswith(b"\n"):
                        report(WAITING_FOR_FIRST_BOOT)
        finally:
            session.kill()
    if session.returncode == 0:
        return True
    if b"Host key verification failed" in words:
        raise DriverError(
            f"what answers on 127.0.0.1:{door.port} is not this guest: it shows another host key",
            details=words.decode(errors="replace").splitlines(),
        )
    return False
