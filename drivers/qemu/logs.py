"""What a machine says, kept in files of a bounded size, whoever looks and for as long as it runs.

    serial.log    the guest, on its serial port; that of the run before is serial.old.log
    events.log    QEMU, on its monitor: what happened to the machine
    qemu.log      QEMU and what serves it, on stderr

Each is written by a copier, a shell and its `dd`, which reads a pipe and ends when the last writer does, the
hypervisor:

    serial.pipe, events.out, qemu.pipe     FIFOs, new for each run

When a file has reached its limit, its last part takes its place. So a guest that talks without end takes no more of its
host's disk than twice the limit, its last words are kept, and whoever reads needs one file only.
"""

import os
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

_BEFORE = "serial.old.log"
"""Because people start a machine again before they ask why it went down."""

_ROOM_BYTES = 16384

_COMPLETE_S = 2.0
"""A copier needs a millisecond to end; only a disk that stands still needs longer."""

_COPY = f"""\
trap '' HUP INT TERM
: >>"$1" && fallocate -n -l {_ROOM_BYTES} "$1"
while before=$(stat -c %s "$1"); do
    if dd bs=1k count="$2" >>"$1"; then
        after=$(stat -c %s "$1")
        [ "$after" != "$before" ] || exit
        [ "$after" -lt "$(($2 * 1024))" ] || {{ tail -c "$3" "$1" >"$1.new" && mv -f "$1.new" "$1"; }} || : >"$1"
    else
        [ "$(head -c 1 | wc -c)" = 1 ] || exit
    fi
done
exec cat
"""
"""Copy stdin to the file `$1`; whenever it has `$2` KiB or more, of which no round adds more, keep the last `$3` bytes.

The file is given its first blocks now: of all events, the one that says that the disk is full must find room on that
disk. Where there is no room, what is said is passed over, and tried again with what is said next; where the file is
gone, all of it is passed over.
"""


def prepare(directory: Path) -> None:
    """Make the files and the FIFOs of `directory`, new, for a hypervisor that is about to start in it."""
    with suppress(FileNotFoundError):
        (directory / SERIAL.file).replace(directory / _BEFORE)
    for log in (SERIAL, EVENTS, QEMU):
        remove_tree(directory / log.file)
        remove_tree(directory / log.pipe)
        os.mkfifo(directory / log.pipe, PRIVATE_FILE)


def script() -> str:
    """Return what a shell does before it becomes the hypervisor: start the copiers, and hold their pipes open.

    A FIFO is first opened for both, which waits for nobody. The writing ends stay with the hypervisor: 4, 5, stderr.
    So does its lock (9), which no copier inherits: one that hangs would keep a dead machine alive.
    """
    import shlex

    lines = []
    for log, descriptor in ((SERIAL, 4), (EVENTS, 5), (QEMU, 6)):
        copier = f"sh -c {shlex.quote(_COPY)} log {log.file} {log.limit_kib} {log.kept_bytes}"
        lines += [
            f"exec 7<>{log.pipe} 3<{log.pipe} {descriptor}>{log.pipe} 7>&-\n",
            f"{copier} <&3 >/dev/null 2>&1 3<&- 4>&- 5>&- 6>&- 9<&- &\n",
        ]
    return "".join([*lines, "exec 2>&6 3<&- 6>&-\n"])


def complete(directory: Path) -> None:
    """Return once all that the machine in `directory`, which is dead, has said is in its files.

    A copier that hangs is not waited for. A FIFO that nobody reads cannot be opened for writing. Source: fifo(7).
    """
    give_up = time.monotonic() + _COMPLETE_S
    for log in (SERIAL, EVENTS, QEMU):
        with suppress(OSError):
            while time.monotonic() < give_up:
                os.close(os.open(directory / log.pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
                cancellation.pause(0.001)
