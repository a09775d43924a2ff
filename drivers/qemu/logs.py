"""A machine's output, kept in files of bounded size for as long as it runs.

    serial.log    the guest's serial port; serial.old.log is the previous run's
    events.log    events of QEMU's monitor: what happened to the machine
    qemu.log      stderr of QEMU and of the programs that serve it

Each is written by a copier, a shell and its `dd`, which reads a FIFO and ends when the last writer, the hypervisor,
does:

    serial.pipe, events.out, qemu.pipe     FIFOs, new for each run

When a file reaches its limit, only its last part is kept. So a guest that never stops talking takes at most twice the
limit on the host's disk, its last words are kept, and a reader needs one file only.
"""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...host import cancellation
from ...host.files import PRIVATE_FILE, remove_tree


class Log(NamedTuple):
    """One of the files, and the FIFO that it is filled from."""

    file: str
    pipe: str
    limit_kib: int
    kept_bytes: int
    """How much of it stays when the limit is reached."""


SERIAL = Log("serial.log", "serial.pipe", 8192, 1 << 20)
EVENTS = Log("events.log", "events.out", 1024, 128 << 10)
QEMU = Log("qemu.log", "qemu.pipe", 1024, 128 << 10)

BEFORE = "serial.old.log"
"""Kept because people restart a machine before they ask why it went down."""

_ROOM_BYTES = 16384

_COMPLETE_S = 2.0
"""A copier ends within a millisecond, unless the disk hangs."""

_COPY = f"""\
trap '' HUP INT TERM
fallocate -n -l {_ROOM_BYTES} /dev/fd/8
while [ "$1" -ef /dev/fd/8 ]; do
    before=$(stat -L -c %s /dev/fd/8)
    if dd bs=1k count="$2" >&8; then
        after=$(stat -L -c %s /dev/fd/8)
        [ "$after" != "$before" ] || exit
        [ "$after" -lt "$(($2 * 1024))" ] || {{
            tail -c "$3" /dev/fd/8 >"$1.new" && [ "$1" -ef /dev/fd/8 ] && mv -f "$1.new" "$1" && exec 8>>"$1"
        }} || : >/dev/fd/8
    else
        [ "$(head -c 1 | wc -c)" = 1 ] || exit
    fi
done
exec cat
"""
"""Copy stdin to descriptor 8, which is the file `$1`, in rounds of at most `$2` KiB; once it has that much, keep its
last `$3` bytes.

A copier that gets no processor time for a while may outlive its run, and the next run's file has the same name. So it
writes to what was opened for it, and stops when the name means another file, or none; what comes then is dropped.

The file gets its first blocks at once, so that the event which says that the disk is full has room on that disk. Output
that finds no room is dropped, and the next output is tried again.
"""


def prepare(directory: Path) -> None:
    """Make new files and FIFOs in `directory` for a hypervisor that is about to start."""
    complete(directory)
    with suppress(FileNotFoundError):
        (directory / SERIAL.file).replace(directory / BEFORE)
    for log in (SERIAL, EVENTS, QEMU):
        remove_tree(directory / log.file)
        remove_tree(directory / log.pipe)
        os.mkfifo(directory / log.pipe, PRIVATE_FILE)


def script() -> str:
    """Return what the shell runs before it becomes the hypervisor: start the copiers and keep their FIFOs open.

    A FIFO is first opened for reading and writing, which does not block. The hypervisor keeps the writing ends: 4, 5
    and stderr. A file that cannot be opened keeps no machine from starting. No copier inherits the hypervisor's lock
    (9): a copier that hangs would make a dead machine look alive.
    """
    import shlex

    lines = []
    for log, descriptor in ((SERIAL, 4), (EVENTS, 5), (QEMU, 6)):
        copier = f"sh -c {shlex.quote(_COPY)} log {log.file} {log.limit_kib} {log.kept_bytes}"
        lines += [
            f"exec 7<>{log.pipe} 3<{log.pipe} {descriptor}>{log.pipe} 7>&-\n",
            f"command exec 8>>{log.file} || exec 8>/dev/null\n",
            f"{copier} <&3 >/dev/null 2>&1 3<&- 4>&- 5>&- 6>&- 9<&- &\n",
        ]
    return "".join([*lines, "exec 2>&6 3<&- 6>&- 8>&-\n"])


def complete(directory: Path) -> None:
    """Return once all output of the machine in `directory`, which is dead, is in its files.

    Gives up on a copier that hangs.
    """
    give_up = time.monotonic() + _COMPLETE_S
    for log in (SERIAL, EVENTS, QEMU):
        while _has_reader(directory / log.pipe) and time.monotonic() < give_up:
            cancellation.pause(0.001)


def _has_reader(pipe: Path) -> bool:
    """Return whether a process reads from `pipe`: a FIFO that nobody reads cannot be opened for writing (fifo(7)).

    Machines of Interlock 0.1.0 have a plain file of that name, which can always be opened.
    """
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
    return False
