"""The questions at a terminal: before `create` and `up` make anything, and before any command destroys anything."""

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
    """Return the template of `name`, and the wishes: as given, or as changed and agreed on by the user at a terminal.

    A user who agrees at a terminal, or types --yes there, trusts the template. If the instance exists already, this is
    refused before anything is shown. Raises CancelledError if the user declines; then nothing has been made.
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
    """If a template from a server is refused, propose the typed command with --trust.

    This is not done if the command may contain a secret (in the query or the password of a URL, in a variable of the
    guest's environment or of the template), because CI keeps stderr in its logs.
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
    """Return whether there is a user at a terminal who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreeing() -> str:
    """Return the command line that was typed, with --yes added so that it asks nothing."""
    words = click.get_current_context().meta[TYPED]
    kept = (word for word in words if word not in ("--dry-run", "--yes", "-y"))
    return shlex.join(["interlock", *kept, "--yes"])


def _prompt(text: str, **options: Any) -> Any:
    """Return the user's answer; a signal ends the waiting."""
    with cancellation.interruptible():
        return click.prompt(text, **options)


def confirmed(text: str, **options: Any) -> bool:
    """Return whether the user agrees; a signal ends the waiting."""
    with cancellation.interruptible():
        return click.confirm(text, **options)


def _edited(session: Session, loaded: "Loaded") -> "Loaded | None":
    """Return the template as edited by the user, once it has no mistakes; None if `loaded` is kept."""
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
    """Return the template whose name the user types; if it cannot be used, say why and return None."""
    templates = session.interlock.templates
    click.echo(f"built in: {', '.join(templates.list())}; or a path, or a URL", err=True)
    try:
        return templates.resolve(_prompt("template", err=True), given.edits)
    except (NotFoundError, InvalidTemplateError) as error:
        session.complain(error)
        return None


def _summary(loaded: "Loaded", given: "Wishes", reached: "tuple[Reach, ...]") -> Iterator[tuple[str, str]]:
    """Yield what the user needs to know before agreeing, as pairs (label, text)."""
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
