"""The disks that outlive instances: attached when an instance is created, and kept when it is deleted."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .drivers.contract import disk_file
from .drivers.qemu import disk_lock
from .drivers.qemu.disk import run_qemu_img
from .errors import DamagedError, DriverError, NotFoundError, UsageError
from .host import disk_format
from .host.files import flush_directory, make_private_directory, open_private, publish, remove_tree
from .host.home import NAME, NAME_WORDS, Home
from .host.locks import held
from .host.progress import Report, unheard

FORMATS = ("qcow2", "raw")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the store, in its current state."""

    name: str
    format: str
    """`qcow2` or `raw`."""
    size_bytes: int | None
    """The size that a guest sees; None if the file is damaged."""
    used_bytes: int
    """The space that it takes up on the host's disk."""
    path: Path
    instances: tuple[str, ...]
    """The instances that it is attached to, running or not."""
    holder: str | None
    """A description of the process that has it open: `instance "db" (pid 4711)`."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock disk list --format json`."""
        return {
            "name": self.name,
            "format": self.format,
            "size_bytes": self.size_bytes,
            "used_bytes": self.used_bytes,
            "instances": list(self.instances),
            "in_use_by": self.holder,
            "path": str(self.path),
        }


class Disks:
    """The store of disks in a home.

        HOME/disks/
        ├── lock                     flock(2): exclusive, to make or remove a disk
        ├── NAME/disk.qcow2          or disk.raw: the format is in the name, the size in the file; there is no record
        ├── .new/                    the disk that the lock's holder is making; it becomes NAME by one rename
        └── .old/NAME/               a disk being deleted; it is moved back if an instance turns out to be linked to it

    An instance has its own name for the file (`disk-NAME`, a hard link), so deleting the instance does not remove the
    disk from the store, and changing the store does not remove it from the instance; a linked disk is not deleted. The
    kernel knows which process has the disk open, and the inode shows which instances are linked to it, so there is no
    record that could be wrong.

    Not promised: a copy of the home does not keep disks attached, because copying turns the two names into two files.
    """

    def __init__(self, home: Home) -> None:
        """Describe the store in `home`; nothing is read or created yet."""
        self.directory = home.root / "disks"
        self._instances = home.instances

    def list(self) -> tuple[Disk, ...]:
        """Return every disk, sorted by name; damaged disks are included."""
        found = []
        for folder in sorted(self.directory.glob("[!.]*/")):
            with contextlib.suppress(UsageError, NotFoundError):  # deleted in the meantime, or not a disk of the store
                found.append(self.get(folder.name))
        return tuple(found)

    def get(self, name: str) -> Disk:
        """Return the disk called `name`; raises NotFoundError if it does not exist."""
        path = self.path(name)
        stat = path.stat()
        owner = disk_lock.holder(path)
        return Disk(
            name=name,
            format=path.suffix[1:],
            size_bytes=_size_bytes(path),
            used_bytes=stat.st_blocks * 512,
            path=path,
            instances=self._users(name, stat),
            holder=owner.words if owner else None,
        )

    def path(self, name: str) -> Path:
        """Return the file of the disk called `name`; raises NotFoundError if it does not exist."""
        for kind in FORMATS:
            path = self.directory / _checked(name) / f"disk.{kind}"
            if path.exists():
                return path
        raise NotFoundError(f'there is no disk "{name}"', hint="interlock disk list")

    def create(self, name: str, size_bytes: int, kind: str = "qcow2", report: Report = unheard) -> Disk:
        """Create an empty disk and return it; raises UsageError if the name is taken."""
        if size_bytes <= 0:
            raise UsageError(f"a disk of {size_bytes} bytes: expected a size > 0")
        with self._making(name, report) as new:
            run_qemu_img(["create", "-q", "-f", kind, f"disk.{kind}", str(size_bytes)], new)
        return self.get(name)

    def import_(self, name: str, source: Path, report: Report = unheard) -> Disk:
        """Create a disk with the content of the file `source`, a qcow2 or raw disk, and return it.

        Raises UsageError if the name is taken, for another kind of file, or for a disk that needs another file, and
        DriverError if a machine has `source` open.
        """
        kind = _kind(source)
        with self._making(name, report) as new:
            report(f"copying {source}")
            # Not a plain copy: qemu-img keeps holes, and its lock detects a machine that has the source open.
            run_qemu_img(["convert", "-f", kind, "-O", kind, str(source.absolute()), f"disk.{kind}"], new)
        return self.get(name)

    def resize(self, name: str, size_bytes: int) -> Disk:
        """Enlarge the disk and return it; growing its file systems is up to the guest.

        Raises UsageError if it would become smaller, DriverError if a machine has it open, DamagedError if its file is
        not a disk.
        """
        path = self.path(name)
        before = _size_bytes(path)
        if before is None:
            raise DamagedError(f"{path}: not a qcow2 file")
        if size_bytes < before:
            raise UsageError(f'disk "{name}" has {before} bytes: it can only grow, not shrink to {size_bytes}')
        if owner := disk_lock.holder(path):
            way = f"interlock stop {owner.instance}" if owner.instance else None
            raise DriverError(f'disk "{name}" is in use by {owner.words}', hint=way)
        # In place, because the instances are linked to this file. qemu-img locks it as a machine does.
        run_qemu_img(["resize", "-q", "-f", path.suffix[1:], path.name, str(size_bytes)], path.parent)
        return self.get(name)

    def delete(self, name: str, *, dry_run: bool = False) -> None:
        """Remove the disk and all data on it; raises UsageError that names the instances it is attached to, if any.

        With `dry_run`, only raise the error that would refuse it.
        """
        if dry_run:
            path = self.path(name)
            users, attached = self._users(name, path.stat()), path.stat().st_nlink > 1
        else:
            with self._writing():
                path = self.path(name)
                users = self._users(name, path.stat())
                # First take its name away, so that no new instance can be linked to it; then the links can be counted.
                path.parent.rename(make_private_directory(self.directory / ".old") / name)
            attached = path.exists()
        if attached:
            users_gone = [f"interlock delete {user}" for user in users]
            way = " && ".join([*users_gone, f"interlock disk delete {name}"]) if users else None
            whom = ", ".join(f'instance "{user}"' for user in users) or "a file outside the instances"
            raise UsageError(f'disk "{name}" is attached to {whom}', hint=way)

    @contextlib.contextmanager
    def _making(self, name: str, report: Report) -> Iterator[Path]:
        """Yield a folder in which to make the file of the disk `name`; the disk exists once the block has succeeded."""
        final = self.directory / _checked(name)
        with self._writing(report):
            if final.exists():
                raise UsageError(f'disk "{name}" already exists', hint=f"interlock disk inspect {name}")
            new = make_private_directory(self.directory / ".new")
            yield new
            publish(new, final)

    @contextlib.contextmanager
    def _writing(self, report: Report = unheard) -> Iterator[None]:
        """Hold the store's lock, and sweep before and after; `report` says so while another process holds the lock."""
        with held(self.directory / "lock", "waiting for another process to finish with the disks", report):
            self._sweep()
            try:
                yield
            finally:
                self._sweep()
                flush_directory(self.directory)

    def _sweep(self) -> None:
        """Remove unfinished disks and those being deleted; move a disk that an instance is linked to back."""
        remove_tree(self.directory / ".new")
        for leaving in (self.directory / ".old").glob("*"):
            if all(file.stat().st_nlink == 1 for file in leaving.iterdir()):
                remove_tree(leaving)
            else:
                leaving.rename(self.directory / leaving.name)
        remove_tree(self.directory / ".old")

    def _users(self, name: str, stat: os.stat_result) -> tuple[str, ...]:
        """Return the names of the instances that are linked to the file that `stat` describes."""
        file = disk_file(name)
        links = [*self._instances.glob(f"[!.]*/{file}"), *self._instances.glob(f".creating/*/{file}")]
        return tuple(sorted(link.parent.name for link in links if os.path.samestat(link.stat(), stat)))


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(f"a disk cannot be called {name!r}: {NAME_WORDS}")
    return name


def _size_bytes(path: Path) -> int | None:
    """Return the size that a guest sees, read from the file itself: qemu-img refuses to open a disk that is in use."""
    if path.suffix == ".raw":
        return path.stat().st_size
    with open_private(path, "rb") as file, contextlib.suppress(ValueError):
        if header := disk_format.qcow2(file.read(disk_format.HEAD_BYTES)):
            return header.size_bytes
    return None


def _kind(source: Path) -> str:
    """Return the format of `source`, judged by its content; raise UsageError if it cannot be imported."""
    if not source.is_file():
        raise UsageError(f"{source}: {'not a file' if source.exists() else 'no such file'}")
    with source.open("rb") as file:
        head = file.read(disk_format.HEAD_BYTES)
    if other := disk_format.foreign(head) or disk_format.compression(head):
        raise UsageError(f"{source} is {other}, neither qcow2 nor raw", hint=_converted(source))
    try:
        header = disk_format.qcow2(head)
    except ValueError as err:
        raise UsageError(f"{source}: not a whole qcow2 file: {err}") from err
    if header and header.refers_to:
        raise UsageError(f"{source} needs another file, {header.refers_to}", hint=_converted(source))
    return "qcow2" if header else "raw"


def _converted(source: Path) -> str:
    """Return the command that converts `source` to a disk that can be imported."""
    return shlex.join(["qemu-img", "convert", "-O", "qcow2", str(source), f"{source.stem}-complete.qcow2"])
