"""The format of a fleet's file, and its reader, which reports each mistake with its place.

fleet: shop                 the name of the fleet, which its instances record
instances:
- name: web                 with `count`: web-1, web-2, ...; `web{n}` is web1, web2, ...
  count: 2
  template: debian          as for `create`; a relative path starts in the folder of the file
  state: running            or stopped, or absent
  cpus: 2                   what `create` takes: memory, disk, arch, user, driver, cluster, node, group, warm, trust
  set: {network.internet: false}
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, StrictBool, StrictInt, ValidationError

from ..creation.wishes import Wishes
from ..errors import InvalidTemplateError, NotFoundError
from ..host.home import NAME, NAME_WORDS
from ..templates import values as is_
from ..templates.document import Path as Place
from ..templates.document import compose, get, plain, serialize
from ..templates.load import dump, invalid, parse
from ..templates.locate import STDIN, Source, absolute, find, public, read_file
from ..templates.mistakes import mistake, mistakes
from ..templates.parts import Strict
from .planning import Mark, Wanted

if TYPE_CHECKING:
    from pathlib import Path

MANY = 1000
"""The most instances that one entry may ask for: a typing mistake should not fill a host."""

_URL = ("http://", "https://")


class Entry(Strict):
    """One instance, or `count` instances that are alike."""

    name: str
    """With `count`, `{n}` in it is replaced by 1, 2, 3, ...; without `{n}`, `-1`, `-2`, ... are appended."""
    count: Annotated[StrictInt, Field(ge=0, le=MANY)] | None = None
    """How many there are, numbered from 1; without it there is one, called `name`."""
    template: str
    """A built-in's name, a path, a URL, or the text of a template. A relative path starts in the folder of the file."""
    state: Literal["running", "stopped", "absent"] = "running"
    """The state that `fleet apply` brings it to."""
    driver: str | None = None
    """The driver that runs it."""
    cluster: str | None = None
    """The cluster of the home that runs it."""
    node: str | None = None
    """The node of the cluster to create it on."""
    group: str | None = None
    """Let the cluster choose a node of this group."""
    arch: str | None = None
    """Architecture of the guest."""
    cpus: is_.Cpus | None = None
    """Processors of the guest; changed in place, by a restart if it runs."""
    memory: is_.Memory | None = None
    """Memory of the guest; changed in place, by a restart if it runs."""
    disk: is_.DiskSize | None = None
    """Size of the guest's disk, which can grow at any time."""
    user: is_.Login | None = None
    """Login in the guest."""
    warm: StrictBool = False
    """Make a warm image of this size first, if there is none."""
    trust: StrictBool = False
    """Grant a template from a server the access to this host that it asks for."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the template, as `create --set KEY=VALUE` takes them."""

    @property
    def names(self) -> list[str]:
        """The names of its instances, in order."""
        if self.count is None:
            return [self.name]
        pattern = self.name if "{n}" in self.name else f"{self.name}-{{n}}"
        return [pattern.replace("{n}", str(number)) for number in range(1, self.count + 1)]

    @property
    def wishes(self) -> Wishes:
        """The settings that the entry asks for, besides the template."""
        return Wishes(
            arch=self.arch,
            cpus=self.cpus,
            memory_bytes=self.memory,
            disk_bytes=self.disk,
            user=self.user,
            cluster=self.cluster,
            node=self.node,
            group=self.group,
            edits=tuple(f"{key}={json.dumps(value)}" for key, value in self.set.items()),
            warm=self.warm,
            trust=self.trust,
        )

    def mistakes(self) -> Iterator[tuple[Place, str]]:
        if self.count is None and "{n}" in self.name:
            yield ("name",), "{n} stands for a number, which needs a count"
        elif wrong := next((name for name in (self.names or [self.name]) if not NAME.fullmatch(name)), None):
            yield ("name",), f"an instance cannot be called {wrong!r}: {NAME_WORDS}"


class Document(Strict):
    """A fleet's file."""

    fleet: Annotated[str, is_.Matching(NAME.pattern, f"expected a name: {NAME_WORDS}")]
    """The name of the fleet. It is kept with each instance that is created for it."""
    instances: tuple[Entry, ...]
    """The instances; no two have the same name."""

    def mistakes(self) -> Iterator[tuple[Place, str]]:
        known: set[str] = set()
        for number, entry in enumerate(self.instances):
            if double := next((name for name in entry.names if name in known), None):
                yield ("instances", number, "name"), f"{double} is already an instance above"
            known.update(entry.names)


class Order(NamedTuple):
    """The template and the settings to create one instance from."""

    template: str
    """An absolute locator, which means the same in every folder."""
    entry: Entry


class File(NamedTuple):
    """A fleet's file, read and checked."""

    fleet: str
    wanted: tuple[Wanted, ...]
    """In the order of the file."""
    orders: Mapping[str, Order]
    """Name of each instance → its template and settings."""


def read(file: "str | Path | Mapping[str, Any]") -> File:
    """Return the content of `file`, checked: a path, `-` for standard input, or the content as a mapping.

    Raises NotFoundError for a file or template that does not exist, InvalidTemplateError with every mistake and its
    place. Templates in files are read, because a fleet follows their content; those from servers are not.
    """
    return _parsed(_source(file))


def portable(file: "str | Path | Mapping[str, Any]") -> tuple[str, str]:
    """Return the name of the fleet in `file`, and its content with the text of each template that is a file here.

    The content means the same on another host. Raises what `read` raises.
    """
    source = _source(file)
    name = _parsed(source).fleet
    tree = compose(source.name, source.text)
    entries = get(tree, "instances")
    for entry in entries.value if entries else ():
        node = get(entry, "template")
        if node is not None and "\n" not in node.value and _is_file(whole := _located(node.value, source)):
            node.value = dump(parse(find(whole)))
    return name, serialize(tree)


def _source(file: "str | Path | Mapping[str, Any]") -> Source:
    return find(file) if isinstance(file, Mapping) else read_file(_absolute(str(file)))


def _parsed(source: Source) -> File:
    tree = compose(source.name, source.text)
    try:
        document = Document.model_validate(plain(tree))
    except ValidationError as error:
        raise invalid(source.name, [source.name], mistakes(tree, error, Document)) from error
    wanted, orders, wrong = [], {}, []
    for number, entry in enumerate(document.instances):
        key = "template"
        try:
            template, mark = _template(entry.template, source)
            key = "set"
            if entry.set and not template.startswith(_URL):
                parse(find(template), edits=entry.wishes.edits)
        except (InvalidTemplateError, NotFoundError) as error:
            words = "; ".join(error.details or (error.message,))
            wrong.append(mistake(tree, ("instances", number, key), words))
            continue
        settings = {key: _digest(json.dumps(value, sort_keys=True)) for key, value in entry.set.items()}
        for name in entry.names:
            wanted.append(
                Wanted(
                    name=name,
                    state=entry.state,
                    mark=Mark(document.fleet, name, *mark, settings),
                    cpus=entry.cpus,
                    memory_bytes=entry.memory,
                    disk_bytes=entry.disk,
                    fixed={
                        key: str(value)
                        for key in ("driver", "cluster", "arch", "user")
                        if (value := getattr(entry, key)) is not None
                    },
                )
            )
            orders[name] = Order(template, entry)
    if wrong:
        raise invalid(source.name, [source.name], wrong)
    return File(document.fleet, tuple(wanted), orders)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a fleet's file, for editors: every key with its description and its bounds.

    What depends on the template, or on other entries, is not checked by it.
    """
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **Document.model_json_schema(by_alias=True), "title": "Fleet"}


def _template(locator: str, source: Source) -> tuple[str, tuple[str, str]]:
    """Return `locator` made absolute, its name for people, and a digest that shows whether the template has changed.

    The digest of a file or text covers its content and that of its bases; any other digest covers only the locator.
    """
    if "\n" in locator:
        return locator, (public(locator), _digest(dump(parse(find(locator)))))
    whole = _located(locator, source)
    if _is_file(whole):
        return whole, (whole, _digest(dump(parse(find(whole)))))
    if whole.startswith("template:"):
        find(whole)  # raises for one that does not exist
    return whole, (public(whole), _digest(whole))


def _located(locator: str, source: Source) -> str:
    """Return `locator` made absolute; a relative path starts in the folder of `source`."""
    beside = source.locator if source.locator.startswith("/") else None
    path = "/" in locator or locator.endswith((".yaml", ".yml"))
    if path and beside and not locator.startswith((*_URL, "/", "~", "file:", "template:")):
        locator = os.path.join(os.path.dirname(beside), locator)  # noqa: PTH118, PTH120 - a name, as it was written
    return absolute(locator)


def _is_file(locator: str) -> bool:
    """Return whether the absolute `locator` is that of a template in a file."""
    return locator.startswith("/") and locator.endswith((".yaml", ".yml"))


def _absolute(file: str) -> str:
    return file if file == STDIN else os.path.abspath(file)  # noqa: PTH100 - not a Path yet: that raises for "\0"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
