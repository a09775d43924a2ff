"""When a guest is ready: it shows the host key from its seed, lets us log in, and says that this boot's work is done.

An agent in the guest can say so without a login, which takes an emulated guest seconds. The agent needs no key to
identify itself: it answers on a port of the machine that only root in this guest can open. At a boot, sshd has sent its
greeting by then. A guest that continues from saved memory had a network when it was saved: its agent's answer is
enough.

Less does not prove it: QEMU's user network accepts connections before the guest listens; a banner may come from any ssh
server; a login is possible before the first boot is finished.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

from ..errors import DeadlineError, DriverError
from ..fsm.port import Deadline
from ..host.progress import Report
from ..host.run import run
from . import ssh
from .report import Failure, Steps, bounded_words, lines, parse, parse_so_far
from .seed import BOOTED, EACH_BOOT, NEWS, REPORT
from .session import OPTIONS, Endpoint, GuestGoneError, Wait

__all__ = ["Endpoint", "Failure", "GuestGoneError", "wait_until_ready"]

WAITING_FOR_SSH = "waiting for ssh"
WAITING_FOR_FIRST_BOOT = "waiting for first boot to finish"

_RETRY_S = 0.03
"""Pause between attempts while the guest refuses connections: its network is up, but its sshd is not."""

_CONNECT_S, _ABSENT_S = 0.5, 0.2
"""How long to wait for a connection to a guest with an address of its own, and between attempts: nothing answers there
until the guest is up."""

_NOBODY = (errno.EHOSTUNREACH, errno.ENETUNREACH)

_FIRST_AGAIN_S, _LAST_AGAIN_S = 1.0, 5.0
"""Pauses after a session that the guest ended: its sshd is up, but the user does not exist yet. OpenSSH 9.8 adds a
penalty of five seconds for each failure, and refuses all connections at fifteen (PerSourcePenalties)."""

_ASLEEP_TURN_S = 6.0
_FIRST_TURN_S, _LAST_TURN_S = 0.15, 5.0
_TURN_GROWTH = 1.4
"""How long to wait for a greeting before opening another connection beside the waiting ones. A connection that was
opened before the guest had an address is stuck for six seconds, until QEMU retries it. But QEMU never drops one, even
if we close it: each reaches the guest in the end, and an sshd that gets dozens of them refuses new ones."""

UNFINISHED = "the rest of the boot's work"

_SET_CLOCK = """\
now=$(cat /sys/class/rtc/rtc0/since_epoch 2>&-) && { sudo -n date -u -s "@$now" || date -u -s "@$now"; } >&- 2>&-
"""
"""Sets the clock of a guest that stood still: the machine's own clock kept running, and any user may read it.

Source: Linux, Documentation/ABI/testing/rtc-cdev and drivers/rtc/sysfs.c."""

_OVER = f"""\
echo >&2
read -r boot </proc/sys/kernel/random/boot_id
is_of_this_boot() {{ [ -r "$1" ] && read -r of <"$1" && [ "$of" = "$boot" ]; }}
over() {{ [ "$(cat {BOOTED} 2>&-)" = "$1" ] && {{ [ ! -e {EACH_BOOT} ] || is_of_this_boot {REPORT}; }}; }}
heard= half=
hear() {{
    [ -n "$heard" ] || {{ is_of_this_boot {NEWS} && exec 4<{NEWS} && heard=yes; }} || return
    while IFS= read -r line <&4; do printf '%s\\n' "$half$line" >&2 && half=; done
    half=$half$line
}}
until over "$1"; do hear; sleep 0.1 || exit; done
! is_of_this_boot {REPORT} || cat {REPORT} >&2
exit 0"""
"""Ends when this boot's work does. The first byte shows that the login succeeded; then follows each failure as it
happens, and at the end every step whose last run failed."""


def wait_until_ready(
    endpoint: Endpoint,
    deadline: Deadline,
    pidfd: int,
    report: Report,
    look: Callable[[], bool] = lambda: True,
    *,
    agent: Callable[[], bool | None] = lambda: False,
    resumed: bool = False,
) -> tuple[Failure, ...]:
    """Return once the guest behind `endpoint` is ready, with what failed in this boot's work, in order.

    Each failure is reported as soon as it is known. `look` is called repeatedly, returns whether the guest has begun to
    use its network, and may raise. `agent` asks the agent in the guest, and returns True if the guest is ready and
    nothing failed, None if it soon will be, False if only a login can tell. `resumed`: the guest has stood still, so a
    login sets its clock, too.

    When time is up and something has failed, returns the failures all the same, so that the guest can be examined, with
    UNFINISHED as one more; if nothing has failed, raises DeadlineError. Raises GuestGoneError when the machine died,
    DriverError when something other than the instance's own guest answers.
    """
    wait = Wait(deadline, pidfd, look)
    steps = Steps(report)
    again_s = _FIRST_AGAIN_S
    refusal: list[str] = []
    try:
        while True:
            with _greeted_by(endpoint, wait, report) as connection:
                while (ready := agent()) is None:
                    report(WAITING_FOR_FIRST_BOOT)
                    wait.pause(0)
                if ready:
                    return ()
                first = _SET_CLOCK if resumed else ""
                failures, refusal = _failures(endpoint, connection, wait, steps, report, first=first)
            if failures is not None:
                for failure in failures:
                    steps.fail(failure)
                return failures
            wait.pause(again_s)
            again_s = min(_LAST_AGAIN_S, 2 * again_s)
    except DeadlineError as error:
        raise DeadlineError(error.message, hint=error.hint, details=[*refusal, *error.details]) from error


def _greeted_by(endpoint: Endpoint, wait: Wait, report: Report) -> socket.socket:
    """Return a connection on which an ssh server at `endpoint` has sent its greeting, which is still unread.

    Source: RFC 4253, section 4.2.
    """
    turn_s = _FIRST_TURN_S
    waiting: dict[int, socket.socket] = {}
    try:
        while True:
            if connection := _connected(endpoint):
                waiting[connection.fileno()] = connection
            elif not waiting:
                wait.pause(_ABSENT_S)
                continue
            ready = wait.pause(turn_s if wait.awake else _ASLEEP_TURN_S, *waiting)
            for descriptor in ready:
                connection = waiting.pop(descriptor)
                greets = _greets(connection)
                if greets or wait.awake:
                    # The guest greeted or closed it, so it has a network, and no connection gets stuck any more.
                    # Before that, a closed connection is one that QEMU could not deliver.
                    turn_s = _LAST_TURN_S
                    report(WAITING_FOR_SSH)
                if greets:
                    return connection
                connection.close()
            if ready:
                wait.pause(_RETRY_S)
            elif wait.awake:
                turn_s = min(_LAST_TURN_S, turn_s * _TURN_GROWTH)
    finally:
        for connection in waiting.values():
            connection.close()


def _connected(endpoint: Endpoint) -> socket.socket | None:
    """Return a connection to `endpoint`; None if its address does not answer, or nothing listens there."""
    try:
        connection = socket.create_connection((endpoint.address, endpoint.port), _CONNECT_S)
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError) or error.errno in _NOBODY:
            return None
        raise
    connection.setblocking(True)  # noqa: FBT003 - its one parameter
    return connection


def _greets(connection: socket.socket) -> bool:
    """Return whether the unread data begins with ssh's greeting, without consuming it."""
    with suppress(ConnectionError):
        return connection.recv(4, socket.MSG_PEEK) == b"SSH-"
    return False


def _failures(
    endpoint: Endpoint, connection: socket.socket, wait: Wait, steps: Steps, report: Report, *, first: str
) -> tuple[tuple[Failure, ...] | None, list[str]]:
    """Return what failed, once the guest says over ssh that it is done, and the output of ssh.

    What failed is None if the login was refused or the session ended.

    One session waits inside the guest, because repeated logins would cost an emulated guest more than its boot does. It
    uses the connection that has the greeting: an emulated sshd needs a tenth of a second to send another.
    """
    # `-`: ssh uses its stdin and stdout as the connection, so the session's own output can only go to stderr.
    options = ("ProxyCommand=-", "ControlPath=none", "StdinNull=yes", *OPTIONS)
    question = ["sh", "-c", first + _OVER, "sh", endpoint.instance_id]
    command = ssh.command_line(endpoint.config, endpoint.name, question, options=options)
    words = bounded_words()

    def hear(said: bytes) -> None:
        # The first byte shows that the login succeeded.
        if not words and said.startswith(b"\n"):
            report(WAITING_FOR_FIRST_BOOT)
        words.hear(said)
        steps.hear(said)

    end = connection.fileno()
    try:
        ended = run(command, stdin=end, stdout=end, stderr=hear, wait=wait.pause)
    except DeadlineError:
        if failures := parse_so_far(bytes(words)):
            return (*failures, Failure(UNFINISHED, 0, ("it did not end in time",))), []
        raise
    if ended.status == 0:
        return parse(bytes(words)), []
    if b"Host key verification failed" in bytes(words):
        raise DriverError(
            f"what answers on {endpoint.address}:{endpoint.port} is not this guest: it shows another host key",
            details=lines(bytes(words)),
        )
    return None, lines(bytes(words))
