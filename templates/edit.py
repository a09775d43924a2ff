"""Edits of the command line: `--set cpus=4`, `--set mounts[0].writable=true`, `--set hostResolver.hosts."a.b"=::1`."""

import json
import re

import yaml

from ..errors import InvalidTemplateError
from .document import EDIT, MAP, SEQ, Path, compose_value, get, put, word, written
from .mistakes import shortened
from .model import SECRET

_EDIT = re.compile(r"""\s*\.?(?P<key>(?:"[^"]*"|[^="])*?)\s*=(?P<value>.*)""", re.DOTALL)
_KEY = re.compile(r"""(?P<name>[A-Za-z0-9_-]+)|"(?P<quoted>[^"]+)"|\[(?P<position>[0-9]{0,6})\]""")

FRONT = -1
"""The position before the first item, written `[]`."""


def apply(tree: yaml.MappingNode, edit: str) -> None:
    """Change the value in `tree` that `edit`, KEY=VALUE, names. VALUE is YAML; null removes the value of a key.

    Missing mappings and lists on the way are created. A list grows by at most one item: the next position appends;
    `[]` prepends, because the first rule that fits counts. Raises InvalidTemplateError, whose place is the edit itself.
    """
    found = _EDIT.fullmatch(edit)
    path = _path(found["key"]) if found else ()
    secret = path[:1] in [(), *((key,) for key in SECRET)]
    name = EDIT + (re.sub("=.*", "=…", edit, flags=re.DOTALL) if secret else shortened(" ".join(edit.split())))
    if found is None or not path or isinstance(path[0], int):
        raise InvalidTemplateError(f"{name}: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true")
    if path[0] == "base" or path[-1] == "file":
        raise InvalidTemplateError(f"{name}: files are read before --set applies: name this one in a template")
    # A value that begins with a variable is text: YAML would read it as a mapping of mappings, which no key takes.
    text = json.dumps(found["value"]) if found["value"].lstrip().startswith("{{") else found["value"]
    try:
        value = compose_value(name, text)
    except InvalidTemplateError as error:
        raise (InvalidTemplateError(f"{name}: not YAML; put the value in quotes") if secret else error) from None
    node: yaml.Node = tree
    for depth, part in enumerate(path):
        there = None if part == FRONT else get(node, part)
        inner = value if depth == len(path) - 1 else there or _empty(path[depth + 1], value)
        _put(node, part, inner, f"{name}: {written(path[:depth])}")
        node = inner


def _path(key: str) -> Path:
    """Return the path that `key` spells; () for text that is not a key."""
    path: list[str | int] = []
    position = 0
    while position < len(key):
        if path and key[position] == ".":
            position += 1
        step = _KEY.match(key, position)
        if step is None or (path and key[position - 1] != "." and step["position"] is None):
            return ()
        path.append(step["name"] or step["quoted"] or int(step["position"] or FRONT))
        position = step.end()
    return tuple(path)


def _empty(part: str | int, like: yaml.Node) -> yaml.Node:
    if isinstance(part, int):
        return yaml.SequenceNode(SEQ, [], like.start_mark, like.end_mark)
    return yaml.MappingNode(MAP, [], like.start_mark, like.end_mark)


def _put(node: yaml.Node, part: str | int, value: yaml.Node, what: str) -> None:
    if isinstance(part, str) and isinstance(node, yaml.MappingNode):
        put(node, word(part, value), value)
    elif part == FRONT and isinstance(node, yaml.SequenceNode):
        node.value.insert(0, value)
    elif isinstance(part, int) and isinstance(node, yaml.SequenceNode) and part <= len(node.value):
        node.value[part : part + 1] = [value]
    elif isinstance(part, int) and isinstance(node, yaml.SequenceNode):
        raise InvalidTemplateError(f"{what}: there is no item {part}; the list has {len(node.value)}")
    else:
        raise InvalidTemplateError(f"{what}: not a {'list' if isinstance(part, int) else 'mapping'}")
