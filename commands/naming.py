"""Which instance and which template a command line means if it does not name both."""

import re
import shlex
import sys
from pathlib import Path

from ..errors import UsageError
from ..host.home import NAME
from .session import Session

FOLDER_TEMPLATES = ("interlock.yaml", "lima.yaml")
"""The files that `up` without a name looks for, only in the working folder: those above it may be another user's."""

_LOCATOR = re.compile(r"-\Z|[^:]*/|(template|build|file|https?):")
"""The beginnings of template locators that cannot be names of instances."""


def to_create(session: Session, words: tuple[str, ...], template: str | None) -> tuple[str, str]:
    """Return the name and the template that `create WORDS --template TEMPLATE` means.

    A single word without --template is a template, and the instance is named after it. Raises UsageError, with the
    commands to type, for ambiguous words.
    """
    templates = session.interlock.templates
    match words, template:
        case (), None:
            raise UsageError("create needs a template", hint="interlock create web --template debian")
        case (), str():
            return templates.instance_name(template), template
        case (word,), None:
            locator = templates.locator(word)
            return _called_after(session, locator), locator
        case (word,), str():
            return word, template
    found = [word for word in words if _LOCATOR.match(word) or word in templates.list()]
    rest = [word for word in words if word not in found]
    hint = (
        shlex.join(["interlock", "create", *rest, "--template", *found]) if (len(rest), len(found)) == (1, 1) else None
    )
    raise UsageError("create takes one name, and the template with --template", hint=hint or "interlock create --help")


def to_bring_up(session: Session, word: str | None, template: str | None) -> tuple[str, str | None]:
    """Return the name and the template that `up WORD --template TEMPLATE` means.

    Without either, it is the template in the working folder, and the instance is named after the folder. A bare word is
    always a name, so that a typo does not make `up` create something.
    """
    if word is None and template is None:
        return of_this_folder(session)
    if word is None and template is not None:
        return _called_after(session, template), template
    if template is None and _LOCATOR.match(str(word)):
        return _called_after(session, str(word)), word
    return str(word), template


def refuse_template(command: str, word: str) -> None:
    """Raise UsageError if `word`, given to `command` as a name, can only be a template: `template:debian`, `./a.yaml`.

    This looks only at the text, because no code that `start` runs may read a template.
    """
    if _LOCATOR.match(word):
        stem = word.rpartition("/")[2].rpartition(":")[2].removesuffix(".yaml").removesuffix(".yml")
        raise UsageError(
            f"{word} is a template, and {command} never creates an instance",
            hint=f"interlock up {stem if NAME.fullmatch(stem) else 'web'} --template {shlex.quote(word)}",
        )


def the_only_instance(session: Session, command: str, needed: str | None = None) -> str:
    """Return the name of the instance that `command` without a name means, and report it.

    This works only at a terminal, where the user sees it: what a script does must not depend on what else exists.
    Elsewhere, the error says what is `needed`, by default a name.
    """
    if not sys.stderr.isatty():
        needed = needed or f"{command} needs a name"
        raise UsageError(f"{needed}; a name can be left out only at a terminal", hint="interlock list")
    names = session.interlock.home.names()
    if len(names) != 1:
        many = f"there are {len(names)}" if names else "there are no instances"
        hint = "interlock list" if names else "interlock create web --template debian"
        raise UsageError(f"{command} without a name means the only instance, but {many}", hint=hint)
    session.bind(names[0], command)
    session.note(f'{command} "{names[0]}", the only instance')
    return names[0]


def _called_after(session: Session, locator: str) -> str:
    name = session.interlock.templates.instance_name(locator)
    session.note(f'the instance is called "{name}"')
    return name


def of_this_folder(session: Session) -> tuple[str, str]:
    """Return the name of the working folder, and its template."""
    folder = Path.cwd()
    found = [name for name in FOLDER_TEMPLATES if (folder / name).exists()]
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._")
    name = name if NAME.fullmatch(name) else "web"
    if not found:
        raise UsageError(
            f"up needs a name: there is no {' or '.join(FOLDER_TEMPLATES)} in this folder",
            hint="interlock up web --template debian",
        )
    if len(found) > 1:
        raise UsageError(
            f"this folder has {' and '.join(found)}; choose one of these",
            details=[f"interlock up {name} --template ./{it}" for it in found],
        )
    session.note(f'using {found[0]} of this folder; the instance is called "{name}"')
    return name, f"./{found[0]}"
