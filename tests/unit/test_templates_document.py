"""YAML 1.2 is read into a tree with places, and malicious text cannot exhaust memory or the stack."""

import pytest
import yaml

from interlock.errors import InvalidTemplateError
from interlock.templates.document import MAX_NODES, at, compose, place, place_in, plain, serialize

DOUBLED = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
"""Thirty lines that expand to a thousand million values."""


def value(text):
    """Return the value that `text` is read as."""
    return plain(compose("t", f"a: {text}\n".encode()))["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("12", 12),
        ("+12", 12),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("2026-01-31", "2026-01-31"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!binary aGVsbG8=", "hello"),
        ("[a, ~, 1]", ["a", None, 1]),
    ],
)
def test_scalar_is_read_as_yaml_1_2_says(text, expected):
    """Words such as `yes`, and dates, are text, as in other programs that read such templates."""
    assert (type(expected), expected) == (type(value(text)), value(text))


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "yes",
        "2026-01-31",
        "12:30",
        "0o10",
        "1_000",
        "true",
        "'true'",
        "'12'",
        "~",
        "1e3",
        "!!str 1e3",
        "!!str 0o10",
        "!!str .5",
        "!!str 12",
    ],
)
def test_serialized_value_is_the_same_by_either_version(text):
    """A reader of YAML 1.1 gets the same strings from the written text as we do."""
    tree = compose("t", f"a: {text}\nb: 1\n".encode())
    written = serialize(tree)
    assert plain(compose("again", written.encode())) == plain(tree)
    if isinstance(plain(tree).get("a"), str):
        assert yaml.safe_load(written) == plain(tree)


def test_null_values_are_not_given():
    """A key with a null value counts as missing."""
    assert plain(compose("t", b"a: null\nb:\nc: ~\nd: 1\ne: {f: null}\n")) == {"d": 1, "e": {}}


def test_empty_text_is_an_empty_mapping():
    """A file with only comments is an empty mapping."""
    assert plain(compose("t", b"# nothing\n")) == {}


def test_aliases_and_merge_keys_are_copied_out():
    """Aliases are copied, a mapping's own keys win over merged ones, and merges may be nested."""
    tree = compose("t", b"a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: [*b, {z: 3}], x: 0}\nd: *a\n")
    assert plain(tree) == {
        "a": {"x": 1, "y": 1},
        "b": {"y": 2, "x": 1},
        "c": {"x": 0, "y": 2, "z": 3},
        "d": {"x": 1, "y": 1},
    }
    nodes = [node for _, node in tree.value]
    assert nodes[0] is not nodes[3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DOUBLED, f"more than {MAX_NODES} values"),
        ("[" * 20_000, "nested too deeply"),
        ("a: &a\n  b: *a\n", "t:1:4: an alias that contains itself"),
        ("a: " + "9" * 5000, "not a value of !!int"),
        ("a: '\x1b[31m'", "t: special characters are not allowed"),
    ],
    ids=["aliases", "depth", "itself", "digits", "control"],
)
def test_text_that_explodes_is_refused(text, words):
    """Too many aliases, levels or digits are only an error."""
    with pytest.raises(InvalidTemplateError) as caught:
        compose("t", text.encode())
    assert words in caught.value.message


@pytest.mark.parametrize("text", [b"\xff\xfe\xfa", b"a: \xc3\x28"])
def test_bytes_that_are_no_text_are_refused(text):
    """A disk image, for example, is not parsed."""
    with pytest.raises(InvalidTemplateError, match="not UTF-8"):
        compose("t", text)


@pytest.mark.parametrize(
    ("text", "offset", "expected"),
    [
        ("a: |\n  one\n    two\n\n  three\n", 0, "t:2:3"),
        ("a: |\n  one\n    two\n\n  three\n", 6, "t:3:5"),
        ("a: |\n  one\n    two\n\n  three\n", 11, "t:5:3"),
        ("b: 1\na: |-\n     one\n     two\n", 5, "t:4:7"),
        ("a: 'one two'\n", 4, "t:1:4"),
        ("a: >\n  one\n  two\n", 4, "t:1:4"),
    ],
)
def test_place_in_a_text_is_exact_where_its_lines_are_the_files(text, offset, expected):
    """In a `|` block, line and column are those of the character; elsewhere they are where the text begins."""
    node, _ = at(compose("t", text.encode()), ("a",))
    assert expected == str(place_in(node, offset))


def test_place_of_a_key_given_twice_names_the_first():
    """Most YAML parsers would silently keep the last value."""
    with pytest.raises(InvalidTemplateError, match=r"t:3:1: a: already given in line 1"):
        compose("t", b"a: 1\nb: 2\na: 3\n")


def test_place_of_a_node_is_line_and_column():
    """Lines and columns count from 1, as in editors."""
    tree = compose("web.yaml", b"a:\n  - b\n")
    assert str(place(tree.value[0][1].value[0])) == "web.yaml:2:5"
