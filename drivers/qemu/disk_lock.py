"""Who has a disk open. The kernel knows, so no lease can go stale.

QEMU locks the image file (fcntl(2), OFD locks) while it runs, and the kernel releases the lock when it ends, however it
ends. That lock refuses a second machine. This module finds the owner's name for the error, and checks before a
hypervisor is started.
"""

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ...errors import DriverError
from ..contract import Site, disk_file

REFUSED = "Failed to get "
"""What QEMU says when another process holds the lock of an image: `Failed to get "write" lock`."""


class Holder(NamedTuple):
    """A process that has the file open."""

    pid: int
    words: str
    """For people: `instance "db" (pid 4711)`, or the program's name and pid."""
    instance: str | None
    """The instance whose hypervisor it is; None for another program."""


def holder(path: Path) -> Holder | None:
    """Return another process of this user that has the file `path` open, by any of its names, or None."""
    wanted = path.stat()
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it ended, or belongs to another user
            for descriptor in (process / "fd").iterdir():
                with suppress(FileNotFoundError):
                    if os.path.samestat(descriptor.stat(), wanted):
                        return _named(process)
    return None


def check(site: Site) -> None:
    """Raise DriverError naming the owner when a disk of `site` is missing, or is in use by another machine."""
    for disk in site.spec.disks:
        path = site.directory / disk_file(disk.name)
        if not path.exists():
            raise DriverError(f'the file {path.name} of the disk "{disk.name}" is missing from the instance')
        if owner := holder(path):
            way = f"interlock stop {owner.instance}" if owner.instance else None
            raise DriverError(f'disk "{disk.name}" is in use by {owner.words}', hint=way)


def _named(process: Path) -> Holder:
    pid = int(process.name)
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    for option, value in pairwise(words):
        if option == "-name" and value.startswith("guest="):
            name = value.removeprefix("guest=")
            return Holder(pid, f'instance "{name}" (pid {pid})', name)
    return Holder(pid, f"{Path(words[0]).name} (pid {pid})", None)
