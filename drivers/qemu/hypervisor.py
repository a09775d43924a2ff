"""The hypervisor's process: recorded before it exists, found again by any process, signalled only once identified.

Nothing of ours stays resident, so a later command finds the process by what is in the directory:

    the directory   locked (`host.life`) by the hypervisor's descriptor 9, for as long as it lives
    hypervisor.id   two lines: its /proc/PID/stat at the start, and the id of the host's boot

The lock says whether it is alive. It is taken before the process exists, so a second launch finds it taken. The record
says which process it probably is, and which one ran last. A shell writes it about itself and then *becomes* the
hypervisor (exec keeps pid and start time). If the record is damaged, the process is found by the lock.

Programs that serve a hypervisor (virtiofsd, ssh) are started by that shell. So they are its children, and the kernel
kills them with it.
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
from ...host.progress import Report
from . import logs

RECORD = "hypervisor.id"

_RECORD_BYTES, _LOG_BYTES = 4096, 65536
"""How much is read: of the record its beginning, of the log its end."""

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
"""Start a program that dies with this process, and continue once it listens on its socket.

If this process dies before setpriv has asked for the signal, the child sees another parent and ends by itself. The
kernel's list of sockets says whether it listens: a connection would be the only one that such a program accepts.
It inherits neither the lock (9) nor the record (1). Source: proc(5), prctl(2).
"""

_ON_CALL = """\
on_call() {
    rm -f "$1" "$2"
    mkfifo -m 600 "$1" || return 0
    setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$0" ] && cd / || exit
        calls=$1 socket=$2
        shift 2
        while read -r _; do setpriv --pdeathsig KILL "$@" </dev/null; rm -f "$socket"; done <>"$calls"
    ' $$ "$@" >/dev/null 2>&1 3<&- 4>&- 5>&- 9<&- &
}
"""
"""Start a shell that runs a program whenever a line is written to a FIFO; both die with this process."""

_BESIDE = """\
beside() {
    setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$0" ] && cd / && exec "$@"' $$ "$@" \\
        </dev/null >&2 3<&- 4>&- 5>&- 9<&- &
}
"""
"""Start a program that dies with this process, without waiting for it."""

_BECOME = 'exec "$@"\n'

_SIGNATURE_TIMEOUT_S = 2.0
"""The shell writes its record in a millisecond. If it is still missing after this time, it was removed."""

_HUNG = "dmesg"
"""The usual cause is storage that does not answer, which the kernel logs. Only a reboot ends such a process."""

_DEATH_TIMEOUT_S = 10.0
"""After SIGKILL a process ends at once, unless it is in an uninterruptible wait."""


class Daemon(NamedTuple):
    """A program that must listen on a socket before the hypervisor starts, and dies with it."""

    socket: Path
    command: list[str]


class OnCall(NamedTuple):
    """A program that runs beside the hypervisor on request, and dies with it."""

    calls: Path
    """The FIFO to write a line to."""
    socket: Path
    """The socket that it listens on, which is removed when it ends."""
    command: list[str]


def launch(
    command: Sequence[str],
    directory: Path,
    daemons: Sequence[Daemon] = (),
    on_call: OnCall | None = None,
    beside: Sequence[Sequence[str]] = (),
) -> Actor | None:
    """Run `command` in `directory`, in a session of its own, and return its process; None when it has ended already.

    Each of `daemons` is started before it, and does not survive it; nor does `on_call`, nor the commands `beside` it.

    If a hypervisor of this directory is alive or starting, that one is returned and nothing is run. Its stderr goes to
    `qemu.log`.
    """
    while True:
        with life.claimed(directory) as lock:
            if lock is not None:
                with open_private(directory / RECORD, "wb") as record:
                    _detach(command, directory, lock, record, _served(daemons, on_call, beside))
                break
        if found := settled(directory):
            return found
    found = settled(directory)
    with open_private(directory / RECORD, "rb") as record:
        # Without this, a machine that ran could look, after a power cut, as if it had never run.
        os.fsync(record.fileno())
    return found


def look(directory: Path) -> Life:
    """Return whether a hypervisor runs or starts in `directory`, and which. Raises OSError if that cannot be read.

    Hypervisors that version 0.1.0 started have the lock of their record instead of the directory's.
    """
    return life.look((directory, directory / RECORD), last(directory))


def find(directory: Path) -> Actor | None:
    """Return the hypervisor that runs in `directory`; None if there is none or it cannot be seen."""
    return look(directory).process


def settled(directory: Path) -> Actor | None:
    """Return what `find` does, once a launch or an end in progress is over, which takes a millisecond.

    Raises OutOfReachError when a hypervisor is alive that cannot be seen from here.
    """
    began = time.monotonic()
    while True:
        seen, waited_s = look(directory), time.monotonic() - began
        if seen.hidden and waited_s > _SIGNATURE_TIMEOUT_S:
            raise OutOfReachError(f"a hypervisor runs in {directory}, but its process cannot be seen from here")
        if not seen.alive:
            return None
        actor = seen.process
        if actor and not process.ending(actor) and (_signed(actor, directory) or waited_s > _SIGNATURE_TIMEOUT_S):
            return actor
        if waited_s > _DEATH_TIMEOUT_S:
            raise DriverError(f"the hypervisor in {directory} does not end: it is stuck in the kernel", hint=_HUNG)
        cancellation.pause(0.001)


def last(directory: Path) -> Actor | None:
    """Return the hypervisor that ran last in `directory`, dead or alive; None if there is no readable record."""
    try:
        with open_private(directory / RECORD, "rb") as record:  # the hypervisor's stdout follows it
            stat, boot_id = record.read(_RECORD_BYTES).decode(errors="replace").splitlines()[:2]
        pid, _, rest = stat.partition(" ")
        # Field 22, counted from field 3, which follows the last parenthesis: the name before it may hold anything.
        return Actor(int(pid), int(rest[rest.rindex(")") + 2 :].split()[19]), boot_id)
    except (OSError, ValueError, IndexError):
        return None


def accelerator(actor: Actor) -> str | None:
    """Return the accelerator that `actor` was started with, `kvm` or `tcg`; None if that cannot be read."""
    with suppress(ValueError, IndexError):
        arguments = command(actor)
        return arguments[arguments.index("-accel") + 1].partition(",")[0]
    return None


def command(actor: Actor) -> list[str]:
    """Return the command line that `actor` was started with; empty if that cannot be read."""
    with suppress(OSError), open(f"/proc/{actor.pid}/cmdline", "rb") as file:  # noqa: PTH123 - for `list`
        return os.fsdecode(file.read()).split("\0")[:-1]
    return []


def _signed(actor: Actor, directory: Path) -> bool:
    """True when the record is about `actor`, whose pid may differ in the pid namespace of the writer.

    A child that is about to close the lock may have started in the same tick, but does not lead the session.
    """
    recorded = last(directory)
    if recorded is None or (recorded.started_ticks, recorded.boot_id) != (actor.started_ticks, actor.boot_id):
        return False
    return recorded.pid == actor.pid or process.leads_session(actor)


@contextmanager
def held(actor: Actor | None) -> Iterator[int | None]:
    """Yield a pidfd of `actor`, which becomes readable when it dies; None if it is dead.

    It is opened before the process is identified, so it never refers to another process with the same pid.
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
    """Let the process run again if a signal stopped it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def end(pidfd: int, *, grace_s: float) -> None:
    """End the process: by SIGTERM, so that it can flush its disks, and after `grace_s` seconds by SIGKILL.

    With a grace of 0, by SIGKILL at once. Cannot be cancelled, because it is over soon. Raises DriverError when SIGKILL
    does not end it.
    """
    with cancellation.shielded(), suppress(ProcessLookupError):
        if grace_s:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if wait(pidfd, grace_s):
                return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not wait(pidfd, _DEATH_TIMEOUT_S):
            raise DriverError("SIGKILL does not end the hypervisor: it is stuck in the kernel", hint=_HUNG)


def kill(directory: Path, report: Report) -> None:
    """End the hypervisor of `directory` at once, if one is alive, and return when it is gone."""
    while actor := settled(directory):
        with held(actor) as pidfd:
            if pidfd is not None:
                report("ending the hypervisor by force")
                end(pidfd, grace_s=0)


def words(directory: Path) -> list[str]:
    """Return the last lines on stderr of the hypervisor, which is dead, without its name before each."""
    logs.complete(directory)
    with suppress(OSError):
        text = read_own(directory / logs.QEMU.file, _LOG_BYTES, tail=True).decode(errors="replace")
        return [re.sub(r"^qemu-system-\w+: ", "", line) for line in text.splitlines() if line.strip()][-10:]
    return []


def _served(daemons: Sequence[Daemon], on_call: OnCall | None, beside: Sequence[Sequence[str]]) -> str:
    """Return what the shell runs before it becomes the hypervisor, to start what serves it."""
    lines = [_ON_CALL, f"on_call {shlex.join(map(str, (*on_call[:2], *on_call.command)))}\n"] if on_call else []
    if beside:
        lines += [_BESIDE, *(f"beside {shlex.join(it)}\n" for it in beside)]
    if daemons:
        lines += [_SERVE, *(f"serve {shlex.join([str(it.socket), *it.command])}\n" for it in daemons)]
    return "".join(lines)


def _detach(command: Sequence[str], directory: Path, lock: int, record: IO[bytes], served: str) -> None:
    from ...host.run import run

    script = f"{_SIGN}{logs.script()}{served}{_BECOME}"
    logs.prepare(directory)
    with open_private(directory / logs.QEMU.file, "wb") as log:
        launcher = ["setsid", "--fork", "sh", "-c", script, "sh", *command]
        ended = run(launcher, cwd=directory, stdin=lock, stdout=record, stderr=log, umask=PRIVATE_UMASK, leaves=True)
    if ended.status:
        raise DriverError(f"setsid failed with status {ended.status}", details=words(directory))
