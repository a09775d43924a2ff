import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from interlock.errors import ImageError
from interlock.images.store import Blob, Image, Store

TINY = Image(
    name="tiny",
    arch="x86_64",
    kind="built",
    origin="Debian 12 packages",
    created_at="2026-01-01T00:00:00.000000Z",
    boot=("kernel",),
    first_boot=("overlay",),
    kernel_arguments="quiet",
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "images")


def add(store, image=TINY, **contents):
    """Add `image`, whose files have the given contents by role."""
    with store.writing() as writer:
        files = {role: writer.work / role for role in contents}
        for role, path in files.items():
            path.write_bytes(contents[role])
        return writer.add(image, files)


def delete(store):
    with store.writing() as writer:
        return writer.delete("tiny", "x86_64")


def blobs(store):
    return {path.name for path in (store.directory / "blobs").iterdir()}


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_store_without_a_folder_is_empty_and_stays_unmade(store):
    """Reading a store does not create its folder."""
    assert store.get("tiny", "x86_64") is None
    assert store.list() == ()
    assert not store.directory.exists()


def test_add_makes_the_image_visible_with_its_files(store):
    """The added image is found by name, with each file under its digest."""
    added = add(store, kernel=b"K", initrd=b"II")
    assert added.files == {"kernel": Blob(digest(b"K"), 1), "initrd": Blob(digest(b"II"), 2)}
    assert store.get("tiny", "x86_64") == added
    assert store.list() == (added,)
    assert store.path(added.files["initrd"].digest).read_bytes() == b"II"


def test_add_makes_blobs_that_nobody_writes(store):
    """Blobs are read-only, because instances share them."""
    path = store.path(add(store, kernel=b"K").files["kernel"].digest)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_add_same_name_replaces_the_image_and_drops_its_blobs(store):
    """Each name has one image; of the former one, only blobs that the new one has too are kept."""
    add(store, kernel=b"K", initrd=b"old")
    add(store, kernel=b"K", initrd=b"new")
    assert blobs(store) == {digest(b"K"), digest(b"new")}


def test_add_over_a_damaged_blob_replaces_it(store):
    """A blob whose content does not match its digest is replaced."""
    path = store.path(add(store, kernel=b"K").files["kernel"].digest)
    path.chmod(0o600)
    path.write_bytes(b"X")
    add(store, kernel=b"K")
    assert path.read_bytes() == b"K"


def test_add_blob_that_instances_share_keeps_their_link(store, tmp_path):
    """Adding the same content again keeps the hard link that instances share with the store."""
    image = add(store, kernel=b"K")
    os.link(store.path(image.files["kernel"].digest), tmp_path / "instance")
    add(store, kernel=b"K")
    assert (tmp_path / "instance").samefile(store.path(image.files["kernel"].digest))


def test_delete_keeps_what_another_image_or_an_instance_has(store, tmp_path):
    """A blob is removed with the last image that has it; an instance keeps its own hard link."""
    image = add(store, kernel=b"K", initrd=b"A")
    add(store, replace(TINY, name="other"), kernel=b"K")
    os.link(store.path(image.files["initrd"].digest), tmp_path / "instance")
    assert delete(store) is True
    assert store.get("tiny", "x86_64") is None
    assert blobs(store) == {digest(b"K")}
    assert (tmp_path / "instance").read_bytes() == b"A"


def test_delete_absent_image_says_so(store):
    """Deleting an absent image succeeds and returns False."""
    assert delete(store) is False


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "A", "a/b", "a.b"])
def test_get_impossible_name_is_refused(store, name):
    """A name cannot be a path out of the folder."""
    with pytest.raises(ImageError):
        store.get(name, "x86_64")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest.write_text("{"),
        lambda manifest: manifest.write_text("[]"),
        lambda manifest: manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99})),
        lambda manifest: manifest.write_text(manifest.read_text().replace(digest(b"K"), "../../etc/passwd")),
        lambda manifest: manifest.write_text(manifest.read_text().replace('"built"', '"found"')),
        lambda manifest: manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {}})),
        lambda manifest: manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": []})),
    ],
    ids=["cut short", "no object", "newer schema", "digest that is a path", "kind", "no file", "files are no object"],
)
def test_get_damaged_manifest_counts_as_absent_and_can_be_replaced(store, spoil):
    """A damaged manifest does not block the name: the image can be added again."""
    add(store, kernel=b"K")
    spoil(store.directory / "manifests" / "tiny.x86_64")
    assert store.get("tiny", "x86_64") is None
    assert store.list() == ()
    assert add(store, kernel=b"K") == store.get("tiny", "x86_64")


def test_get_image_whose_file_is_gone_counts_as_absent(store):
    """An image with a missing file counts as absent."""
    image = add(store, kernel=b"K")
    store.path(image.files["kernel"].digest).unlink()
    assert store.get("tiny", "x86_64") is None


def test_writing_error_leaves_nothing(store):
    """Failed work leaves no files and no image."""

    def fail():
        with store.writing() as writer:
            (writer.work / "kernel").write_bytes(b"K")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((store.directory / "work").iterdir()) == []
    assert store.list() == ()


DIE = """
import os, signal, sys
from pathlib import Path
from interlock.images.store import Store

with Store(Path(sys.argv[1])).writing() as writer:
    (writer.work / "kernel").write_bytes(b"K")
    writer._take(writer.work / "kernel")
    (writer.work / "initrd").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_writing_after_a_crash_sweeps_what_it_left(store):
    """A writer killed half-way leaves no image and no lock, and the next writer removes its files."""
    victim = subprocess.run([sys.executable, "-c", DIE, store.directory], check=False)
    assert victim.returncode == -signal.SIGKILL
    assert store.list() == ()
    assert blobs(store) == {digest(b"K")}
    with store.writing():
        assert blobs(store) == set()
        assert len(list((store.directory / "work").iterdir())) == 1


BUILD_UNLESS_THERE = """
import sys
from pathlib import Path
from interlock.images.store import Image, Store

store = Store(Path(sys.argv[1]))
with store.writing() as writer:
    if store.get("tiny", "x86_64"):
        print("found")
    else:
        (writer.work / "kernel").write_bytes(b"K")
        image = Image("tiny", "x86_64", "built", "test", "2026-01-01", ("kernel",), ("overlay",))
        writer.add(image, {"kernel": writer.work / "kernel"})
        print("built")
"""


def test_writing_by_processes_at_once_lets_one_build(store):
    """If several processes want the same image, one builds it and the others find it."""
    command = [sys.executable, "-c", BUILD_UNLESS_THERE, store.directory]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(racer.communicate(timeout=60)[0] for racer in racers) == ["built\n", *["found\n"] * 3]


def test_writing_while_another_writes_says_that_it_waits(store):
    """Waiting for another process is reported."""
    said = []

    def report(step):
        said.append(step)
        fcntl.flock(other, fcntl.LOCK_UN)

    with store.writing():
        pass
    with (store.directory / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with store.writing(report):
            pass
    assert said == ["waiting for another process to finish with the image store"]
