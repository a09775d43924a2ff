"""The templates that machines can be created from, as programs and commands use them: `Interlock.templates`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..drivers.contract import Driver
from ..host.home import Home
from ..templates import bases, load, locate
from ..templates.load import Loaded, Source
from ..templates.model import json_schema
from . import plan
from .reach import Reach
from .wishes import Wishes

Given = str | Mapping[str, Any]
"""A template: its locator, its text, or a mapping with its content."""

_NAME = "name"
"""The name of an instance that is only checked, not created."""


class Templates:
    """The built-in templates, and any other: at a path, a URL, `-` for standard input, or in memory.

    In memory, a template is a text of several lines, or a mapping with the same content.

    No method creates anything. Reading raises NotFoundError for a missing template, and InvalidTemplateError with every
    mistake at once.
    """

    def __init__(self, home: Home, driver: Callable[[str | None], Driver]) -> None:
        self._home, self._driver = home, driver

    def list(self) -> dict[str, str]:
        """Return the built-in templates: name → what it is for, in one sentence."""
        return {name: load.summary(locate.find(name)) for name in locate.builtin_names()}

    def find(self, template: Given) -> Source:
        """Return the text of `template`, not yet parsed."""
        return locate.find(template)

    def parse(self, source: Source, edits: Sequence[str] = ()) -> Loaded:
        """Return the template in `source`, with its bases merged, changed by `edits` (`cpus=4`)."""
        return load.parse(source, edits=edits)

    def parse_text(self, name: str, text: str) -> Loaded:
        """Return the template in `text`; messages call it `name`."""
        return load.parse(Source(name, text.encode()))

    def resolve(self, template: Given, edits: Sequence[str] = ()) -> Loaded:
        """Return `template` as `create` reads it: with its bases, then `edits`, then the home's defaults applied."""
        return plan.read(self._home, template, tuple(edits))

    def movable(self, source: Source) -> str:
        """Return the text in `source`, comments included, with its relative locators made absolute."""
        return bases.movable(source)

    def dump(self, loaded: Loaded) -> str:
        """Return `loaded` as YAML text that needs no other file."""
        return load.dump(loaded)

    def reach(
        self, loaded: Loaded, wishes: Wishes | None = None, *, name: str = _NAME, driver: str | None = None
    ) -> tuple[Reach, ...]:
        """Return what the instance `name`, created from `loaded`, would reach on this host.

        Raises what creating the instance would raise before it looks for an image, except UntrustedTemplateError.
        """
        return tuple(plan.check(self._home, name, loaded, self._driver(driver), wishes or Wishes()))

    def validate(self, template: Given, edits: Sequence[str] = (), *, driver: str | None = None) -> tuple[str, ...]:
        """Return notes about a template that `create` would accept: what is ignored, and what it reaches on this host.

        For any other template, raises an error that lists its mistakes.
        """
        loaded = self.resolve(template, edits)
        return (*loaded.notes, *map(str, self.reach(loaded, driver=driver)))

    def instance_name(self, locator: str) -> str:
        """Return the default name of an instance from `locator`; raises UsageError if there is none."""
        return locate.instance_name(locator)

    def locator(self, word: str) -> str:
        """Return the locator that `word` means if it could also be a name; raises UsageError if it is unclear."""
        return locate.alone(word)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of templates."""
        return json_schema()
