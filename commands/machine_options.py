"""The options of `create` and `up` that describe the machine, in addition to its template."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from .options import Named, Size

if TYPE_CHECKING:
    from .. import Wishes

F = TypeVar("F", bound=Callable[..., Any])
"""A function that is, or becomes, a command."""


port_forward_option = click.option(
    "--port-forward", multiple=True, metavar="HOST:GUEST", help="Forward a port of the host to the guest."
)


mount_option = click.option(
    "--mount",
    type=Named("dir"),
    multiple=True,
    metavar="DIR[:w]",
    help="Share DIR with the guest; :w makes it writable.",
)


def machine_options(command: F) -> F:
    """Add the options that override the template or set what it leaves open; `wishes` takes their values."""
    for option in reversed(
        (
            click.option(
                "--driver",
                type=Named("driver"),
                help="Driver that runs it: qemu, lima, simulated, ...; default: $INTERLOCK_DRIVER, or qemu.",
            ),
            click.option("--cluster", metavar="NAME", help="Cluster that runs it, with a driver for clusters."),
            click.option("--node", metavar="NODE", help="Cluster node to create it on; default: the cluster chooses."),
            click.option("--group", metavar="GROUP", help="Let the cluster choose a node of this group."),
            click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Virtual processors."),
            click.option("--memory", "memory_bytes", type=Size(), help="Memory, such as 2GiB."),
            click.option("--disk", "disk_bytes", type=Size(), help="Size of the disk, such as 20GiB."),
            click.option(
                "--arch", type=click.Choice(["x86_64", "aarch64"]), help="Processor architecture; default: this host's."
            ),
            click.option("--user", help="Login in the guest; default: yours."),
            mount_option,
            port_forward_option,
            click.option("--param", multiple=True, metavar="NAME=VALUE", help="Set a variable of the template."),
            click.option("--no-host", is_flag=True, help="Block access from the guest to this host's services."),
            click.option(
                "--no-internet", is_flag=True, help="Block access from the guest to networks beyond this host."
            ),
            click.option("--warm", is_flag=True, help="Make a warm image of this size first, if there is none."),
            click.option("--plain", is_flag=True, help="Leave out mounts, port forwards and containerd."),
            click.option("--set", "edits", multiple=True, metavar="KEY=VALUE", help="Change a value of the template."),
            click.option(
                "--trust", is_flag=True, help="Grant a template from a server the access to this host that it asks for."
            ),
        )
    ):
        command = option(command)
    return command


def wishes(
    *,
    mount: tuple[str, ...],
    port_forward: tuple[str, ...],
    param: tuple[str, ...],
    plain: bool,
    no_host: bool,
    no_internet: bool,
    edits: tuple[str, ...],
    **values: Any,
) -> "Wishes":
    """Return the values of `machine_options` as wishes. Raises UsageError for a value that cannot be understood."""
    from .. import Wishes

    flags = {"plain=true": plain, "network.host=false": no_host, "network.internet=false": no_internet}
    made = (*map(mount_edit, mount), *map(forward, port_forward), *map(_param, param))
    return Wishes(**values, edits=(*made, *(it for it in flags if flags[it]), *edits))


def mounted(text: str) -> dict[str, Any]:
    """Return the mount for `--mount DIR[:w]`, in the form of a template."""
    location, writable = (text[:-2], True) if text.endswith(":w") else (text, False)
    if not location:
        raise UsageError(f"--mount {text}: expected DIR or DIR:w, such as --mount ~/src:w")
    from pathlib import Path

    where = location if location.startswith(("~", "{{")) else str(Path(location).absolute())
    return {"location": where, "writable": writable}


def mount_edit(text: str) -> str:
    """Return the edit for `--mount DIR[:w]`."""
    return f"mounts[]={json.dumps(mounted(text))}"


def forward(text: str) -> str:
    """Return the edit for `--port-forward HOST:GUEST`."""
    ports = text.split(":")
    if len(ports) != 2 or not all(port.isascii() and port.isdigit() for port in ports):  # noqa: PLR2004 - host and guest
        raise UsageError(f"--port-forward {text}: expected two ports, HOST:GUEST, such as --port-forward 8080:80")
    return f"portForwards[]={json.dumps({'hostPort': int(ports[0]), 'guestPort': int(ports[1])})}"


def _param(text: str) -> str:
    """Return the edit for `--param NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--param {text}: expected NAME=VALUE, such as --param version=3")
    return f"param.{name}={json.dumps(value)}"
