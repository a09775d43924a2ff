"""A spec is read back as it was written, refuses damage, and describes nothing but its own machine."""

import json
from pathlib import Path

import pytest

from interlock.errors import DamagedError
from interlock.fsm.spec import SPEC_FILE, Copy, Disk, Forward, Mount, Probe, Spec

SOURCE = Path("spec.json")


@pytest.fixture
def full(spec):
    """Return a spec with one of everything."""
    return spec._replace(
        mounts=(Mount("/srv/a b", "/mnt/a b", writable=True, type="9p", security_model="none"),),
        forwards=(Forward("tcp", "127.0.0.1", 80, "", "127.0.0.1", 8080, "", reverse=False),),
        disks=(Disk("data", "qcow2"),),
        probes=(Probe("it answers", "#!/bin/sh\ntrue\n", ""),),
        copies=(Copy("/etc/os-release", "/tmp/os", skip_if_missing=False, delete_on_stop=True),),
    )


def test_spec_written_and_read_is_the_same(full, tmp_path):
    """A spec survives being written and read."""
    (tmp_path / SPEC_FILE).write_text(json.dumps(full.to_json()))
    assert Spec.read(tmp_path) == full


def test_spec_has_no_field_that_could_lead_out_of_its_directory():
    """A start that is handed a spec cannot find a template, an image, a URL or a cache, because no field holds one.

    `origin` is text for people; only `image warm` compares it, to recognize the instances that it made."""
    named = set(Spec._fields)
    assert named == {
        *("driver", "arch", "cpus", "memory_bytes", "disk_bytes", "user", "hostname", "instance_id", "boot"),
        *("kept_by", "cluster", "node", "group"),
        *(
            "start_timeout_s",
            "stop_timeout_s",
            "kernel_arguments",
            "accelerator",
            "origin",
            "created_at",
            "schema",
            "version",
        ),
        *(
            "cpu_model",
            "ssh_port",
            "forward_agent",
            "forward_x11",
            "forward_x11_trusted",
            "timezone",
            "message",
            "restart",
        ),
        *("network_host", "network_internet"),
        *("lan", "nested", "tpm", "vnc"),
        *("mounts", "forwards", "port_rules", "disks", "probes", "copies"),
    }


@pytest.mark.parametrize("product", ["api.py", "cli.py", "commands", "drivers", "fsm", "guest", "images"])
def test_spec_origin_is_not_read_by_these_parts(product):
    """`origin` is for people; these parts of the product do not read it."""
    root = Path(__file__).parents[2] / product
    sources = [root] if root.is_file() else root.rglob("*.py")
    assert [path for path in sources if "spec.origin" in path.read_text()] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "1"}, "schema: expected a number from 1 to 1, found '1'"),
        ({"cpus": "2"}, "cpus: expected int, found '2'"),
        ({"cpus": True}, "cpus: expected int, found True"),
        ({"driver": None}, "driver: expected str, found None"),
        ({"mounts": {}}, "mounts: expected a list of objects, found {}"),
        ({"mounts": [7]}, "mounts: expected a list of objects, found [7]"),
        ({"disks": [{"name": "a", "format": "raw"}, {"name": 1}]}, "disks[1].name: expected str, found 1"),
    ],
)
def test_spec_with_damage_names_the_field(spec, change, words):
    """The error names the file and the field, and quotes the value."""
    with pytest.raises(DamagedError) as caught:
        Spec.from_json({**spec.to_json(), **change}, SOURCE)
    assert caught.value.message == f"{SOURCE}: {words}"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"\xff", b"null", b"[]", b"{}", b'{"schema": 1}', b"[" * 5000],
    ids=["empty", "zeros", "not-utf-8", "null", "list", "object", "bare", "deep"],
)
def test_spec_of_other_content_is_damaged(tmp_path, content):
    """Whatever the file contains, the error is a DamagedError that names the file."""
    (tmp_path / SPEC_FILE).write_bytes(content)
    with pytest.raises(DamagedError, match=SPEC_FILE):
        Spec.read(tmp_path)


@pytest.mark.parametrize("field", Spec._fields)
def test_spec_without_a_field_has_its_default_or_is_damaged(spec, field):
    """Fields added by later versions have defaults; a missing field that every version writes is damage."""
    data = spec.to_json()
    del data[field]
    if field in Spec._field_defaults:
        assert getattr(Spec.from_json(data, SOURCE), field) == Spec._field_defaults[field]
    else:
        with pytest.raises(DamagedError, match=field):
            Spec.from_json(data, SOURCE)


def test_spec_with_unknown_fields_is_read_without_them(spec):
    """Later versions may have added them; they are ignored."""
    data = {**spec.to_json(), "colour": "red", "disks": [{"name": "a", "format": "raw", "colour": "red"}]}
    assert Spec.from_json(data, SOURCE) == spec._replace(disks=(Disk("a", "raw"),))


def test_spec_is_frozen(spec):
    """A spec cannot be changed in place; a change makes a new spec."""
    assert spec._replace(cpus=2) != spec
    with pytest.raises(AttributeError):
        spec.cpus = 2
