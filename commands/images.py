"""The commands about images. Instances hold links to the files they need, so none of these can hurt one."""

import platform
from typing import Any

import click

from ..cli import Session
from ..fsm.errors import NotFoundError
from ..fsm.home import Home
from ..output import Format, format_option, print_record, print_records, size
from .options import pass_session

arch_option = click.option("--arch", type=click.Choice(["x86_64", "aarch64"]), default=platform.machine())


@click.group("image")
def image_command() -> None:
    """Build, list and delete images."""


@image_command.command("build")
@click.argument("name", type=click.Choice(["tiny", "debian"]))
@arch_option
@click.option("--force", is_flag=True, help="Build it again although there is one.")
@format_option
@pass_session
def build_command(session: Session, name: str, arch: str, force: bool, output_format: Format) -> None:
    """Build the image NAME from its distribution's packages.

    \b
    tiny     kernel and initramfs with busybox and dropbear; answers ssh in seconds
    debian   Debian 12 with systemd, openssh, cloud-init
    """
    from ..images.build import build
    from ..images.store import Store

    home = Home.from_environment()
    home.prepare()
    store = Store(home.images)
    there = store.get(name, arch)
    image = there if there and not force else build(store, name, arch, session.report, force=force)
    if image is there:
        session.report(f"image {name} for {arch} was built before; --force builds it again")
    if output_format != "table":
        print_record(_record(store, image), output_format)


@image_command.command("list")
@format_option
def list_command(output_format: Format) -> None:
    """List the images, and how many instances use each."""
    from ..images.store import Store

    store = Store(Home.from_environment().images)
    print_records(
        (_record(store, image) for image in store.list()),
        output_format,
        (
            ("NAME", lambda record: record["name"]),
            ("ARCH", lambda record: record["arch"]),
            ("SIZE", lambda record: size(record["size_bytes"])),
            ("BOOTS BY", lambda record: ", ".join(record["boot"])),
            ("USED BY", lambda record: str(record["users"])),
            ("ORIGIN", lambda record: record["origin"]),
        ),
    )


@image_command.command("delete")
@click.argument("name")
@arch_option
@pass_session
def delete_command(session: Session, name: str, arch: str) -> None:
    """Delete the image NAME from the store; instances made from it keep what they need."""
    from ..images.store import Store

    if not Store(Home.from_environment().images).delete(name, arch):
        raise NotFoundError(f'there is no image "{name}" for {arch}', hint="interlock image list")
    session.report(f"deleted image {name} for {arch}")


def _record(store: Any, image: Any) -> dict[str, Any]:
    return {
        "name": image.name,
        "arch": image.arch,
        "size_bytes": sum(blob.size_bytes for blob in image.files.values()),
        "boot": list(image.boot),
        "first_boot": list(image.first_boot),
        "users": store.users(image),
        "origin": image.origin,
        "created_at": image.created_at,
        "files": {role: f"sha256:{blob.digest}" for role, blob in image.files.items()},
    }
