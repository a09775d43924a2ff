"""The commands about disks that outlive instances."""

from pathlib import Path

import click

from .options import Group, Named, Size, dry_run_option, format_option, pass_session
from .session import Session
from .stdout import Format, print_record, print_records, print_result, size

name_argument = click.argument("name", type=Named("disk", "name"))


@click.group("disk", cls=Group)
def disk_command() -> None:
    """Create, list, resize and delete disks that outlive instances.

    A template attaches a disk by its name (`additionalDisks`). Only one running instance at a time can use it.

    \b
    interlock disk create data --size 10GiB
    interlock disk list
    """


@disk_command.command("create")
@name_argument
@click.option("--size", "size_bytes", type=Size(), required=True, help="Size that the guest sees, such as 10GiB.")
@click.option("--kind", type=click.Choice(["qcow2", "raw"]), default="qcow2", show_default=True, help="File format.")
@format_option
@pass_session
def create_command(session: Session, name: str, size_bytes: int, kind: str, output_format: Format) -> None:
    """Create the empty disk NAME; it takes up no space until a guest writes to it.

    \b
    interlock disk create data --size 10GiB
    """
    disk = session.interlock.disks.create(name, size_bytes, kind, session.report)
    session.report(f'created disk "{name}", {size(size_bytes)}')
    print_result(disk, output_format)


@disk_command.command("import")
@name_argument
@click.argument("path", type=click.Path(path_type=Path))
@format_option
@pass_session
def import_command(session: Session, name: str, path: Path, output_format: Format) -> None:
    """Create the disk NAME as a copy of the file PATH, a qcow2 or raw disk.

    \b
    interlock disk import data ./data.qcow2
    """
    disk = session.interlock.disks.import_(name, path, session.report)
    session.report(f'imported disk "{name}", {size(disk.size_bytes)}')
    print_result(disk, output_format)


@disk_command.command("list")
@format_option
@pass_session
def list_command(session: Session, output_format: Format) -> None:
    """List the disks, the instances they are attached to, and the processes that have them open.

    \b
    interlock disk list
    """
    print_records(
        (disk.to_json() for disk in session.interlock.disks.list()),
        output_format,
        (
            ("NAME", lambda record: record["name"]),
            ("FORMAT", lambda record: record["format"]),
            ("SIZE", lambda record: size(record["size_bytes"])),
            ("USED", lambda record: size(record["used_bytes"])),
            ("ATTACHED TO", lambda record: ", ".join(record["instances"])),
            ("IN USE BY", lambda record: record["in_use_by"] or ""),
        ),
    )


@disk_command.command("inspect")
@name_argument
@format_option
@pass_session
def inspect_command(session: Session, name: str, output_format: Format) -> None:
    """Show everything known about the disk NAME.

    \b
    interlock disk inspect data
    """
    print_record(session.interlock.disks.get(name).to_json(), output_format)


@disk_command.command("resize")
@name_argument
@click.option("--size", "size_bytes", type=Size(), required=True, help="The new size, such as 20GiB.")
@format_option
@pass_session
def resize_command(session: Session, name: str, size_bytes: int, output_format: Format) -> None:
    """Make the disk NAME larger; the instances it is attached to must not be running.

    \b
    interlock disk resize data --size 20GiB
    """
    disk = session.interlock.disks.resize(name, size_bytes)
    session.report(f'disk "{name}" now has {size(size_bytes)}')
    print_result(disk, output_format)


@disk_command.command("delete")
@name_argument
@dry_run_option
@format_option
@pass_session
def delete_command(session: Session, name: str, dry_run: bool, output_format: Format) -> None:
    """Delete the disk NAME and all data on it, unless it is attached to an instance.

    \b
    interlock disk delete data
    """
    disks = session.interlock.disks
    disk = disks.get(name)
    disks.delete(name, dry_run=dry_run)
    session.report(f'deleted disk "{name}"' if not dry_run else f"dry run: removes {disk.path}")
    print_result(disk, output_format)
