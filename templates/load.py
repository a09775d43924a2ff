"""Reads a whole template, with bases, edits and defaults, and reports every mistake at once, each with its place.

locate → document → bases, merge → edit → model, support, expand
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import InvalidTemplateError
from . import support
from .bases import Reading
from .document import BOOL, FLOAT, INT, STR, get, is_null, items, plain, serialize
from .edit import apply
from .expand import Guest, Host, expanded, misused
from .locate import Source, builtin_names, find
from .merge import combine, merge
from .mistakes import Mistake, mistakes
from .model import Template, json_schema

__all__ = [
    "Guest",
    "Host",
    "Loaded",
    "Source",
    "builtin_names",
    "dump",
    "expand",
    "find",
    "json_schema",
    "load",
    "parse",
    "summary",
]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid template."""

    template: Template
    """Its variables are not replaced yet."""
    notes: tuple[str, ...]
    """Notes about it, in the order of its text: what is ignored or done differently."""
    name: str
    """Its name in messages: `template:debian`, `./web.yaml`."""
    tree: yaml.MappingNode
    """The whole template as one tree: bases, edits and defaults are merged in."""
    sources: tuple[str, ...]
    """The names of the texts that were read, in order."""


def load(template: str | Mapping[str, Any], *, edits: Sequence[str] = (), defaults: Path | None = None) -> Loaded:
    """Return the template that `template` means or is, changed by `edits` and filled in from the file `defaults`.

    An edit is KEY=VALUE. Raises NotFoundError for what does not exist, and InvalidTemplateError with all mistakes.
    """
    return parse(find(template), edits=edits, defaults=defaults)


def parse(source: Source, *, edits: Sequence[str] = (), defaults: Path | None = None) -> Loaded:
    """Return the template in `source`, as `load` does."""
    reading = Reading()
    tree = reading.tree(source)
    combine(tree)
    for edit in edits:
        apply(tree, edit)
    sources = reading.sources
    if defaults is not None:
        others = Reading()  # the template and the defaults may have a base in common
        merge(tree, others.tree(find(str(defaults.absolute()))), nulls=True)
        sources += others.sources
    combine(tree)
    _read_as_text(tree)
    return _checked(tree, source.name, tuple(sources))


def expand(loaded: Loaded, host: Host, guest: Guest) -> Template:
    """Return the template of `loaded` with the variables replaced in every text that may hold them.

    Afterwards paths on the host are absolute (a relative hostSocket is in the folder `sock` of the instance's
    directory) and every mount names its mountPoint. `guest.home` is used if the template sets no home. Raises
    InvalidTemplateError with all mistakes, because an expanded text can be wrong.
    """
    data = plain(loaded.tree)
    wrong = expanded(loaded.tree, data, host, guest)
    template, more = _validated(loaded.tree, data)
    if wrong or template is None:
        raise invalid(loaded.name, loaded.sources, wrong + more)
    return support.without_dropped(template)


def dump(loaded: Loaded) -> str:
    """Return the template as self-contained YAML text that loads to the same template. Comments are lost."""
    return serialize(loaded.tree)


def summary(source: Source) -> str:
    """Return the first sentence of the comment that `source` begins with."""
    lines = []
    for line in source.text.decode(errors="replace").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")


def _checked(tree: yaml.MappingNode, name: str, sources: tuple[str, ...]) -> Loaded:
    data = plain(tree)
    template, wrong = _validated(tree, data)
    wrong += support.lacking(tree, data) + misused(tree, data)
    unread = list(support.comments(tree))
    if wrong or template is None:
        raise invalid(name, sources, wrong + unread)
    notes = _in_order(support.notes(tree, data, template) + unread, sources)
    return Loaded(support.without_dropped(template), tuple(note.note for note in notes), name, tree, sources)


def _validated(tree: yaml.MappingNode, data: dict[str, Any]) -> tuple[Template | None, list[Mistake]]:
    try:
        return Template.model_validate(data), []
    except ValidationError as error:
        return None, mistakes(tree, error)


def refused(loaded: Loaded, wrong: Iterable[Mistake]) -> InvalidTemplateError:
    """Return the error that lists the mistakes in `loaded`, in the order of its text."""
    return invalid(loaded.name, loaded.sources, wrong)


def invalid(name: str, sources: Sequence[str], wrong: Iterable[Mistake]) -> InvalidTemplateError:
    """Return the error that lists everything `wrong` with the template called `name`, read from `sources`."""
    details = [str(mistake) for mistake in _in_order(wrong, sources)]
    count = "1 mistake" if len(details) == 1 else f"{len(details)} mistakes"
    return InvalidTemplateError(f"{name}: {count}", details=details)


def _in_order(found: Iterable[Mistake], sources: Sequence[str]) -> list[Mistake]:
    """Return `found` in the order in which the texts were read; edits, which are not sources, come last."""
    order = {source: position for position, source in enumerate(sources)}

    def position(one: Mistake) -> tuple[int, int, int, str, str]:
        place = one.place
        return order.get(place.source, len(order)), place.line, place.column, place.source, one.field

    return sorted(dict.fromkeys(found), key=position)


def _read_as_text(tree: yaml.MappingNode) -> None:
    """Make text of what is always text, whatever it looks like: `true` in env, 644 in permissions, 2.0 as a version."""
    mappings = [get(tree, "env"), get(tree, "param"), get(get(tree, "hostResolver"), "hosts")]
    values = [value for node in mappings if isinstance(node, yaml.MappingNode) for _, value in node.value]
    for value in values:
        if is_null(value):  # declared without a value
            value.tag, value.value = STR, ""
    values += filter(None, (get(entry, "permissions") for entry in items(get(tree, "provision"))))
    versions = get(tree, "minimumLimaVersion"), get(get(get(tree, "vmOpts"), "qemu"), "minimumVersion")
    for value in (*values, *filter(None, versions)):
        if value.tag in (BOOL, INT, FLOAT):
            value.tag = STR
