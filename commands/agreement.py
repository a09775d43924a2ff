"""What is asked at a terminal: before anything is made, of `create` and `up`; before anything is lost."""

import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import CancelledError, InvalidTemplateError, NotFoundError, UntrustedTemplateError
from ..fsm import refusals
from ..fsm.table import Trigger
from ..host import cancellation
from .session import TYPED, Session
from .stdout import size
from .terminal import printable

if TYPE_CHECKING:
    from ..creation.reach import Reach
    from ..creation.wishes import Wishes
    from ..templates.load import Loaded

QUESTION = "[p]roceed, [e]dit it, another [t]emplate, [c]ancel"
ANSWERS = {"p": "proceed", "e": "edit", "t": "template", "c": "cancel"}

_EDITED = "the edited template"

_MAY_BE_SECRET = re.compile(r"://[^/]*@|://.*\?|^--param\b|\b(env|param)[.:]")


def agreed_on(
    session: Session, name: str, locator: str, given: "Wishes", driver: str | None, *, yes: bool
) -> "tuple[str | Loaded, Wishes]":
    """Return what to create `name` from, and the wishes: as given, or at a terminal as the user agreed.

    A user who agrees at a terminal, or says --yes there, trusts the template. An instance that exists already is
    refused before anything is shown. Raises CancelledError when the user declines; nothing was made then.
    """
    if not can_ask():
        return locator, given
    trusting = replace(given, trust=True)
    if yes or session.dry_run:
        return locator, trusting
    interlock = session.interlock
    templates = interlock.templates
    verdict = next(verdict for verdict in interlock.can(name) if verdict.trigger is Trigger.create)
    if not verdict.legal:
        raise refusals.illegal(name, verdict.state, verdict.trigger)
    loaded = templates.resolve(locator, given.edits)
    while True:
        click.echo(f"{name}, from {printable(loaded.name)}", err=True)
        for label, text in _summary(loaded, given, templates.reach(loaded, given, name=name, driver=driver)):
            click.echo(f"  {label:<9} {printable(text)}", err=True)
        answer = _prompt(QUESTION, type=click.Choice(list(ANSWERS)), default="p", show_choices=False, err=True)
        match ANSWERS[answer]:
            case "proceed":
                return loaded, trusting
            case "edit":
                loaded = _edited(session, loaded) or loaded
            case "template":
                loaded = _another(session, given) or loaded
            case _:
                raise CancelledError("nothing was created")


@contextmanager
def trust_proposed(context: click.Context) -> Iterator[None]:
    """Make the refusal of a template from a server propose the typed command with --trust.

    Not if that may hold a secret, because CI keeps stderr in its logs: the query or the password of a URL, a
    variable of the guest's environment or of the template.
    """
    try:
        yield
    except UntrustedTemplateError as error:
        words = context.meta[TYPED]
        if not any(_MAY_BE_SECRET.search(word) for word in words):
            where = words.index("--") if "--" in words else len(words)
            error.hint = shlex.join(["interlock", *words[:where], "--trust", *words[where:]])
        raise


def can_ask() -> bool:
    """Return whether there is somebody at a terminal to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreeing() -> str:
    """Return the command line that was typed, with the --yes that spares the question."""
    words = click.get_current_context().meta[TYPED]
    kept = (word for word in words if word not in ("--dry-run", "--yes", "-y"))
    return shlex.join(["interlock", *kept, "--yes"])


def _prompt(text: str, **options: Any) -> Any:
    """Return the user's answer; a signal ends the wait."""
    with cancellation.interruptible():
        return click.prompt(text, **options)


def confirmed(text: str, **options: Any) -> bool:
    """Return whether the user says yes; a signal ends the wait."""
    with cancellation.interruptible():
        return click.confirm(text, **options)


def _edited(session: Session, loaded: "Loaded") -> "Loaded | None":
    """Return the template as edited by the user, once it has no mistakes; None to keep `loaded`."""
    templates = session.interlock.templates
    text = templates.dump(loaded)
    while True:
        changed = click.edit(text, extension=".yaml")
        if changed is None:
            return None
        text = changed
        try:
            return templates.parse_text(_EDITED, text)
        except InvalidTemplateError as error:
            session.complain(error)
            if not confirmed("edit it again", default=True, err=True):
                return None


def _another(session: Session, given: "Wishes") -> "Loaded | None":
    """Return the template whose name the user types; None, after saying why, if it cannot be used."""
    templates = session.interlock.templates
    click.echo(f"built in: {', '.join(templates.list())}; or a path, or a URL", err=True)
    try:
        return templates.resolve(_prompt("template", err=True), given.edits)
    except (NotFoundError, InvalidTemplateError) as error:
        session.complain(error)
        return None


def _summary(loaded: "Loaded", given: "Wishes", reached: "tuple[Reach, ...]") -> Iterator[tuple[str, str]]:
    """Yield what the user needs to know before agreeing: (label, text)."""
    template = loaded.template
    arch = given.arch or template.arch or platform.machine()
    first, *mirrors = [image.location for image in template.images if image.arch in (arch, None)] or [
        f"none for {arch}"
    ]
    yield "image", first + (f", or one of {len(mirrors)} mirrors" if mirrors else "")
    sizes = {
        "cpus": given.cpus or template.cpus or "default",
        "memory": size(given.memory_bytes or template.memory) if given.memory_bytes or template.memory else "default",
        "disk": size(given.disk_bytes or template.disk) if given.disk_bytes or template.disk else "default",
    }
    yield "machine", " · ".join(f"{label} {value}" for label, value in sizes.items())
    for one in reached:
        yield "host", str(one)
    if modes := [step.mode for step in template.provision]:
        yield "scripts", f"{len(modes)} ({', '.join(dict.fromkeys(modes))})"
    for note in loaded.notes:
        yield "note", note
