"""Ignored keys and refused keys are one table each, and the page about the language names all of them."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from interlock.errors import InvalidTemplateError
from interlock.templates.expand import FIELDS
from interlock.templates.load import Source, parse
from interlock.templates.model import Template, known_keys
from interlock.templates.parts import MANY_PORTS, Strict
from interlock.templates.support import IGNORED, LIMA, NOT_YET

PAGE = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, flags=re.MULTILINE))
GOOD = "images:\n- location: build:tiny\n  arch: x86_64\n"


def section(begin):
    """Return the section of the page whose title begins with `begin`."""
    (text,) = [text for title, text in SECTIONS.items() if title.startswith(begin)]
    return text


def test_page_tells_every_key_that_is_ignored():
    """The page lists every key that a note will call ignored."""
    assert [rule.key for rule in IGNORED if f"`{rule.key}`" not in section("What does not apply")] == []


def test_page_tells_every_key_that_is_not_supported_yet():
    """The page lists every refused key, and each refusal says what to do instead."""
    assert [rule.key for rule in NOT_YET if f"`{rule.key}`" not in section("What is not supported yet")] == []
    assert [rule.key for rule in NOT_YET if not rule.instead] == []


def test_page_tells_every_key_of_the_language():
    """The page names every key."""
    assert [key for key in known_keys(()) if not re.search(rf"`{key}\b", PAGE)] == []


@pytest.mark.parametrize(("field", "variables"), FIELDS.items(), ids=FIELDS)
def test_page_tells_which_variables_a_field_knows(field, variables):
    """Every field with variables has its row in the table."""
    rows = [row for row in section("Variables").splitlines() if row.startswith("|")]
    start = field.split(".")[0]
    (row,) = [
        row
        for row in rows
        if f"`{field}`" in row or (start in row and f"`.{field.rsplit('.', 1)[-1]}`" in row.split("|")[1])
    ]
    assert re.findall(r"\.(\w+)", row.split("|")[2]) == list(variables)


def test_page_tells_the_limits():
    """The version and the number of ports on the page are those in the code."""
    assert f"A `minimumLimaVersion` above {LIMA[0]}.{LIMA[1]} is noted" in PAGE
    assert f"forwards of more\nthan {MANY_PORTS} ports" in PAGE


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_page_shows_templates_that_are_right(text):
    """Every template on the page is valid."""
    assert parse(Source("docs", text.encode())).notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "containerd: {system: false, user: false}\n",
        "mountInotify: false\ntpm: false\nnestedVirtualization: false\n",
        "networks: []\nfirmware: {images: []}\n",
        "audio: {device: none}\nvideo: {display: default}\nos: Linux\nvmType: qemu\n",
        "rosetta: {enabled: false}\nvmOpts: {vz: {rosetta: {enabled: false}}}\n",
        "mountType: reverse-sshfs\n",
        f"portForwards: [{{guestPortRange: [1, {MANY_PORTS}]}}, {{guestPortRange: [1, 65535]}}, {{ignore: true}}]\n",
        "minimumLimaVersion: 2.2.9\n",
    ],
)
def test_value_that_asks_for_nothing_is_no_mistake_and_no_note(text):
    """A value that turns a feature off, or asks for the default, is accepted silently."""
    assert parse(Source("t", (GOOD + text).encode())).notes == ()


@pytest.mark.parametrize(("key", "words"), [("static: true", "a static forward"), ("proto: udp", "a UDP forward")])
def test_range_of_many_ports_that_cannot_wait_for_them_to_open_is_refused(key, words):
    """In a large TCP range only ports that open are forwarded; UDP and static forwards would all open at the start."""
    with pytest.raises(InvalidTemplateError) as caught:
        parse(Source("t", f"{GOOD}portForwards: [{{guestPortRange: [1, {MANY_PORTS + 1}], {key}}}]\n".encode()))
    assert caught.value.details == (
        f"t:4:16: portForwards[0]: not supported yet: {words} of more than 1000 ports; name only those that you need",
    )


def test_note_of_a_key_in_many_items_is_given_once():
    """Templates list an image for each architecture and mirror, each with its variant."""
    image = "- {location: 'build:tiny', variant: server}\n"
    (note,) = parse(Source("t", f"images:\n{image * 3}".encode())).notes
    assert note == "t:2: images[0].variant: does not apply here and is ignored (likewise in 2 more)"


def accepted(model=Template, path="", seen=()):
    """Yield (path as people write it, name in Python) of every key of a template that contains no other keys."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias}".lstrip(".")
        many = "[]" if "tuple[" in str(field.annotation) else ""
        inner = {one for one in parts(field.annotation) if one not in seen}
        if not inner:
            yield here, name
        for part in inner:
            yield from accepted(part, here + many, (*seen, part))


def parts(annotation):
    """Yield the models in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from parts(argument)


@cache
def attributes_read():
    """Return each attribute that templates/ and creation/ read, except in functions that only check keys."""
    read = set()
    root = Path(__file__).parents[2]
    for path in (*root.glob("templates/*.py"), *root.glob("creation/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        judging = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "mistakes" in node.name
                   for inner in ast.walk(node)}  # fmt: skip
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in judging}
    return read


BY_THEIR_TEXT = ("base", "provision[].file", "probes[].file", "minimumLimaVersion")
"""Keys that bases.py and support.py read from the tree, before there is a model."""

JUDGING = ("hostResolver.enabled", "provision[].playbook")
"""Keys that only affect whether others are allowed: `dns`, and the mode ansible, which is refused."""


def test_key_that_is_accepted_is_read_or_named():
    """No accepted key is silently dropped: the code reads it, or a note or a refusal names it."""
    whole = [rule.key.removesuffix("[]") for rule in (*IGNORED, *NOT_YET) if rule.asks("any value")]
    read = attributes_read()
    dropped = [
        key
        for key, name in accepted()
        if name not in read
        and key not in (*BY_THEIR_TEXT, *JUDGING)
        and not any(key == one or key.startswith(f"{one}.") for one in whole)
    ]
    assert dropped == []
