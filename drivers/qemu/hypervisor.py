"""The hypervisor's process: known before it exists, found again by anyone, signalled only when it is proved.

Nothing of ours stays resident, so whoever comes later must find the process by what lies in the directory:

    the directory   locked (`host.life`) by the hypervisor's descriptor 9, for as long as it lives
    hypervisor.id   two lines: /proc/PID/stat as it was at the beginning, and the boot's id

The lock says whether it lives. It is taken before the process exists, and a second launch finds it taken. The record
says which process is likely to be it, and who ran last. A shell writes it about itself and then *becomes* the
hypervisor (exec keeps pid and start time). Where the record is damaged, the process is found by the lock.

Programs that serve a hypervisor (virtiofsd) are started by that shell. So they are its children, and the kernel kills
them with it.
"""

import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import DriverError, OutOfReachError
from ...host import cancellation, life, process
from ...host.files import PRIVATE_UMASK, open_private, read_own
from ...host.life import Life
from ...host.process import Actor
from . import logs

RECORD = "hypervisor.id"

_RECORD_BYTES, _LOG_BYTES = 4096, 65536
"""As much as is read of each: of the record its beginning, of the log its end."""

_SIGN = """\
exec 9<&0 </dev/null
read -r stat </proc/$$/stat && read -r boot </proc/sys/kernel/random/boot_id &&
printf '%s\\n%s\\n' "$stat" "$boot" || exit
"""

_SERVE = """\
listens() {
    while read -r _ _ _ flags _ _ _ path; do
        [ "$flags $path" = "00010000 $1" ] && return
    done </proc/net/unix
    return 1
}
serve() {
    socket=$1
    shift
    rm -f "$socket"
    setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$0" ] && exec "$@"' $$ "$@" >&2 4>&- 5>&- 9<&- &
    until listens "$socket"; do
        sleep 0.01
        kill -0 $! 2>/dev/null || exit 1
    done
}
"""
"""Start a program that dies with this process, and go on once it listens on its socket.

Whoever dies before setpriv has asked the kernel to be told leaves a child whose parent is another: it ends by itself.
That it listens is read from the kernel's list, because such a program may take a first connection, and no second.
It inherits neither the lock (9) nor the record (1). Source: proc(5), prctl(2).
"""

_BECOME = 'exec "$@"\n'

_SIGNATURE_TIMEOUT_S = 2.0
"""A shell needs a millisecond; whoever has the lock and has not signed by then was robbed of its record."""

_HUNG = "dmesg"
"""Storage that does not answer is the usual cause, and the kernel has said so; only a reboot ends such a process."""

_DEATH_TIMEOUT_S = 10.0
"""After SIGKILL a process ends at once, unless the kernel keeps it in an uninterruptible wait."""


class Daemon(NamedTuple):
    """A program that must serve on a socket before the hypervisor starts, and die with it."""

    socket: Path
    command: list[str]


def launch(command: Sequence[str], directory: Path, daemons: Sequence[Daemon] = ()) -> Actor | None:
    """Run `command` in `directory`, in a session of its own, and return its process; None when it is dead already.

    Each of `daemons` is started before it, and does not survive it.

    Where a hypervisor of this directory lives, or is about to, that one is returned and nothing is run. What it says
    goes to `qemu.log`.
    """
    while True:
        with life.claimed(directory) as lock:
            if lock is not None:
                with open_private(directory / RECORD, "wb") as record:
                    _detach(command, directory, lock, record, daemons)
                break
        if found := settled(directory):
            return found
    found = settled(directory)
    with open_private(directory / RECORD, "rb") as record:
        # For whoever asks after a power cut: without it, a machine that ran would look as if it never had.
        os.fsync(record.fileno())
    return found


def look(directory: Path) -> Life:
    """Return whether a hypervisor runs in `directory`, or is about to, and which. Raises OSError if that is unreadable.

    Hypervisors that version 0.1.0 started hold the lock of their record, and not that of the directory.
    """
    return life.look((directory, directory / RECORD), last(directory))


def find(directory: Path) -> Actor | None:
    """Return the hypervisor that runs in `directory`; None when there is none, or none that can be seen."""
    return look(directory).process


def settled(directory: Path) -> Actor | None:
    """Return what `find` does, after a launch or an end that is under way has come out; it takes a millisecond.

    Raises OutOfReachError when a hypervisor lives that cannot be seen from here.
    """
    began = time.monotonic()
    while True:
        seen, waited_s = look(directory), time.monotonic() - began
        if seen.hidden and waited_s > _SIGNATURE_TIMEOUT_S:
            raise OutOfReachError(f"a hypervisor runs in {directory}, but its process cannot be seen from here")
        if not seen.alive or (seen.process and (_signed(seen.process, directory) or waited_s > _SIGNATURE_TIMEOUT_S)):
            return seen.process
        if waited_s > _DEATH_TIMEOUT_S:
            raise DriverError(f"the hypervisor in {directory} does not end: it hangs in the host's kernel", hint=_HUNG)
        cancellation.pause(0.001)


def last(directory: Path) -> Actor | None:
    """Return the hypervisor that ran last in `directory`, dead or alive; None when it never ran, or left no trace."""
    try:
        with open_private(directory / RECORD, "rb") as record:  # at its end is what the hypervisor said on stdout
            stat, boot_id = record.read(_RECORD_BYTES).decode(errors="replace").splitlines()[:2]
        pid, _, rest = stat.partition(" ")
        # Field 22, counted from field 3, which follows the last parenthesis: the name before it may hold anything.
        return Actor(int(pid), int(rest[rest.rindex(")") + 2 :].split()[19]), boot_id)
    except (OSError, ValueError, IndexError):
        return None


def accelerator(actor: Actor) -> str | None:
    """Return what `actor` was told to run guest code with, `kvm` or `tcg`; None where that cannot be read."""
    with suppress(OSError, ValueError), open(f"/proc/{actor.pid}/cmdline", "rb") as file:  # noqa: PTH123 - for `list`
        arguments = file.read().split(b"\0")
        return arguments[arguments.index(b"-accel") + 1].partition(b",")[0].decode()
    return None


def _signed(actor: Actor, directory: Path) -> bool:
    """True when the record is that of `actor`, by whatever pid it goes in the namespace that it was written in.

    What began in the same tick as the process of the record is told from it by its pid, where that one is seen.
    """
    recorded = last(directory)
    if recorded is None or (recorded.started_ticks, recorded.boot_id) != (actor.started_ticks, actor.boot_id):
        return False
    return recorded.pid == actor.pid or not process.alive(recorded)


@contextmanager
def held(actor: Actor | None) -> Iterator[int | None]:
    """Yield a pidfd of `actor`, readable once it is dead; None when it is dead already.

    First taken, then proved: from then on the descriptor means that process, and never a stranger with its pid.
    """
    if actor is None:
        yield None
        return
    try:
        pidfd = os.pidfd_open(actor.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd if process.alive(actor) else None
    finally:
        os.close(pidfd)


def wait(pidfd: int, timeout_s: float) -> bool:
    """Return whether the process ended within `timeout_s` seconds, as soon as it does."""
    return bool(cancellation.readable(timeout_s, [pidfd]))


def wake(pidfd: int) -> None:
    """Let the process run, if a signal had stopped it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def end(pidfd: int, *, grace_s: float) -> None:
    """End the process: asked with SIGTERM, so that it may write what it holds, and after `grace_s` seconds by force.

    No grace (0) means by force at once. Cannot be called off: it is over soon. Raises DriverError when even SIGKILL
    does not end it.
    """
    with cancellation.shielded(), suppress(ProcessLookupError):
        if grace_s:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if wait(pidfd, grace_s):
                return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not wait(pidfd, _DEATH_TIMEOUT_S):
            raise DriverError(
                "the hypervisor does not end, not even by SIGKILL: it hangs in the host's kernel", hint=_HUNG
            )


def words(directory: Path) -> list[str]:
    """Return the last lines that the hypervisor, which is dead, said on stderr, without its own name before each."""
    logs.complete(directory)
    with suppress(OSError):
        text = read_own(directory / logs.QEMU.file, _LOG_BYTES, tail=True).decode(errors="replace")
        return [re.sub(r"^qemu-system-\w+: ", "", line) for line in text.splitlines() if line.strip()][-10:]
    return []


def _detach(command: Sequence[str], directory: Path, lock: int, record: IO[bytes], daemons: Sequence[Daemon]) -> None:

    from ...host.run import run

    served = [f"serve {shlex.join([str(daemon.socket), *daemon.command])}\n" for daemon in daemons]
    script = "".join([_SIGN, logs.script(), *([_SERVE, *served] if served else []), _BECOME])
    logs.prepare(directory)
    with open_private(directory / logs.QEMU.file, "wb") as log:
        launcher = ["setsid", "--fork", "sh", "-c", script, "sh", *command]
        ended = run(launcher, cwd=directory, stdin=lock, stdout=record, stderr=log, umask=PRIVATE_UMASK, leaves=True)
    if ended.status:
        raise DriverError(f"setsid failed with status {ended.status}", details=words(directory))
