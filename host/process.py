"""The identity of processes: pids are reused, so a process is identified by pid, start time and boot.

Source: proc(5), /proc/PID/stat fields 3 (state), 5 (process group), 6 (session), 14 and 15 (processor time), 22 (start
time) and 24 (pages of memory), and random(4) for the boot id.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Actor(NamedTuple):
    """A process, identified by pid, start time and boot, because strangers reuse pids."""

    pid: int
    started_ticks: int
    """Field 22 of /proc/PID/stat: clock ticks after boot. Source: proc(5)."""
    boot_id: str
    """/proc/sys/kernel/random/boot_id. Source: random(4)."""
    command: str = ""


class Usage(NamedTuple):
    """What a process has used since it began, and the memory that it has now."""

    cpu_s: float
    """Processor time of all its threads."""
    resident_bytes: int
    """Memory of the host that it has in use; what it shares with others counts in full."""
    uptime_s: float


_OURS = ("interlock", "limactl")

_PID_MAX = 1 << 22
"""The largest possible pid; a file with a larger one is damaged. Source: proc(5), /proc/sys/kernel/pid_max."""


_STATE, _GROUP, _SESSION, _FLAGS, _USER_TIME, _KERNEL_TIME, _THREADS, _STARTED, _PAGES = 0, 2, 3, 6, 11, 12, 17, 19, 21
"""Fields 3, 5, 6, 9, 14, 15, 20, 22 and 24 of /proc/PID/stat, counted from field 3, which follows the name."""

_EXITING = 0x4
"""PF_EXITING among the flags. Source: Linux, include/linux/sched.h."""


@cache
def boot_id() -> str:
    """Return the id of this boot of the host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - `list` imports no more than it must
        return file.read().strip()


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat from field 3 on; None when there is no such process.

    The command's name, field 2, stands in parentheses and may hold both blanks and parentheses.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat[stat.rindex(b")") + 2 :].split()


def started_ticks(pid: int) -> int | None:
    """Return when process `pid` began, in clock ticks after boot; None when there is none or only its zombie.

    A zombie whose other threads still run is alive: they hold its open files and locks.
    """
    if not 0 < pid <= _PID_MAX or (stat := _stat(pid)) is None:
        return None
    return None if _ended(stat) else int(stat[_STARTED])


def _ended(stat: Sequence[bytes]) -> bool:
    return stat[_STATE] in (b"Z", b"X") and int(stat[_THREADS]) <= 1


def group_runs(number: int) -> bool:
    """True while any process of the process group `number` runs; zombies do not, and hold neither files nor locks."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    stats = (_stat(int(name)) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 - as above
    return any(stat and int(stat[_GROUP]) == number and not _ended(stat) for stat in stats)


def alive(actor: Actor) -> bool:
    """True if this very process still runs: same pid, same start, same boot."""
    return actor.boot_id == boot_id() and started_ticks(actor.pid) == actor.started_ticks


def usage(actor: Actor) -> Usage | None:
    """Return what `actor` has used, without its children; None if it does not run any more.

    None also during its exec, when it briefly has no memory.
    """
    stat = _stat(actor.pid)
    if stat is None or int(stat[_STARTED]) != actor.started_ticks or actor.boot_id != boot_id():
        return None
    if not int(stat[_PAGES]):
        return None
    ticks_s = 1 / os.sysconf("SC_CLK_TCK")
    return Usage(
        cpu_s=(int(stat[_USER_TIME]) + int(stat[_KERNEL_TIME])) * ticks_s,
        resident_bytes=int(stat[_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
        uptime_s=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - actor.started_ticks * ticks_s),
    )


def ending(actor: Actor) -> bool:
    """True when `actor` is exiting or was killed; it may still have its files open."""
    stat = _stat(actor.pid)
    return stat is not None and bool(int(stat[_FLAGS]) & _EXITING) and alive(actor)


def suspended(actor: Actor) -> bool:
    """True when somebody stopped `actor` by Ctrl-Z or SIGSTOP: it lives and does nothing. Source: proc(5)."""
    stat = _stat(actor.pid)
    return stat is not None and stat[_STATE] in (b"T", b"t") and alive(actor)


def leads_session(actor: Actor) -> bool:
    """True when `actor` lives in a session that it began itself; its children share that session. Source: setsid(2)."""
    stat = _stat(actor.pid)
    return stat is not None and int(stat[_SESSION]) == actor.pid and alive(actor)


def wake(actor: Actor, *, and_end: bool = False) -> None:
    """Let the suspended `actor` run again; `and_end` also asks it to end (SIGTERM)."""
    if and_end:
        send(actor, signal.SIGTERM)  # pending until it runs again
    send(actor, signal.SIGCONT)


def send(actor: Actor, number: int) -> None:
    """Send `actor` the signal `number`, if it still runs.

    The pidfd is opened before the process is verified to be `actor`, so no stranger with its pid is ever signalled.
    """
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(actor.pid)
        try:
            if alive(actor):
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def this_process() -> Actor:
    """Return this process, with its command line as a person would type it, without possible secrets."""
    pid = os.getpid()
    command = without_secrets(sys.argv)[:200] if sys.argv else ""
    return Actor(pid=pid, started_ticks=started_ticks(pid) or 0, boot_id=boot_id(), command=command)


def without_secrets(argv: Sequence[str]) -> str:
    """Return a command line for journals and messages: `interlock create web --set env.TOKEN=…`.

    What follows a `=` may be secret, and so may the user and password of a URL. Of a program that embeds us, only the
    name is kept.
    """
    program, *words = argv
    name = Path(program).name
    if name == "__main__.py":
        place, root = Path(program).resolve().parent, Path(__file__).resolve().parents[1]
        if root in (place, place.parent):
            name = ".".join((_OURS[0], *place.relative_to(root).parts))
    if name not in _OURS:
        return name
    return " ".join([name, *(re.sub(r"=.*|(?<=://)[^/@]+@", _masked, word, flags=re.DOTALL) for word in words)])


def _masked(found: re.Match[str]) -> str:
    return "=…" if found[0].startswith("=") else "…@"
