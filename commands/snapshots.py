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
    """Take, list, restore and delete snapshots of an instance's disk, and of the memory of one that runs.

    The disk takes up no space by itself: what is written later goes to another layer. Memory takes up what the guest
    has in use.
    """


@snapshot_command.command("create")
@name_argument
@click.argument("tag", required=False)
@timeout_option("Let the guest run on, and take no snapshot, when it has not ended by then.")
@outcome_options
@pass_session
def create_command(
    session: Session, name: str, tag: str | None, timeout_s: float | None, output_format: Format
) -> None:
    """Keep the disk of NAME as the snapshot TAG; without TAG it is called after the time.

    Of an instance that runs, the memory is kept too: its guest stands still for a moment, and keeps its connections.

    \b
    interlock snapshot create web before-upgrade
    """
    print_result(session.interlock.snapshot(name, tag, timeout_s=timeout_s), output_format)


@snapshot_command.command("list")
@name_argument
@format_option
@pass_session
def list_command(session: Session, name: str, output_format: Format) -> None:
    """List the snapshots of NAME as a tree; * marks the one that the disk comes from.

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
    """Show what is known of the snapshot TAG of NAME.

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
@click.option("--cold", is_flag=True, help="Bring the disk back without the memory.")
@timeout_option("End a guest that has continued and has not answered by then.")
@outcome_options
@pass_session
def restore_command(
    session: Session, /, name: str, tag: str, output_format: Format, *, cold: bool, timeout_s: float | None
) -> None:
    """Bring the snapshot TAG of NAME back; what its guest did since is gone.

    With memory in the snapshot, the guest continues from that moment; if NAME runs, it is killed first. Without, or
    with --cold, the disk alone comes back, and NAME must not run. To keep what is now, take another snapshot first.

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
    """Delete the snapshot TAG of NAME; those that came from it stay whole.

    \b
    interlock snapshot delete web before-upgrade
    """
    print_result(session.interlock.discard(name, tag), output_format)


def tree(found: "Sequence[Snapshot]", parent: str | None = None, depth: int = 0) -> "Iterator[tuple[Snapshot, int]]":
    """Yield the snapshots with their depth, each followed by those that came from it."""
    for snapshot in found:
        if snapshot.parent == parent:
            yield snapshot, depth
            yield from tree(found, snapshot.tag, depth + 1)
