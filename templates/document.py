"""Turns YAML text into a tree of nodes that know their places, and the tree into plain values.

The tree is PyYAML's own: after merging several texts, each node still knows the source, line and column that it came
from. Scalars are read by YAML 1.2's core schema, in which `on` and `yes` are words and `2026-01-31` is text.
Source: YAML 1.2.2, section 10.3.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..errors import InvalidTemplateError
from . import slips

Path = tuple[str | int, ...]
"""Where a value stands: keys and positions, from the root."""

MAX_NODES = 50_000
"""Aliases are copied, and a few lines of them can expand to gigabytes."""

EDIT = "--set "
"""How the name of an edit from the command line begins. An edit has no lines."""

_TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, STR, BINARY, MAP, SEQ = (
    _TAG + kind for kind in ("null", "bool", "int", "float", "str", "binary", "map", "seq")
)
_MERGE = _TAG + "merge"

_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises for text that is not YAML."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, for people."""

    source: str
    line: int
    """From 1, like `column`; 0 in an edit, which has no lines."""
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def of_line(self) -> str:
        """The place without its column: `web.yaml:3`."""
        return f"{self.source}:{self.line}" if self.line else self.source


class FileNode(yaml.ScalarNode):
    """The text of a file that a template names; its lines are counted within the file."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the attribute that PyYAML reads


for _tag, _pattern, _first in (
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (_MERGE, r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Dumper(yaml.SafeDumper):
    """Writes a scalar without quotes only if readers of YAML 1.1 and 1.2 agree on what it is."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call] # PyYAML has no types for it
        return tag if kind is not yaml.ScalarNode or not implicit[0] or tag == _core_tag(value) else None


def _core_tag(value: str) -> str:
    """Return the tag of `value` in the core schema."""
    resolvers = _Loader.yaml_implicit_resolvers.get(value[:1], ())
    return next((tag for tag, pattern in resolvers if pattern.match(value)), STR)


def compose(name: str, text: bytes) -> yaml.MappingNode:
    """Return the tree of the single document in `text`, which messages call `name`; empty text is an empty mapping.

    Aliases and `<<` are expanded into copies, so no node occurs twice. Raises InvalidTemplateError, with the place, for
    the first thing that is not YAML, for a duplicate key, and for a tag that is not supported.
    """
    node = _compose(name, text)
    if node is None:
        mark = yaml.Mark(name, 0, 0, 0, None, 0)
        return yaml.MappingNode(MAP, [], mark, mark)
    if not isinstance(node, yaml.MappingNode):
        raise InvalidTemplateError(f"{place(node)}: expected a mapping of keys to values")
    return node


def compose_value(name: str, text: str) -> yaml.Node:
    """Return the tree of the value `text`, which may be of any kind; empty text is null. Raises as `compose` does."""
    mark = yaml.Mark(name, 0, 0, 0, None, 0)
    try:
        encoded = text.encode(errors="surrogateescape")
    except UnicodeEncodeError as err:  # a lone surrogate, which an argument of a command line cannot hold
        raise InvalidTemplateError(f"{name}: {err.reason}") from err
    return _compose(name, encoded) or yaml.ScalarNode(NULL, "", mark, mark)


def serialize(node: yaml.Node) -> str:
    """Return `node` as YAML text that means the same to any reader of YAML 1.1 or 1.2."""
    return str(yaml.serialize(node, Dumper=_Dumper, allow_unicode=True, width=1 << 16))


def plain(node: yaml.Node) -> Any:
    """Return the value of `node`: dict, list, str, int, float, bool or None. Keys whose value is null are left out."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value if not is_null(value)}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    return _scalar(node)


def get(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    """Return the value in `node` under `key`, or at that position; None if it is missing or null."""
    found: yaml.Node | None = None
    if isinstance(node, yaml.MappingNode):
        found = next((value for name, value in node.value if name.value == key), None)
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and 0 <= key < len(node.value):
        found = node.value[key]
    return None if found is None or is_null(found) else found


def put(node: yaml.MappingNode, key: yaml.Node, value: yaml.Node) -> None:
    """Set `key` of `node` to `value`."""
    for position, (name, _) in enumerate(node.value):
        if name.value == key.value:
            node.value[position] = (key, value)
            return
    node.value.append((key, value))


def remove(node: yaml.MappingNode, key: str) -> None:
    """Remove `key` from `node`."""
    node.value = [(name, value) for name, value in node.value if name.value != key]


def items(node: yaml.Node | None) -> list[yaml.Node]:
    """Return the items of a list, or an empty list for anything else."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def is_null(node: yaml.Node) -> bool:
    """True for null, which means that no value is given."""
    return bool(node.tag == NULL)


def word(text: str, like: yaml.Node) -> yaml.ScalarNode:
    """Return a node with the text `text` and the place of `like`."""
    return yaml.ScalarNode(STR, text, like.start_mark, like.end_mark)


def place(node: yaml.Node) -> Place:
    """Return where `node` begins."""
    mark = node.start_mark
    if mark.name.startswith(EDIT):
        return Place(mark.name, 0, 0)
    return Place(mark.name, mark.line + 1, mark.column + 1)


def place_in(node: yaml.Node, offset: int) -> Place:
    """Return the place of character `offset` in the text of `node`; it is exact only in `|` blocks and in files."""
    before = str(node.value)[:offset].split("\n")
    if isinstance(node, FileNode):
        return Place(node.start_mark.name, len(before), len(before[-1]) + 1)
    if not (isinstance(node, yaml.ScalarNode) and node.style == "|" and node.start_mark.buffer):
        return place(node)
    line = node.start_mark.line + len(before)
    written = node.start_mark.buffer.split("\n")[line]
    indented = len(written) - len(str(node.value).split("\n")[len(before) - 1])
    return Place(node.start_mark.name, line + 1, max(0, indented) + len(before[-1]) + 1)


def at(root: yaml.Node, path: Sequence[str | int]) -> tuple[yaml.Node, yaml.Node]:
    """Return the value at `path` and its key; if the path does not exist, those of the last part that does."""
    node = key = root
    for part in path:
        found = get(node, part)
        if found is None:
            break
        key = found
        if isinstance(node, yaml.MappingNode):
            key = next(name for name, _ in node.value if name.value == part)
        node = found
    return node, key


def written(path: Sequence[str | int]) -> str:
    """Return `path` as people write it: `mounts[0].location`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _compose(name: str, text: bytes) -> yaml.Node | None:
    try:
        loader = _Loader(text.decode("utf-8-sig"))
        loader.name = name  # the name of the source in its marks
        node = loader.get_single_node()
        return _Copier().copied(node) if node else None
    except UnicodeDecodeError as error:
        raise InvalidTemplateError(f"{name}: not UTF-8, so not a template") from error
    except yaml.MarkedYAMLError as error:
        slip = None if name.startswith(EDIT) else slips.slip(text.decode("utf-8-sig"), error)
        where = Place(name, slip[0] + 1, slip[1] + 1) if slip else name
        raise InvalidTemplateError(f"{where}: {slip[2] if slip else slips.words_of(error)}") from error
    except yaml.reader.ReaderError as error:
        raise InvalidTemplateError(f"{name}: {error.reason}") from error
    except RecursionError as error:
        raise InvalidTemplateError(f"{name}: nested too deeply") from error
    except _NO_YAML as error:
        raise InvalidTemplateError(f"{name}: {error}") from error


class _Copier:
    """Copies a tree with its aliases expanded, and refuses what is not supported."""

    def __init__(self) -> None:
        self._count = 0
        self._open: set[int] = set()

    def copied(self, node: yaml.Node) -> yaml.Node:
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidTemplateError(f"{place(node)}: more than {MAX_NODES} values, aliases included")
        if isinstance(node, yaml.ScalarNode):
            _scalar(node)
            return yaml.ScalarNode(node.tag, node.value, node.start_mark, node.end_mark, style=node.style)
        if node.tag not in (MAP, SEQ):
            raise _unread(node)
        if id(node) in self._open:
            raise InvalidTemplateError(f"{place(node)}: an alias that contains itself")
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            copy: yaml.Node = yaml.MappingNode(MAP, self._pairs(node), node.start_mark, node.end_mark)
        else:
            copy = yaml.SequenceNode(SEQ, [self.copied(item) for item in node.value], node.start_mark, node.end_mark)
        self._open.discard(id(node))
        return copy

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                words = slips.braces(key) or "a key is a word, not a list or a mapping"
                raise InvalidTemplateError(f"{place(key)}: {words}")
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if key.value in lines:
                raise InvalidTemplateError(f"{place(key)}: {key.value}: already given in line {lines[key.value]}")
            lines[str(key.value)] = key.start_mark.line + 1
            pairs.append((word(key.value, key), self.copied(value)))
        for base in merged:
            if not isinstance(base, yaml.MappingNode):
                raise InvalidTemplateError(f"{place(base)}: <<: expected a mapping, or a list of them")
            pairs += [pair for pair in self._pairs(base) if pair[0].value not in {key.value for key, _ in pairs}]
        return pairs


def _scalar(node: yaml.Node) -> Any:
    """Return the value of a scalar. Raises InvalidTemplateError if it does not fit its tag."""
    text: str = node.value
    try:
        match node.tag:
            case tag if tag in (STR, _MERGE):
                return text
            case tag if tag == NULL:
                return None
            case tag if tag == BOOL:
                return {"true": True, "false": False}[text.lower()]
            case tag if tag == INT:
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            case tag if tag == FLOAT:
                return float(re.sub(r"\.(inf|nan)\Z", r"\1", text.lower()))
            case tag if tag == BINARY:
                return base64.b64decode(text).decode()
    except (ValueError, KeyError) as error:
        raise InvalidTemplateError(f"{place(node)}: not a value of {_short(node.tag)}") from error
    raise _unread(node)


def _unread(node: yaml.Node) -> InvalidTemplateError:
    return InvalidTemplateError(f"{place(node)}: the tag {_short(node.tag)} is not supported")


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!", 1)
