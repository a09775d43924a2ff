r"""The part of Go's templates that people type to list something: fields, `json`, and text around them.

    {{.Name}}    {{.State}}    {{json .}}    {{json .Memory}}    \t    \n

The fields are the keys of `list --format json`, written as Go writes names: `.ChangedAt` is `changed_at`. `.Status` is
what the table says. Some have the names by which limactl and docker know them. Source: Go, text/template.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_FIELD = re.compile(r"(json\s+)?\.(\w*)")
_ESCAPES = {r"\t": "\t", r"\n": "\n"}

ALIASES = {
    "names": "name",
    "dir": "directory",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "sshlocalport": "ssh_port",
    "vmtype": "driver",
}
"""What limactl and docker call a field, in lower case → our key."""


def compiled(text: str, keys: frozenset[str]) -> Callable[[Mapping[str, Any]], str]:
    """Return what renders a record that has `keys`; raises ValueError, which names the part that is not understood."""
    known = {key.replace("_", ""): key for key in keys}
    parts: list[Callable[[Mapping[str, Any]], str]] = []
    end = 0
    for action in _ACTION.finditer(text):
        parts.append(_literal(text[end : action.start()]))
        parts.append(_value(action[1], known))
        end = action.end()
    parts.append(_literal(text[end:]))
    if "{{" in _ACTION.sub("", text):
        raise ValueError("a {{ has no }}")
    return lambda record: "".join(part(record) for part in parts)


def _literal(text: str) -> Callable[[Mapping[str, Any]], str]:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return lambda _: text


def _value(action: str, known: Mapping[str, str]) -> Callable[[Mapping[str, Any]], str]:
    found = _FIELD.fullmatch(action)
    if not found:
        raise ValueError(f"{{{{{action}}}}}: expected a field such as .Name, or json and a field")
    name = found[2].lower()
    if not name and found[1]:
        return json.dumps
    key = known.get(ALIASES.get(name, name).replace("_", ""))
    if key is None:
        raise ValueError(f".{found[2]} is none of the fields {', '.join(map(_go_name, sorted(known.values())))}")
    if found[1]:
        return lambda record: json.dumps(record[key])
    return lambda record: "" if record[key] is None else str(record[key])


def _go_name(key: str) -> str:
    return "." + "".join(word.capitalize() for word in key.split("_"))
