"""The rules by which a template and its base are merged, and list entries with the same key become one entry.

The rules are Lima's. Null blocks the base's value: a key that is null in the template counts as not given.
Source: Lima, pkg/limatmpl/embed.go.
"""

import re

import yaml

from .document import MAP, FileNode, Path, get, is_null, items, plain, put, word

PREPENDED = {("provision",), ("probes",)}
"""Lists in which the base's items come first: the base's scripts run before those that build on them."""

REPLACED = {("dns",)}
"""Lists to which the base adds nothing if the template has any items."""

HIGHEST = {("minimumLimaVersion",), ("vmOpts", "qemu", "minimumVersion")}
"""Versions: the higher one counts."""

KEYS = {"additionalDisks": ("name",), "mounts": ("mountPoint", "location"), "networks": ("interface",)}
"""List → the keys that identify its entries; the first that an entry has counts."""

EVERY = "*"
"""The key that means every earlier entry."""


def merge(tree: yaml.MappingNode, base: yaml.MappingNode, path: Path = (), *, nulls: bool = False) -> None:
    """Fill in from `base` what `tree`, which is at `path`, lacks; with `nulls`, also what is null in `tree`."""
    for key, value in base.value:
        here = (*path, key.value)
        mine = get(tree, key.value)
        if mine is None:
            if nulls or all(name.value != key.value for name, _ in tree.value):
                put(tree, key, value)
        elif isinstance(mine, yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            merge(mine, value, here, nulls=nulls)
        elif isinstance(mine, yaml.SequenceNode) and isinstance(value, yaml.SequenceNode):
            mine.value = _joined(mine, value, here)
        elif here in HIGHEST and version(value) > version(mine):
            put(tree, key, value)


def combine(tree: yaml.MappingNode) -> None:
    """Merge entries with the same key in the lists of KEYS: the earlier entry is filled in from the later."""
    for name, keys in KEYS.items():
        entries = get(tree, name)
        if not isinstance(entries, yaml.SequenceNode):
            continue
        kept: list[yaml.Node] = []
        for entry in entries.value:
            key = _key(entry, keys)
            if key != EVERY and (key is None or all(_key(other, keys) != key for other in kept)):
                kept.append(entry)
                continue
            for position, other in enumerate(kept):
                if key in (EVERY, _key(other, keys)):
                    kept[position] = _filled(other, entry, keys)
        entries.value = kept


def version(node: yaml.Node) -> tuple[int, ...]:
    """Return a version in a form that compares: `1.10.2-rc` is (1, 10, 2); text that is not a version is ()."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", node.value if isinstance(node, yaml.ScalarNode) else "")
    return tuple(map(int, found[1].split("."))) if found else ()


def _joined(mine: yaml.SequenceNode, base: yaml.SequenceNode, path: Path) -> list[yaml.Node]:
    if path in REPLACED:
        return list(mine.value or base.value)
    if path in PREPENDED:
        return [*base.value, *mine.value]
    if path == ("mountTypesUnsupported",):
        there = [plain(item) for item in items(mine)]
        return [*mine.value, *(item for item in base.value if plain(item) not in there)]
    return [*mine.value, *base.value]


def _key(entry: yaml.Node, keys: tuple[str, ...]) -> str | None:
    """Return the key of `entry`, or None. An entry that is only a word, as a disk can be, is its own key."""
    if isinstance(entry, yaml.ScalarNode):
        return entry.value or None
    found = next((value for key in keys if (value := get(entry, key)) is not None), None)
    return found.value or None if isinstance(found, yaml.ScalarNode) else None


def _filled(entry: yaml.Node, later: yaml.Node, keys: tuple[str, ...]) -> yaml.Node:
    """Return `entry` with what it lacks taken from `later`, except the keys themselves. Lists are taken whole."""
    if not isinstance(later, yaml.MappingNode):
        return entry
    if isinstance(entry, yaml.ScalarNode):
        pair = (word(keys[0], entry), word(entry.value, entry))
        entry = yaml.MappingNode(MAP, [pair], entry.start_mark, entry.end_mark)
    for key, value in later.value:
        mine = get(entry, key.value)
        if key.value in keys or is_null(value):
            continue
        if isinstance(mine, yaml.MappingNode):
            _filled(mine, value, ())
        elif mine is None and isinstance(entry, yaml.MappingNode):
            put(entry, word(key.value, key), copied(value))
    return entry


def copied(node: yaml.Node) -> yaml.Node:
    """Return a copy of `node` with its places: a node that is used twice must not change in both places."""
    if isinstance(node, yaml.MappingNode):
        pairs = [(word(key.value, key), copied(value)) for key, value in node.value]
        return yaml.MappingNode(MAP, pairs, node.start_mark, node.end_mark)
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [copied(item) for item in node.value], node.start_mark, node.end_mark)
    kind = FileNode if isinstance(node, FileNode) else yaml.ScalarNode
    return kind(node.tag, node.value, node.start_mark, node.end_mark, style=getattr(node, "style", None))
