"""`limactl disk`: the disks that outlive instances."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError, UsageError
from ..host.sizes import size_bytes
from .home import in_units
from .listing import aligned

if TYPE_CHECKING:
    from ..disks import Disk
    from .flags import Call
    from .session import Session


def create(session: "Session", call: "Call") -> int:
    """Create an empty disk."""
    name, size, form = call.arguments[0], _size(call), call.flags.get("format", "qcow2")
    if form not in ("qcow2", "raw"):
        raise UsageError(f'disk format "{form}" not supported, use "qcow2" or "raw" instead')
    if _find(session, name):
        raise UsageError(f'disk `{name}` already exists ("{session.lima.root / "_disks" / name}")')
    session.stderr.info(f"New {form} disk `{name}` with size {in_units(size)}")
    session.vms.disks.create(name, size, form)
    _show(session)
    return 0


def list_(session: "Session", call: "Call") -> int:
    """Print the named disks, or all: as a table, or as JSON lines."""
    from ..commands.stdout import write

    disks = _show(session)
    names = call.arguments or tuple(disks)
    for name in names:
        if name not in disks:
            session.stderr.warning(f"No disk matching {name} found.")
    chosen = [disks[name] for name in names if name in disks]
    if call.flags.get("json"):
        write("".join(json.dumps(_record(session, disk), separators=(",", ":")) + "\n" for disk in chosen))
        return 0
    if not disks:
        session.stderr.warning("No disk found. Run `limactl disk create DISK --size SIZE` to create a disk.")
    rows = [["NAME", "SIZE", "FORMAT", "DIR", "IN-USE-BY"]]
    for disk in chosen:
        known = _record(session, disk)
        rows.append([disk.name, in_units(known["size"]), disk.format, str(known["dir"]), str(known["instance"])])
    write(aligned(rows))
    return 0


def delete(session: "Session", call: "Call") -> int:
    """Delete disks; for an unknown name, only print a warning."""
    for name in call.arguments:
        if not _find(session, name):
            session.stderr.warning(f"Ignoring non-existent disk `{name}`")
            continue
        session.vms.disks.delete(name)
        session.stderr.info(f'Deleted `{name}` ("{session.lima.root / "_disks" / name}")')
    _show(session)
    return 0


def resize(session: "Session", call: "Call") -> int:
    """Make a disk larger."""
    name = call.arguments[0]
    session.vms.disks.resize(name, _size(call))
    session.stderr.info(f'Resized disk `{name}` ("{session.lima.root / "_disks" / name}")')
    return 0


def import_(session: "Session", call: "Call") -> int:
    """Make a disk with the content of a file."""
    name, source = call.arguments
    session.vms.disks.import_(name, Path(source))
    _show(session)
    session.stderr.info(f"Imported `{name}`")
    return 0


def unlock(session: "Session", call: "Call") -> int:
    """Report that nothing can be unlocked: disks are locked by the kernel, and a lock ends with its holder."""
    for name in call.arguments:
        disk = _find(session, name)
        if disk is None:
            session.stderr.warning(f"Ignoring non-existent disk `{name}`")
        elif disk.holder:
            raise UsageError(f"cannot unlock disk `{name}` used by {disk.holder}")
        else:
            session.stderr.warning(f"Ignoring unlocked disk `{name}`")
    return 0


def _find(session: "Session", name: str) -> "Disk | None":
    try:
        return session.vms.disks.get(name)
    except NotFoundError:
        return None


def _size(call: "Call") -> int:
    if "size" not in call.flags:
        raise UsageError('required flag(s) "size" not set')
    try:
        return size_bytes(call.flags["size"])
    except ValueError as error:
        raise UsageError(f'invalid size: "{call.flags["size"]}": {error}') from error


def _record(session: "Session", disk: "Disk") -> dict[str, Any]:
    """Return the object of `disk list --json`."""
    instance = disk.instances[0] if disk.instances else ""
    return {
        "name": disk.name,
        "size": disk.size_bytes or 0,
        "format": disk.format,
        "dir": str(session.lima.root / "_disks" / disk.name),
        "instance": instance,
        "instanceDir": str(session.lima.directory(instance)) if instance else "",
        "mountPoint": f"/mnt/lima-{disk.name}",
    }


def _show(session: "Session") -> "dict[str, Disk]":
    """Update the folder `_disks` to the existing disks, and return them."""
    disks = {disk.name: disk for disk in session.vms.disks.list()}
    session.lima.show_disks({name: (disk.path, disk.instances) for name, disk in disks.items()})
    return disks
