"""The commands about the snapshots of an instance."""

from typing import TYPE_CHECKING

import click

from ..fsm import refusals
from .options import Group, Named, format_option, name_argument, outcome_options, pass_session, timeout_option
from .session import Session
from .stdout import Format, local_time, print_record, print_records, print_result, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..fsm.snapshots import Snapshot


tag_argument = click.argument("tag", type=Named("snapshot"))


@click.group("snapshot", cls=Group)
def snapshot_command() -> None:
    """Take, list, restore and delete snapshots of an instance's disk and, if it is running, of its memory.

    The snapshot of a disk takes up no space at first: later writes go to a new layer. Memory takes up as much as the
    guest has in use.

    \b
    interlock snapshot create web before-upgrade
    interlock snapshot restore web before-upgrade
    """


@snapshot_command.command("create")
@name_argument
@click.argument("tag", required=False)
@timeout_option("How long it may take; after that, no snapshot is taken, and the guest runs on.")
@outcome_options
@pass_session
def create_command(
    session: Session, name: str, tag: str | None, timeout_s: float | None, output_format: Format
) -> None:
    """Take the snapshot TAG of NAME; without TAG, it is named after the current time.

    If the instance is running, its memory is included: the guest is paused for a moment, and keeps its connections.

    \b
    interlock snapshot create web before-upgrade
    """
    print_result(session.interlock.snapshot(name, tag, timeout_s=timeout_s), output_format)


@snapshot_command.command("list")
@name_argument
@format_option
@pass_session
def list_command(session: Session, name: str, output_format: Format) -> None:
    """List the snapshots of NAME as a tree; * marks the one that the current disk is based on.

    \b
    interlock snapshot list web
    """
    print_records(
        ({**snapshot.to_json(), "depth": depth} for snapshot, depth in tree(session.interlock.snapshots(name))),
        output_format,
        (
            ("SNAPSHOT", lambda it: f"{'  ' * it['depth']}{it['tag']}{' *' if it['current'] else ''}"),
            ("TAKEN", lambda it: local_time(it["created_at"])),
            ("FROM", lambda it: it["parent"] or ""),
            ("MEMORY", lambda it: size(it["memory_bytes"]) if it["memory_bytes"] else ""),
        ),
    )


@snapshot_command.command("show")
@name_argument
@tag_argument
@format_option
@pass_session
def show_command(session: Session, name: str, tag: str, output_format: Format) -> None:
    """Show the snapshot TAG of NAME.

    \b
    interlock snapshot show web before-upgrade
    """
    for snapshot, depth in tree(session.interlock.snapshots(name)):
        if snapshot.tag == tag:
            print_record({**snapshot.to_json(), "depth": depth}, output_format)
            return
    raise refusals.no_snapshot(name, tag)


@snapshot_command.command("restore")
@name_argument
@tag_argument
@click.option("--cold", is_flag=True, help="Restore the disk without the memory.")
@timeout_option("How long to wait for the guest to answer before it is ended.")
@outcome_options
@pass_session
def restore_command(
    session: Session, /, name: str, tag: str, output_format: Format, *, cold: bool, timeout_s: float | None
) -> None:
    """Restore the snapshot TAG of NAME; everything that its guest did since then is lost.

    If the snapshot includes memory, the guest continues from that moment; if NAME is running, it is killed first.
    Otherwise, or with --cold, only the disk is restored, and NAME must not be running. To keep the present state, take
    another snapshot first.

    \b
    interlock snapshot restore web before-upgrade
    interlock snapshot restore web before-upgrade --cold
    """
    print_result(session.interlock.restore(name, tag, cold=cold, timeout_s=timeout_s), output_format)


@snapshot_command.command("delete")
@name_argument
@tag_argument
@outcome_options
@pass_session
def delete_command(session: Session, name: str, tag: str, output_format: Format) -> None:
    """Delete the snapshot TAG of NAME; snapshots based on it are not affected.

    \b
    interlock snapshot delete web before-upgrade
    """
    print_result(session.interlock.discard(name, tag), output_format)


def tree(found: "Sequence[Snapshot]", parent: str | None = None, depth: int = 0) -> "Iterator[tuple[Snapshot, int]]":
    """Yield the snapshots with their depth, each followed by those based on it."""
    for snapshot in found:
        if snapshot.parent == parent:
            yield snapshot, depth
            yield from tree(found, snapshot.tag, depth + 1)
