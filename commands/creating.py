"""What `create` and `up` are told about the machine: options that edit the template, and the talk at a terminal."""

import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CancelledError, InvalidTemplateError, NotFoundError, UsageError
from ..fsm import refusals
from ..fsm.table import Trigger
from ..host import cancellation
from .options import Size
from .session import Session
from .stdout import size
from .terminal import printable

if TYPE_CHECKING:
    from ..creation.plan import Wishes
    from ..creation.reach import Reach
    from ..templates.load import Loaded

F = TypeVar("F", bound=Callable[..., Any])
"""A function that is, or becomes, a command."""

QUESTION = "[p]roceed, [e]dit it, another [t]emplate, [c]ancel"
ANSWERS = {"p": "proceed", "e": "edit", "t": "template", "c": "cancel"}

_EDITED = "the edited template"


def machine_options(command: F) -> F:
    """Add the options that overrule the template, or say what it leaves open; `wishes` takes what they were given."""
    for option in reversed(
        (
            click.option("--driver", default="qemu", show_default=True, help="What runs it: qemu, simulated, ..."),
            click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Virtual processors."),
            click.option("--memory", "memory_bytes", type=Size(), help="Memory, such as 2GiB."),
            click.option("--disk", "disk_bytes", type=Size(), help="Size of the disk, such as 20GiB."),
            click.option("--arch", type=click.Choice(["x86_64", "aarch64"]), help="Default: this host's."),
            click.option("--user", help="Login in the guest; default: yours."),
            click.option(
                "--mount", multiple=True, metavar="DIR[:w]", help="Let the guest see DIR; with :w, let it write there."
            ),
            click.option(
                "--port-forward", multiple=True, metavar="HOST:GUEST", help="Lead a port of the host's to the guest."
            ),
            click.option("--param", multiple=True, metavar="NAME=VALUE", help="A variable of the template's own."),
            click.option("--no-host", is_flag=True, help="Let the guest reach no service of this host."),
            click.option("--no-internet", is_flag=True, help="Let the guest reach nothing beyond this host."),
            click.option("--plain", is_flag=True, help="Without mounts and what else the template adds to a system."),
            click.option("--set", "edits", multiple=True, metavar="KEY=VALUE", help="Any value of the template."),
            click.option(
                "--trust", is_flag=True, help="Let a template from a server reach of this host what it asks for."
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
    """Return what `machine_options` were given. Raises UsageError for one that cannot be understood."""
    from ..creation.plan import Wishes

    flags = {"plain=true": plain, "network.host=false": no_host, "network.internet=false": no_internet}
    made = (*map(_mount, mount), *map(_forward, port_forward), *map(_param, param), *(it for it in flags if flags[it]))
    return Wishes(**values, edits=(*made, *edits))


def agreed_on(
    session: Session, name: str, locator: str, given: "Wishes", driver: str, *, yes: bool
) -> "tuple[str | Loaded, Wishes]":
    """Return what to create `name` from, and the wishes: as given, or at a terminal what somebody there has agreed to.

    Who agrees at a terminal, be it by --yes, trusts the template. That the instance does not exist is looked at first,
    before anyone edits anything. Raises CancelledError when nobody wants it any more; nothing was made then.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return locator, given
    trusting = replace(given, trust=True)
    if yes:
        return locator, trusting
    from .. import drivers
    from ..creation.plan import check, read
    from ..templates.load import dump

    interlock = session.interlock
    verdict = next(verdict for verdict in interlock.can(name) if verdict.trigger is Trigger.create)
    if not verdict.legal:
        raise refusals.illegal(name, verdict.state, verdict.trigger)
    loaded = read(interlock.home, locator, given.edits)
    while True:
        click.echo(f"{name}, from {printable(loaded.name)}", err=True)
        for label, text in _summary(loaded, given, check(interlock.home, name, loaded, drivers.find(driver), given)):
            click.echo(f"  {label:<9} {printable(text)}", err=True)
        answer = _prompt(QUESTION, type=click.Choice(list(ANSWERS)), default="p", show_choices=False, err=True)
        match ANSWERS[answer]:
            case "proceed":
                return loaded, trusting
            case "edit":
                loaded = _edited(session, dump(loaded)) or loaded
            case "template":
                loaded = _another(session, given) or loaded
            case _:
                raise CancelledError("nothing was created")


def _prompt(text: str, **options: Any) -> Any:
    """Return what somebody answers; a signal ends the wait for it."""
    with cancellation.interruptible():
        return click.prompt(text, **options)


def _confirm(text: str, **options: Any) -> bool:
    """Return whether somebody says yes; a signal ends the wait for it."""
    with cancellation.interruptible():
        return click.confirm(text, **options)


def _edited(session: Session, text: str) -> "Loaded | None":
    """Return what became of `text` in the editor, once it has no mistakes; None when it is to stay as it was."""
    from ..templates.load import Source, parse

    while True:
        changed = click.edit(text, extension=".yaml")
        if changed is None:
            return None
        text = changed
        try:
            return parse(Source(_EDITED, text.encode()))
        except InvalidTemplateError as error:
            session.complain(error)
            if not _confirm("edit it again", default=True, err=True):
                return None


def _another(session: Session, given: "Wishes") -> "Loaded | None":
    """Return another template, by the name that somebody types; None for one that cannot be used, which is told."""
    from ..creation.plan import read
    from ..templates.load import builtin_names

    click.echo(f"built in: {', '.join(builtin_names())}; or a path, or a URL", err=True)
    try:
        return read(session.interlock.home, _prompt("template", err=True), given.edits)
    except (NotFoundError, InvalidTemplateError) as error:
        session.complain(error)
        return None


def _summary(loaded: "Loaded", given: "Wishes", reached: "list[Reach]") -> Iterator[tuple[str, str]]:
    """Yield what there is to know before one agrees: (label, text)."""
    template = loaded.template
    arch = given.arch or template.arch or platform.machine()
    first, *mirrors = [image.location for image in template.images if image.arch in (arch, None)] or [
        f"none for {arch}"
    ]
    yield "image", first + (f", or {len(mirrors)} more that stand in for it" if mirrors else "")
    sizes = {
        "cpus": given.cpus or template.cpus or "as many as fit this host",
        "memory": size(given.memory_bytes or template.memory) if given.memory_bytes or template.memory else "a part",
        "disk": size(given.disk_bytes or template.disk) if given.disk_bytes or template.disk else "the default",
    }
    yield "machine", " · ".join(f"{label} {value}" for label, value in sizes.items())
    for one in reached:
        yield "host", str(one)
    if modes := [step.mode for step in template.provision]:
        yield "scripts", f"{len(modes)} ({', '.join(dict.fromkeys(modes))})"
    for note in loaded.notes:
        yield "note", note


def _mount(text: str) -> str:
    """Return the edit for `--mount DIR[:w]`."""
    location, writable = (text[:-2], True) if text.endswith(":w") else (text, False)
    if not location:
        raise UsageError(f"--mount {text}: expected DIR or DIR:w, such as --mount ~/src:w")
    from pathlib import Path

    where = location if location.startswith(("~", "{{")) else str(Path(location).absolute())
    return f"mounts[]={json.dumps({'location': where, 'writable': writable})}"


def _forward(text: str) -> str:
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
