"""Records read back what they wrote, refuse what they cannot mean, and a spec can name nothing but its machine."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.fsm.errors import DamagedError, InvalidNameError
from interlock.fsm.records import SPEC_FILE, Spec, checked_name, seconds_since

SOURCE = Path("spec.json")


@pytest.mark.parametrize("name", ["a", "web", "Web-1.2_x", "9", "a" * 63])
def test_checked_name_that_is_good_comes_back(name):
    """What may be a name is returned as it is."""
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "a\n", "a\0", "ä", "a" * 64, "web;rm", "$x"]
)
def test_checked_name_that_could_be_anything_else_is_refused(name):
    """A name is no path, no option, no hidden file and no piece of shell."""
    with pytest.raises(InvalidNameError):
        checked_name(name)


def test_spec_written_and_read_is_the_same(spec, tmp_path):
    """Nothing of a spec is lost on disk."""
    (tmp_path / SPEC_FILE).write_text(json.dumps(spec.to_json()))
    assert Spec.read(tmp_path) == spec


def test_spec_has_no_field_that_could_lead_out_of_its_directory():
    """A start that is handed a spec cannot find a template, an image, a URL or a cache, because no field holds one.

    `origin` is words for people: that nothing reads it is told apart by its absence from every other module."""
    named = {field.name for field in fields(Spec)}
    assert named == {
        *("driver", "arch", "cpus", "memory_bytes", "disk_bytes", "user", "hostname", "instance_id", "boot"),
        *("start_timeout_s", "stop_timeout_s", "kernel_arguments", "accelerator", "origin", "created_at", "schema"),
    }


@pytest.mark.parametrize("product", ["api.py", "cli.py", "commands", "drivers", "fsm", "guest", "images"])
def test_spec_origin_is_read_by_nobody(product):
    """What a spec was made from is for people: no code but its author's mentions the field."""
    root = Path(__file__).parents[2] / product
    sources = [root] if root.is_file() else root.rglob("*.py")
    assert [path for path in sources if "spec.origin" in path.read_text()] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema 2 is not 1, the one this version reads"),
        ({"cpus": "2"}, "cpus: expected int, found '2'"),
        ({"cpus": True}, "cpus: expected int, found True"),
        ({"driver": None}, "driver: expected str, found None"),
        ({"template": "debian"}, "template: no such field"),
    ],
)
def test_spec_with_damage_names_the_field(spec, change, words):
    """The error says which file, which field, and what stands there."""
    with pytest.raises(DamagedError) as caught:
        Spec.from_json({**spec.to_json(), **change}, SOURCE)
    assert caught.value.message == f"{SOURCE}: {words}"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"\xff", b"null", b"[]", b"{}", b'{"schema": 1}', b"[" * 5000],
    ids=["empty", "zeros", "not-utf-8", "null", "list", "object", "bare", "deep"],
)
def test_spec_of_other_content_is_damaged(tmp_path, content):
    """Whatever stands in the file, the error is ours and names it."""
    (tmp_path / SPEC_FILE).write_bytes(content)
    with pytest.raises(DamagedError, match=SPEC_FILE):
        Spec.read(tmp_path)


@pytest.mark.parametrize("field", [field.name for field in fields(Spec)])
def test_spec_without_any_one_field_is_damaged(spec, field):
    """A spec is complete: nothing is guessed that is missing."""
    data = spec.to_json()
    del data[field]
    with pytest.raises(DamagedError, match=field):
        Spec.from_json(data, SOURCE)


def test_spec_is_frozen(spec):
    """What was created stays what it is: a change is another spec."""
    assert replace(spec, cpus=2) != spec
    with pytest.raises(AttributeError):
        spec.cpus = 2


def test_seconds_since_moment_in_the_future_is_zero():
    """A clock that was set back makes no negative age."""
    assert seconds_since((datetime.now(UTC) + timedelta(hours=1)).isoformat()) == 0.0
