"""Checks every record that the program prints in functional tests against the contract."""

import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import click
import pytest

from interlock.cli import cli
from interlock.contract import KINDS_OF_RECORDS, OF_COMMAND


def strict(schema: Any) -> Any:
    """Return `schema` as the tests apply it: undocumented keys are errors."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {**closed, **{key: strict(value) for key, value in schema.items()}}
    return schema


@cache
def validator(name: str) -> Any:
    """Return a validator for records of the kind `name`."""
    jsonschema = pytest.importorskip("jsonschema", reason="checks what is printed: pip install '.[dev]'")
    return jsonschema.Draft202012Validator(strict(KINDS_OF_RECORDS[name].schema(name)))


def check_printed(arguments: Sequence[str], printed: str) -> None:
    """Fail unless each line of `printed` is a record of the contract, if the command prints records."""
    command = command_of(arguments)
    in_json = "--json" in arguments or (("--format", "json") in pairwise(arguments) and command != "diagram")
    if command in OF_COMMAND and in_json:
        for line in printed.splitlines():
            record = json.loads(line)
            failed = "--json" in arguments and "error" in record
            kind = "text" if "--help" in arguments else OF_COMMAND[command]
            validator("failure" if failed else kind).validate(record)


def command_of(arguments: Sequence[str]) -> str:
    """Return the command that `arguments` call, such as `disk list`."""
    group: click.Command | None = cli
    words = []
    for word in arguments:
        group = group.get_command(click.Context(group), word) if isinstance(group, click.Group) else None
        if group is None:
            break
        words.append(word)
    return " ".join(words)
