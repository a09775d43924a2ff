"""`snapshot`: an instance's disk saved under a tag, with the memory if the instance runs."""

from typing import TYPE_CHECKING

from ..errors import UsageError
from ..host import sizes

if TYPE_CHECKING:
    from ..fsm.snapshots import Snapshot
    from .flags import Call
    from .session import Session

_COLUMNS = "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}"
"""Embedders parse the second word of each line. Source: QEMU, the output of `qemu-img snapshot -l`."""


def create(session: "Session", call: "Call") -> int:
    """Save the disk as a snapshot, and the memory if the instance runs."""
    session.vms.snapshot(*_asked(session, call))
    return 0


def apply(session: "Session", call: "Call") -> int:
    """Give the instance the disk of a snapshot; if the snapshot has memory, the guest continues from it."""
    session.vms.restore(*_asked(session, call))
    return 0


def delete(session: "Session", call: "Call") -> int:
    """Remove a snapshot."""
    session.vms.discard(*_asked(session, call))
    return 0


def list_(session: "Session", call: "Call") -> int:
    """Print the snapshots, or only their tags."""
    from ..commands.stdout import write

    name = call.arguments[0]
    session.existing(name)
    found = session.vms.snapshots(name)
    if call.flags.get("quiet"):
        write("".join(f"{it.tag}\n" for it in found))
    elif found:
        head = _COLUMNS.format("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")
        write("".join(f"{line}\n" for line in (head, *map(_line, range(1, len(found) + 1), found))))
    return 0


def _asked(session: "Session", call: "Call") -> tuple[str, str]:
    """Return the instance and the tag that the command line names."""
    name, tag = call.arguments[0], str(call.flags.get("tag", ""))
    session.existing(name)
    if not tag:
        raise UsageError("expected tag")
    return name, tag


def _line(number: int, snapshot: "Snapshot") -> str:
    from ..commands.stdout import local_time

    taken = local_time(snapshot.created_at)[:19] if snapshot.created_at else "-"
    size = sizes.in_words(snapshot.memory_bytes or 0)
    return _COLUMNS.format(number, f"{snapshot.tag} ", size, f" {taken}", "00:00:00.000", "--")
