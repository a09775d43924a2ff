"""The commands about images. Instances hold links to the files they need, so none of these can hurt one."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import NotFoundError
from ..host.home import Home
from .options import Group, pass_session
from .session import Session
from .stdout import Format, format_option, print_record, print_records, size

if TYPE_CHECKING:
    from ..images.store import Image, Store
    from ..images.usage import Users

arch_option = click.option(
    "--arch", type=click.Choice(["x86_64", "aarch64"]), default=platform.machine(), help="Default: this host's."
)

readable_file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.group("image", cls=Group)
def image_command() -> None:
    """Build, import, list and delete images."""


@image_command.command("build")
@click.argument("name", type=click.Choice(["tiny", "debian"]))
@arch_option
@click.option("--suite", default="bookworm", show_default=True, help="Debian's release: bookworm, trixie, sid, ...")
@click.option("--package", "packages", multiple=True, metavar="P", help="A package more; may be given several times.")
@click.option("--script", type=readable_file, help="Run by root in the new system, when all else is done.")
@click.option("--as", "new_name", metavar="NEWNAME", help="What to call it; default: NAME and what differs.")
@click.option("--force", is_flag=True, help="Build it again although there is one.")
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

    With another suite, packages or a script the image has another name, and templates find it at `build:NEWNAME`.
    """
    from ..images.builders.build import build
    from ..images.builders.recipe import Recipe
    from ..images.store import Store

    home = Home.from_environment()
    home.prepare()
    store = Store(home.images)
    recipe = Recipe(name, arch, suite, packages, script.read_bytes() if script else None)
    before = store.list()
    image = build(store, recipe, session.report, name=new_name, force=force)
    if image in before:
        session.report(f"image {image.name} for {arch} was built before; --force builds it again")
    _tell(store, home, image, output_format)


@image_command.command("import")
@click.argument("file", type=readable_file)
@click.option("--name", metavar="N", help="What to call it; default: the file's name.")
@arch_option
@format_option
@pass_session
def import_command(session: Session, file: Path, name: str | None, arch: str, output_format: Format) -> None:
    """Take the disk image FILE into the store: qcow2 or raw, also compressed by gz, bz2, xz or zst.

    Templates find it at `build:N`.
    """
    from ..images.published import import_
    from ..images.source import Source
    from ..images.store import Store

    home = Home.from_environment()
    home.prepare()
    store = Store(home.images)
    image = import_(store, Source(str(file.absolute()), arch), name, session.report)
    session.report(f"image {image.name} for {arch} is in the store")
    _tell(store, home, image, output_format)


@image_command.command("list")
@format_option
def list_command(output_format: Format) -> None:
    """List the images, and which instances use each."""
    from ..images.store import Store
    from ..images.usage import users

    home = Home.from_environment()
    store = Store(home.images)
    using = users(store, home)
    print_records(
        (_record(image, using) for image in store.list()),
        output_format,
        (
            ("NAME", lambda record: record["name"]),
            ("ARCH", lambda record: record["arch"]),
            ("SIZE", lambda record: size(record["size_bytes"])),
            ("BOOTS BY", lambda record: ", ".join(record["boot"])),
            ("USED BY", lambda record: ", ".join(record["instances"]) or "-"),
            ("ORIGIN", lambda record: record["origin"]),
        ),
    )


@image_command.command("inspect")
@click.argument("name")
@arch_option
@format_option
def inspect_command(name: str, arch: str, output_format: Format) -> None:
    """Show all that is known of the image NAME: its files, what it was made of, the packages in it."""
    from ..images.store import Store
    from ..images.usage import users

    home = Home.from_environment()
    store = Store(home.images)
    image = store.get(name, arch)
    if not image:
        raise _not_found(name, arch)
    print_record(_record(image, users(store, home)) | _details(image), output_format)


@image_command.command("delete")
@click.argument("name")
@arch_option
@click.option("--force", is_flag=True, help="Also when instances use it: they keep what they need.")
@pass_session
def delete_command(session: Session, name: str, arch: str, force: bool) -> None:
    """Delete the image NAME from the store, unless an instance uses it."""
    from ..images.store import Store
    from ..images.usage import delete

    home = Home.from_environment()
    if not delete(Store(home.images), home, name, arch, force=force):
        raise _not_found(name, arch)
    session.report(f"deleted image {name} for {arch}")


@image_command.command("prune")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@format_option
@pass_session
def prune_command(session: Session, dry_run: bool, output_format: Format) -> None:
    """Delete the images that no instance uses, and partial downloads."""
    from ..images.store import Store
    from ..images.usage import prune

    home = Home.from_environment()
    pruned = prune(Store(home.images), home, session.report, dry_run=dry_run)
    images = ({"what": "image", "name": it.name, "arch": it.arch, "size_bytes": it.size_bytes} for it in pruned.images)
    downloads = (
        {"what": "download", "name": location, "arch": None, "size_bytes": size_bytes}
        for location, size_bytes in pruned.downloads.items()
    )
    print_records(
        (*images, *downloads),
        output_format,
        (
            ("WHAT", lambda record: record["what"]),
            ("NAME", lambda record: record["name"]),
            ("ARCH", lambda record: record["arch"] or "-"),
            ("SIZE", lambda record: size(record["size_bytes"])),
        ),
    )
    session.report(f"{'this would free' if dry_run else 'freed'} {size(pruned.freed_bytes)}")


def _not_found(name: str, arch: str) -> NotFoundError:
    return NotFoundError(f'there is no image "{name}" for {arch}', hint="interlock image list")


def _tell(store: "Store", home: Home, image: "Image", output_format: Format) -> None:
    """Print the image that a command was asked to bring about; people have been told on the way."""
    from ..images.usage import users

    if output_format != "table":
        print_record(_record(image, users(store, home)), output_format)


def _record(image: "Image", using: "Users") -> dict[str, Any]:
    return {
        "name": image.name,
        "arch": image.arch,
        "kind": image.kind,
        "size_bytes": image.size_bytes,
        "boot": list(image.boot),
        "first_boot": list(image.first_boot),
        "instances": list(using.get((image.name, image.arch), ())),
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
