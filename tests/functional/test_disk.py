"""`interlock disk`: creates, lists, grows and deletes disks that outlive instances."""

import json
import os
import subprocess

import pytest

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def disk(interlock):
    """Return a function that runs `interlock disk`, checks the exit code, and returns the finished process."""

    def run(*arguments, code=0):
        done = interlock("disk", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done

    return run


def records(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_disk_create_prints_the_disk_for_programs_and_tells_people(disk, home):
    """stdout has the record with `--format json`, and is empty otherwise."""
    assert disk("create", "data", "--size", "1GiB").stdout == ""
    (record,) = records(disk("create", "raw", "--size", "10MiB", "--kind", "raw", "--format", "json"))
    assert record == {
        "name": "raw",
        "format": "raw",
        "size_bytes": 10 * MIB,
        "used_bytes": record["used_bytes"],
        "instances": [],
        "in_use_by": None,
        "path": str(home.root / "disks" / "raw" / "disk.raw"),
    }


def test_disk_list_shows_every_disk_and_its_instances(disk, bring_linked):
    """`list` prints a table for people, one JSON object per line for programs, and nothing when there are no disks."""
    assert disk("list").stdout == ""
    disk("create", "data", "--size", "1GiB")
    disk("create", "raw", "--size", "10MiB", "--kind", "raw")
    bring_linked("data", "web")
    listed = records(disk("list", "--format", "json"))
    assert [(it["name"], it["size_bytes"], it["instances"]) for it in listed] == [
        ("data", GIB, ["web"]),
        ("raw", 10 * MIB, []),
    ]
    head, data, raw = disk("list").stdout.splitlines()
    assert head.split() == ["NAME", "FORMAT", "SIZE", "USED", "ATTACHED", "TO", "IN", "USE", "BY"]
    assert (data.split()[:4], raw.split()[:4]) == (["data", "qcow2", "1", "GiB"], ["raw", "raw", "10", "MiB"])
    assert data.endswith("  web")


@pytest.fixture
def bring_linked(home):
    """Return a function that attaches a disk to an instance's directory as `create` does."""

    def bring(disk_name, instance):
        directory = home.directory(instance)
        directory.mkdir(parents=True)
        os.link(home.root / "disks" / disk_name / "disk.qcow2", directory / f"disk-{disk_name}")

    return bring


def test_disk_resize_grows_and_never_shrinks(disk):
    """The disk has the new size; a smaller size is a usage error."""
    disk("create", "data", "--size", "1GiB")
    (record,) = records(disk("resize", "data", "--size", "2GiB", "--format", "json"))
    assert record["size_bytes"] == 2 * GIB
    assert "cannot" not in disk("resize", "data", "--size", "1GiB", code=2).stdout
    assert records(disk("inspect", "data", "--format", "json")) == [record]


def test_disk_delete_of_attached_one_is_refused_and_names_the_instance(disk, bring_linked):
    """A disk is not removed while an instance has it; the error says what must be deleted first."""
    disk("create", "data", "--size", "1GiB")
    bring_linked("data", "web")
    dry = disk("delete", "data", "--dry-run", code=2)
    done = disk("delete", "data", code=2)
    assert dry.stderr == done.stderr
    assert done.stderr.splitlines() == [
        "error: usage",
        'disk "data" is attached to instance "web"',
        "hint: interlock delete web && interlock disk delete data",
    ]
    assert [it["name"] for it in records(disk("list", "--format", "json"))] == ["data"]


def test_disk_delete_removes_it(disk):
    """Afterwards there is no disk of that name."""
    disk("create", "data", "--size", "1GiB")
    assert disk("delete", "data", "--dry-run").stderr.startswith("dry run: removes /")
    assert disk("list").stdout
    disk("delete", "data")
    assert disk("list").stdout == ""
    for command in (("delete", "data"), ("inspect", "data"), ("resize", "data", "--size", "1GiB")):
        assert 'there is no disk "data"' in disk(*command, code=4).stderr


def test_disk_import_brings_a_disk_made_elsewhere(disk, tmp_path):
    """The store keeps its own copy: the source can be deleted."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "mine.img", "16M"], check=True)
    (record,) = records(disk("import", "data", "mine.img", "--format", "json"))
    (tmp_path / "mine.img").unlink()
    assert (record["format"], record["size_bytes"]) == ("qcow2", 16 * MIB)
    assert records(disk("inspect", "data", "--format", "json")) == [record]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "../x", "--size", "1GiB"), "a disk cannot be called"),
        (("create", "x", "--size", "lots"), "lots"),
        (("create", "x"), "--size"),
        (("import", "x", "no-such-file"), "no-such-file: no such file"),
        (("import", "x", "."), "not a file"),
        (("grow", "x"), "grow"),
    ],
)
def test_disk_with_bad_input_is_refused_in_words(disk, home, arguments, words):
    """Invalid arguments are usage errors, and nothing changes."""
    assert words in disk(*arguments, code=2).stderr
    assert not (home.root / "disks").exists()


def test_disk_name_is_completed_from_those_that_exist(disk, interlock):
    """A shell offers the existing disks."""
    disk("create", "data", "--size", "1GiB")
    disk("create", "other", "--size", "1GiB")
    environment = {"_INTERLOCK_COMPLETE": "bash_complete", "COMP_WORDS": "interlock disk inspect ", "COMP_CWORD": "3"}
    offered = interlock(env={**os.environ, **environment}).stdout.splitlines()
    assert offered == ["plain,data", "plain,other"]
