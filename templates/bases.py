"""Reads a template together with all that it names: its bases, theirs, and the files of scripts."""

import hashlib
from dataclasses import dataclass, field

import yaml

from ..fsm.errors import InterlockError, InvalidTemplateError, NotFoundError
from .document import STR, FileNode, compose, get, items, place, put, remove, word
from .locate import Source, absolute, read
from .merge import merge

MAX_SOURCES = 100
MAX_DEPTH = 20
"""Of bases of bases."""

MAX_TOTAL_BYTES = 4 << 20


@dataclass(slots=True)
class Reading:
    """One template being read. Limits and the refusal of loops count for all that it leads to."""

    sources: list[str] = field(default_factory=list)
    """What was read, in order, by the names that messages use."""
    _bytes: int = 0
    _bases: dict[str, str] = field(default_factory=dict)
    """Absolute locator → the place that named it."""

    def tree(self, source: Source, depth: int = 0) -> yaml.MappingNode:
        """Return the tree of `source` with its bases merged and the files that it names read.

        Raises InvalidTemplateError and NotFoundError, which say who named what is wrong or missing.
        """
        self._count(source)
        tree = compose(source.name, source.text)
        self._inline_files(tree, source)
        self._bases.setdefault(source.locator, source.name)
        named = get(tree, "base")
        remove(tree, "base")
        for node in items(named) if isinstance(named, yaml.SequenceNode) else [named] if named else []:
            locator, digest = _locator(node, "base")
            where = absolute_from(locator, source, node)
            if where in self._bases:
                raise InvalidTemplateError(f"{place(node)}: base: {locator} is already read, by {self._bases[where]}")
            if depth >= MAX_DEPTH:
                raise InvalidTemplateError(f"{place(node)}: base: more than {MAX_DEPTH} bases of bases")
            self._bases[where] = str(place(node))
            base = _fetched(where, node, "base")
            _check_digest(base, digest, node, "base")
            merge(tree, self.tree(base, depth + 1))
        return tree

    def _count(self, source: Source) -> None:
        self.sources.append(source.name)
        self._bytes += len(source.text)
        if len(self.sources) > MAX_SOURCES or self._bytes > MAX_TOTAL_BYTES:
            raise InvalidTemplateError(
                f"{self.sources[0]}: more than {MAX_SOURCES} files or {MAX_TOTAL_BYTES >> 20} MiB, bases included"
            )

    def _inline_files(self, tree: yaml.MappingNode, source: Source) -> None:
        """Put what a `file` of provision or probes holds in its place; beside a text it is left, to be a mistake."""
        for name in ("provision", "probes"):
            for entry in items(get(tree, name)):
                node = get(entry, "file")
                key = {"data": "content", "yq": "expression"}.get(_text(get(entry, "mode")), "script")
                if node is None or not isinstance(entry, yaml.MappingNode) or get(entry, key):
                    continue
                locator, digest = _locator(node, f"{name}.file")
                file = _fetched(absolute_from(locator, source, node), node, f"{name}.file")
                self._count(file)
                _check_digest(file, digest, node, f"{name}.file")
                try:
                    text = file.text.decode()
                except UnicodeDecodeError as error:
                    raise InvalidTemplateError(f"{place(node)}: {name}.file: {locator} is not UTF-8") from error
                mark = yaml.Mark(file.name, 0, 0, 0, None, 0)
                remove(entry, "file")
                put(entry, word(key, node), FileNode(STR, text, mark, mark, style="|"))


def absolute_from(locator: str, source: Source, node: yaml.Node) -> str:
    """Return what `locator`, written at `node` of `source`, means. Raises InvalidTemplateError with that place."""
    try:
        return absolute(locator, source.locator)
    except InvalidTemplateError as error:
        raise InvalidTemplateError(f"{place(node)}: {error.message}") from error


def _fetched(locator: str, node: yaml.Node, field: str) -> Source:
    try:
        return read(locator)
    except InterlockError as error:
        kind = NotFoundError if isinstance(error, NotFoundError) else InvalidTemplateError
        raise kind(f"{place(node)}: {field}: {error.message}", hint=error.hint) from error


def _locator(node: yaml.Node, field: str) -> tuple[str, str | None]:
    """Return locator and digest of `node`: a word, or a mapping of url and digest."""
    if isinstance(node, yaml.ScalarNode) and node.value:
        return node.value, None
    if isinstance(node, yaml.MappingNode):
        odd = next((key for key, _ in node.value if key.value not in ("url", "digest")), None)
        if odd is not None:
            raise InvalidTemplateError(f"{place(odd)}: {field}.{odd.value}: no such key; there are: url, digest")
        if url := _text(get(node, "url")):
            return url, _text(get(node, "digest")) or None
    raise InvalidTemplateError(f"{place(node)}: {field}: expected a locator, or a mapping of url and digest")


def _check_digest(source: Source, digest: str | None, node: yaml.Node, field: str) -> None:
    if digest is None:
        return
    kind, _, expected = digest.partition(":")
    if kind not in ("sha256", "sha512"):
        raise InvalidTemplateError(
            f"{place(node)}: {field}.digest: expected sha256: or sha512: and hexadecimal digits, found {digest[:60]!r}"
        )
    actual = hashlib.new(kind, source.text).hexdigest()
    if actual != expected:
        raise InvalidTemplateError(
            f"{place(node)}: {field}.digest: {source.name} is not what was asked for: its digest is {kind}:{actual}"
        )


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""
