"""Reads a template with everything it names: its bases, their bases, and the files of scripts."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import yaml

from ..errors import InvalidTemplateError, NotFoundError
from .document import STR, FileNode, compose, get, items, place, put, remove, word
from .locate import Source, absolute, is_relative, read, read_file
from .merge import merge
from .mistakes import found

MAX_SOURCES = 100
MAX_DEPTH = 20
"""How deep a chain of bases of bases may be."""

MAX_TOTAL_BYTES = 4 << 20


_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
"""Node properties that may stand before a value, such as an anchor. Source: YAML 1.2.2, section 6.9."""


def movable(source: Source) -> str:
    """Return the text of `source` with each relative locator made absolute, so that the text can be moved.

    Everything else stays as it is, comments included. Raises InvalidTemplateError, with the place, if the text is not
    YAML or a locator is not allowed there.
    """
    tree = compose(source.name, source.text)
    text = source.text.decode("utf-8-sig")
    written: dict[int, tuple[int, str]] = {}
    for named in (*_bases(tree, source), *(named for _, _, named in _files(tree, source))):
        if named.url and is_relative(named.locator):
            written[named.url.start_mark.index] = (named.url.end_mark.index, named.absolute)
    for start, (end, locator) in sorted(written.items(), reverse=True):
        before = _PROPERTIES.match(text, start, end)
        text = text[: before.end() if before else start] + json.dumps(locator) + text[end:]
    return text


@dataclass(slots=True)
class Reading:
    """One template being read. The limits, and the check that no base is read twice, cover everything that it names."""

    sources: list[str] = field(default_factory=list)
    """The names, as messages use them, of the texts that were read, in order."""
    _bytes: int = 0
    _bases: dict[str, str] = field(default_factory=dict)
    """Absolute locator → the place that named it."""

    def tree(self, source: Source, depth: int = 0) -> yaml.MappingNode:
        """Return the tree of `source` with its bases merged in and the files that it names inlined.

        Raises InvalidTemplateError or NotFoundError, with the place that is wrong or that names what is missing.
        """
        self._count(source)
        tree = compose(source.name, source.text)
        self._inline_files(tree, source)
        self._bases.setdefault(source.locator, source.name)
        bases = list(_bases(tree, source))
        remove(tree, "base")
        for base in bases:
            merge(tree, self._base(base, depth + 1))
        return tree

    def _base(self, named: "_Named", depth: int) -> yaml.MappingNode:
        if named.absolute in self._bases:
            raise named.mistake(f"{named.locator} is already read, by {self._bases[named.absolute]}")
        if depth > MAX_DEPTH:
            raise named.mistake(f"more than {MAX_DEPTH} bases of bases")
        self._bases[named.absolute] = str(place(named.node))
        return self.tree(named.fetched(read), depth)

    def _count(self, source: Source) -> None:
        self.sources.append(source.name)
        self._bytes += len(source.text)
        if len(self.sources) > MAX_SOURCES or self._bytes > MAX_TOTAL_BYTES:
            raise InvalidTemplateError(
                f"{self.sources[0]}: more than {MAX_SOURCES} files or {MAX_TOTAL_BYTES >> 20} MiB, bases included"
            )

    def _inline_files(self, tree: yaml.MappingNode, source: Source) -> None:
        """Replace each `file` of provision and probes with its content."""
        for entry, key, named in _files(tree, source):
            file = named.fetched(read_file)
            self._count(file)
            try:
                text = file.text.decode()
            except UnicodeDecodeError as error:
                raise named.mistake(f"{named.locator} is not text in UTF-8") from error
            mark = yaml.Mark(file.name, 0, 0, 0, None, 0)
            remove(entry, "file")
            put(entry, word(key, named.node), FileNode(STR, text, mark, mark, style="|"))


class _Named:
    """A locator in a template, with or without a digest: a word, or a mapping of url and digest."""

    def __init__(self, node: yaml.Node, field: str, source: Source) -> None:
        """Raises InvalidTemplateError, with the place, for a locator that is invalid or not allowed there."""
        self.node = node
        self._field = field
        odd = [key.value for key, _ in node.value if key.value not in ("url", "digest")] if _is_mapping(node) else []
        if odd:
            raise self.mistake(f"no such key: {odd[0]}; there are: url, digest")
        self.url = get(node, "url") if _is_mapping(node) else node
        self.locator = _text(self.url)
        self._digest = _text(get(node, "digest"))
        if not self.locator:
            raise self.mistake("expected a locator, or a mapping of url and digest")
        try:
            self.absolute = absolute(self.locator, source.locator)
        except InvalidTemplateError as error:
            raise self.mistake(error.message) from error

    def mistake(self, words: str) -> InvalidTemplateError:
        """Return the error that says `words` about this locator."""
        return InvalidTemplateError(f"{place(self.node)}: {self._field}: {words}")

    def fetched(self, read_it: Callable[[str], Source]) -> Source:
        """Return what `read_it` reads. Raises its errors with the place; InvalidTemplateError for a wrong digest."""
        try:
            source = read_it(self.absolute)
        except NotFoundError as error:
            raise NotFoundError(self.mistake(error.message).message, hint=error.hint) from error
        except InvalidTemplateError as error:
            raise self.mistake(error.message) from error
        kind, _, expected = self._digest.partition(":")
        if not self._digest:
            return source
        if kind not in ("sha256", "sha512"):
            raise self.mistake(f"expected a digest that begins with sha256: or sha512:, found {found(self._digest)}")
        actual = hashlib.new(kind, source.text).hexdigest()
        if actual != expected:
            raise self.mistake(f"{source.name} is not what was asked for: its digest is {kind}:{actual}")
        return source


def _bases(tree: yaml.MappingNode, source: Source) -> "Iterator[_Named]":
    """Yield the bases that `tree`, the tree of `source`, names."""
    named = get(tree, "base")
    if isinstance(named, yaml.SequenceNode):
        for position, node in enumerate(named.value):
            yield _Named(node, f"base[{position}]", source)
    elif named:
        yield _Named(named, "base", source)


def _files(tree: yaml.MappingNode, source: Source) -> "Iterator[tuple[yaml.MappingNode, str, _Named]]":
    """Yield each file that `tree`, the tree of `source`, names: its entry, the key for its content, and the locator.

    Entries with both a file and a text are left out, because they are refused later.
    """
    for name in ("provision", "probes"):
        for position, entry in enumerate(items(get(tree, name))):
            node = get(entry, "file")
            key = {"data": "content", "yq": "expression"}.get(_text(get(entry, "mode")), "script")
            if node is not None and isinstance(entry, yaml.MappingNode) and not get(entry, key):
                yield entry, key, _Named(node, f"{name}[{position}].file", source)


def _is_mapping(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""
