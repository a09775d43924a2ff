"""The commands about images. Instances have links to the files that they need, so no command here can harm one."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Group, Named, Size, dry_run_option, format_option, pass_session
from .pruning import agreement_options, prune
from .session import Session
from .stdout import Format, print_record, print_records, size

if TYPE_CHECKING:
    from .. import Image
    from ..images.library import Images
    from ..images.usage import Users

arch_option = click.option(
    "--arch",
    type=click.Choice(["x86_64", "aarch64"]),
    default=platform.machine(),
    help="Processor architecture; default: this host's.",
)

readable_file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.group("image", cls=Group)
def image_command() -> None:
    """Build, import, list and delete images.

    \b
    interlock image build debian
    interlock image list
    """


@image_command.command("build")
@click.argument("name", type=click.Choice(["tiny", "debian"]))
@arch_option
@click.option("--suite", default="bookworm", show_default=True, help="Debian's release: bookworm, trixie, sid, ...")
@click.option("--package", "packages", multiple=True, metavar="P", help="Additional Debian package; may be repeated.")
@click.option("--script", type=readable_file, help="Script that root runs in the new system at the end.")
@click.option("--as", "new_name", metavar="NEWNAME", help="Name of the image; default: NAME and what differs.")
@click.option("--force", is_flag=True, help="Build it even if it exists.")
@format_option
@pass_session
def build_command(  # noqa: PLR0917 - click gives each option by name
    session: Session,
    name: str,
    arch: str,
    suite: str,
    packages: tuple[str, ...],
    script: Path | None,
    new_name: str | None,
    force: bool,
    output_format: Format,
) -> None:
    """Build the image NAME from its distribution's packages.

    \b
    tiny     kernel and initramfs with busybox and dropbear; answers ssh in seconds
    debian   Debian with systemd, openssh, cloud-init

    With another suite, packages or a script, the image gets a name of its own; templates call it `build:NEWNAME`.

    \b
    interlock image build debian
    interlock image build debian --package nginx --as web
    """
    images = session.interlock.images
    before = images.list()
    image = images.build(
        name,
        arch=arch,
        suite=suite,
        packages=packages,
        script=script.read_bytes() if script else None,
        name=new_name,
        force=force,
        report=session.report,
    )
    if image in before:
        session.report(f"image {image.name} for {arch} already exists; --force builds it again")
    _print(images, image, output_format)


@image_command.command("import")
@click.argument("file", type=readable_file)
@click.option("--name", metavar="N", help="Name of the image; default: the file's.")
@arch_option
@format_option
@pass_session
def import_command(session: Session, file: Path, name: str | None, arch: str, output_format: Format) -> None:
    """Copy the disk image FILE into the store: qcow2 or raw, also compressed (gz, bz2, xz, zst).

    Templates call it `build:N`.

    \b
    interlock image import ./appliance.qcow2 --name appliance
    """
    images = session.interlock.images
    image = images.import_(file, name=name, arch=arch, report=session.report)
    session.report(f"imported image {image.name} for {arch}")
    _print(images, image, output_format)


@image_command.command("list")
@format_option
@pass_session
def list_command(session: Session, output_format: Format) -> None:
    """List the images, and which instances use each.

    \b
    interlock image list --format json
    """
    images = session.interlock.images
    using = images.users()
    print_records(
        (_record(images, image, using) for image in images.list()),
        output_format,
        (
            ("NAME", lambda record: record["name"]),
            ("ARCH", lambda record: record["arch"]),
            ("SIZE", lambda record: size(record["size_bytes"])),
            ("BOOTS BY", lambda record: ", ".join(record["boot"])),
            ("WARM", lambda record: "; ".join(_machine(it) for it in record["warm"]) or "-"),
            ("USED BY", lambda record: ", ".join(record["instances"]) or "-"),
            ("ORIGIN", lambda record: record["origin"]),
        ),
    )


@image_command.command("inspect")
@click.argument("name", type=Named("image"))
@arch_option
@format_option
@pass_session
def inspect_command(session: Session, name: str, arch: str, output_format: Format) -> None:
    """Show everything known about the image NAME: its files, what it was made from, the packages in it.

    \b
    interlock image inspect debian
    """
    images = session.interlock.images
    image = images.get(name, arch)
    print_record(_record(images, image, images.users()) | _details(image), output_format)


@image_command.command("delete")
@click.argument("name", type=Named("image"))
@arch_option
@click.option("--warm", is_flag=True, help="Delete only its warm images; instances that started from one keep it.")
@click.option("--force", is_flag=True, help="Delete it even if instances use it; they keep what they need.")
@dry_run_option
@format_option
@pass_session
def delete_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, name: str, arch: str, warm: bool, force: bool, dry_run: bool, output_format: Format
) -> None:
    """Delete the image NAME from the store, with its warm images, unless an instance uses it.

    \b
    interlock image delete debian
    interlock image delete debian --warm
    """
    images = session.interlock.images
    image = images.get(name, arch)
    if warm:
        count = len(images.warm(image)) if dry_run else images.delete_warm(name, arch)
        would = f"dry run: removes the warm images of {name} for {arch}: {count}"
        session.report(would if dry_run else f"deleted warm images of {name} for {arch}: {count}")
    else:
        images.delete(name, arch, force=force, dry_run=dry_run)
        would = f"dry run: removes image {name} for {arch}, {size(image.size_bytes)}"
        session.report(would if dry_run else f"deleted image {name} for {arch}")
    _print(images, image, output_format)


@image_command.command("warm")
@click.argument("name", type=Named("image"))
@arch_option
@click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Virtual processors.")
@click.option("--memory", "memory_bytes", type=Size(), help="Memory, such as 2GiB.")
@click.option("--disk", "disk_bytes", type=Size(), help="Size of the disk, such as 20GiB.")
@click.option("--force", is_flag=True, help="Make it even if it exists.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@format_option
@pass_session
def warm_command(
    session: Session, /, name: str, force: bool, dry_run: bool, output_format: Format, **wanted: Any
) -> None:
    """Boot a machine from the image NAME once, and save it: instances of the same size start there instead of booting.

    The default sizes are those of the built-in template NAME. `create` uses a warm image of the instance's size if
    there is one; `start` says whether the guest started from it, and if not, why.

    \b
    interlock image warm tiny
    interlock image warm debian --cpus 2 --memory 2GiB --disk 20GiB
    """
    interlock = session.interlock
    made = interlock.warm(name, force=force, dry_run=dry_run, report=session.report, **wanted)
    if made and not dry_run:
        session.report(f"instances of {name} with {made.machine} now start warm: {size(made.size_bytes)}")
    _print(interlock.images, interlock.images.get(name, wanted["arch"]), output_format)


@image_command.command("prune")
@agreement_options
@format_option
@pass_session
def prune_command(session: Session, yes: bool, dry_run: bool, output_format: Format) -> None:
    """List images that no instance uses, warm ones too, and partial downloads; remove them if you agree or with --yes.

    \b
    interlock image prune
    interlock image prune --yes
    """
    prune(session, ("image", "warm", "download", "leftover"), yes=yes, dry_run=dry_run, output_format=output_format)


def _print(images: "Images", image: "Image", output_format: Format) -> None:
    """Print the image that a command made or changed, for programs; people have read the messages on stderr."""
    if output_format != "table":
        print_record(_record(images, image, images.users()), output_format)


def _machine(warm: dict[str, Any]) -> str:
    return f"{warm['cpus']} cpu, {size(warm['memory_bytes'])}"


def _record(images: "Images", image: "Image", using: "Users") -> dict[str, Any]:
    return {
        "name": image.name,
        "arch": image.arch,
        "kind": image.kind,
        "size_bytes": image.size_bytes,
        "boot": list(image.boot),
        "first_boot": list(image.first_boot),
        "instances": list(using.get((image.name, image.arch), ())),
        "warm": images.warm(image),
        "origin": image.origin,
        "created_at": image.created_at,
        "files": {
            role: {"digest": f"sha256:{blob.digest}", "size_bytes": blob.size_bytes}
            for role, blob in image.files.items()
        },
    }


def _details(image: "Image") -> dict[str, Any]:
    return {
        "kernel_arguments": image.kernel_arguments,
        "made_of": dict(image.made_of),
        "packages": dict(image.packages),
    }
