"""The JSON Schema, checked with the corpus: an editor marks what `validate` refuses, at the same key, and no more."""

import re
from pathlib import Path

import pytest
import yaml

from interlock.templates.document import compose, plain, written
from interlock.templates.load import json_schema

jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks the schema: pip install '.[dev]'")

FOLDER = Path(__file__).parents[1] / "templates"
RIGHT = sorted(path.stem for path in (FOLDER / "corpus").glob("*.yaml"))
WRONG = sorted(path.stem for path in (FOLDER / "broken").glob("*.yaml"))
_, *PARTS = re.split(r"^== (.*)\n", (FOLDER / "broken.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
REVIEWED = {name: text.strip().splitlines() for name, text in zip(PARTS[::2], PARTS[1::2], strict=True)}

SCHEMA = json_schema()

BEYOND_A_SCHEMA = re.compile(
    r"(base-|key-(dash|colon)-|containerd-archive|yaml-|variable-|not-yet-|param-unused|provision-file-|boot-against-|dns-with-|forward-(must|port-and|range-)"
    r"|forward-(ranges|reverse|socket)|image-initrd|image-kernel|images-missing|mount-over|mount-types?-|probe-without"
    r"|memory-too|mount-msize|nested-with|networks-|screen-beyond|provision-permissions-digits|provision-(content|data|dependency|empty|keys|yq)|user-sudo|image-digest-of)"
)
"""Mistakes that a schema cannot find: bases, the form of the text, variables, unsupported keys, keys that must agree,
and bounds of numbers that are written as text."""


def complaints(folder, name):
    """Return what a checker with the schema says about a template: (path, keyword, message)."""
    text = (FOLDER / folder / f"{name}.yaml").read_bytes()
    data = as_read(compose(name, text))
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(data)
    return [(written(error.absolute_path), error.validator, error.message) for error in found]


def as_read(node):
    """Return the value of a node as an editor reads it, including nulls."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: as_read(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [as_read(item) for item in node.value]
    return plain(node)


@pytest.mark.parametrize("name", RIGHT)
def test_schema_accepts_a_template_that_is_right(name):
    """An editor marks nothing that `validate` accepts, such as blanks, nulls and numbers written as text."""
    assert complaints("corpus", name) == []


@pytest.mark.parametrize("name", WRONG)
def test_schema_refuses_a_template_that_is_wrong_at_the_same_key(name):
    """An editor marks the same key as `validate`, or the mapping that contains it."""
    if BEYOND_A_SCHEMA.match(name):
        return
    found = complaints("broken", name)
    said = [line.split(": ")[1] for line in REVIEWED[name] if line.startswith("  | ")]
    assert found
    assert [one for one in found if one[1] == "anyOf"] == []
    assert {path for path, *_ in found if not any(field.startswith(path) for field in said)} == set()
