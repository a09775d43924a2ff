"""The records that are printed for programs: their reference page, and their JSON Schemas."""

import json
from collections.abc import Iterator

from ..contract import KINDS_OF_RECORDS, Kind, Schema
from .render import markdown_table

_FEW = 6
"""How many words a cell of a table lists at most; the schema has all of them."""

_TYPES = {"string": "text", "boolean": "true or false"}
"""Type of JSON Schema → what the page calls it, if that differs."""


def sections() -> str:
    """Return the sections of docs/reference/json.md, one for each kind of record."""
    return "\n".join(_section(name, kind) for name, kind in KINDS_OF_RECORDS.items())


def schema(name: str) -> str:
    """Return schemas/NAME.schema.json."""
    return json.dumps(KINDS_OF_RECORDS[name].schema(name), indent=2) + "\n"


def _section(name: str, kind: Kind) -> str:
    commands = f"Printed by {', '.join(f'`{command}`' for command in kind.commands)}" if kind.commands else "Printed"
    also = f" {kind.also}" if kind.also else ""
    table = markdown_table(("key", "type", "meaning"), list(_rows(kind.schema(name))))
    return f"## {kind.title}\n\n{commands}; [schema](../../schemas/{name}.schema.json).{also}\n\n{table}"


def _rows(schema: Schema, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield a row for each key that has a meaning, followed by the rows of its keys if the value is a record."""
    for name, shape in schema["properties"].items():
        if "description" in shape:
            optional = "" if name in schema["required"] else ", may be missing"
            yield f"`{prefix}{name}`", _type(shape) + optional, shape["description"]
            if "properties" in shape:
                yield from _rows(shape, f"{prefix}{name}.")


def _type(shape: Schema) -> str:
    """Return the type of a value in words."""
    match shape:
        case {"enum": words} if len(words) > _FEW:
            return "a word (see the schema)"
        case {"enum": words}:
            return " or ".join("null" if word is None else f"`{word}`" for word in words)
        case {"type": [kind, "null"]}:
            return f"{_type({**shape, 'type': kind})} or null"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"format": "date-time"}:
            return "time"
        case _:
            return str(_TYPES.get(shape["type"], shape["type"]))
