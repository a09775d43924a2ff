"""The users of an image are found by the files of instances; images without users can be removed."""

import os
import shutil
import subprocess
import sys

import pytest

from interlock.errors import ImageError
from interlock.images.download import Download
from interlock.images.source import Place
from interlock.images.store import Image, Store
from interlock.images.usage import claim, delete, prune, unneeded, users

ARCH = "x86_64"


@pytest.fixture
def store(home):
    home.prepare()
    return Store(home.images)


def add(store, name, **contents):
    """Add the image `name`, whose files have the given contents by role."""
    image = Image(name, ARCH, "built", "test", "2026-01-01T00:00:00Z", ("kernel",), ("overlay",))
    with store.writing() as writer:
        files = {role: writer.work / role for role in contents}
        for role, path in files.items():
            path.write_bytes(contents[role])
        return writer.add(image, files)


@pytest.fixture
def make(home, store):
    """Return a function that makes an instance's files of an image, with the names that creation gives them."""

    def make_instance(name, image, *, copy=False, firmware=False):
        directory = home.directory(name)
        directory.mkdir(parents=True)
        for role, file in (("disk", "base.qcow2"), ("kernel", "kernel")):
            if role in image.files and not (firmware and role == "kernel"):
                (shutil.copy if copy else os.link)(store.path(image.files[role].digest), directory / file)
        return directory

    return make_instance


@pytest.fixture
def debian(store):
    return add(store, "debian", disk=b"DISK", kernel=b"KERNEL", initrd=b"INITRD")


@pytest.fixture
def tiny(store):
    """Return an image without a disk, with the same kernel as debian."""
    return add(store, "tiny", kernel=b"KERNEL", initrd=b"OTHER")


def names(store, home):
    return {name: instances for (name, _), instances in users(store, home).items()}


def test_users_are_recognized_by_the_disk_or_else_by_the_kernel(store, home, debian, tiny, make):
    """Two images with the same kernel are not confused."""
    make("web", debian)
    make("db", debian, firmware=True)
    make("t", tiny)
    assert names(store, home) == {"debian": ("db", "web"), "tiny": ("t",)}


def test_users_of_an_image_that_was_rebuilt_are_the_new_ones(store, home, debian, make):
    """An instance keeps the files of its old image, which is no longer in the store."""
    make("old", debian)
    make("new", add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD"))
    assert names(store, home) == {"debian": ("new",)}


def test_users_do_not_include_who_has_a_copy(store, home, debian, make):
    """A copy does not depend on the store."""
    make("web", debian, copy=True)
    assert names(store, home) == {"debian": ()}


def test_users_include_who_is_being_created(store, home, debian, make):
    """An image is in use as soon as an instance is being created from it."""
    make("web", debian).rename(home.creating("web"))
    assert names(store, home) == {"debian": ("web",)}


@pytest.mark.parametrize("damage", ["file", "empty", "loop"])
@pytest.mark.usefixtures("debian")
def test_users_of_damaged_instances_are_none(home, store, damage):
    """A damaged instance does not break the listing."""
    path = home.directory("web")
    path.parent.mkdir(exist_ok=True)
    {"file": path.touch, "empty": path.mkdir, "loop": lambda: path.symlink_to(path)}[damage]()
    assert names(store, home) == {"debian": ()}


def test_users_and_delete_without_a_store_make_none(home):
    """Neither listing users nor deleting an absent image creates a store."""
    assert users(Store(home.images), home) == {}
    assert delete(Store(home.images), home, "debian", ARCH) is False
    assert not home.root.exists()


def test_delete_of_a_used_image_is_refused_with_the_instances(store, home, debian, make):
    """An image in use can only be deleted with --force."""
    make("web", debian)
    make("db", debian)
    with pytest.raises(ImageError, match="is used by db, web") as caught:
        delete(store, home, "debian", ARCH)
    assert "--force" in str(caught.value.hint)
    assert store.get("debian", ARCH) == debian


def test_delete_by_force_takes_nothing_from_instances(store, home, debian, make):
    """Instances have their own hard links."""
    directory = make("web", debian)
    assert delete(store, home, "debian", ARCH, force=True) is True
    assert store.list() == ()
    assert (directory / "base.qcow2").read_bytes() == b"DISK"


@pytest.mark.usefixtures("debian")
def test_delete_of_an_unused_or_absent_image(store, home):
    """An unused image is deleted without --force; deleting an absent one returns False."""
    assert delete(store, home, "debian", ARCH) is True
    assert delete(store, home, "debian", ARCH) is False


@pytest.fixture
def partial(store):
    """Return an unfinished download."""
    download = Download.of(store, Place("http://x/a"))
    download.folder.mkdir(parents=True)
    download.begin("http://x/a", {}, None)
    download.content.write_bytes(bytes(1000))
    return download


def pruned(store, home):
    """Prune everything unneeded, and return (kind, name) → bytes freed."""
    return {(one.kind, one.name): one.size_bytes for one in prune(store, home, unneeded(store, home))}


@pytest.mark.usefixtures("partial")
def test_prune_removes_what_nobody_uses(store, home, debian, tiny, make):
    """Images without instances and unfinished downloads are removed; everything else stays complete."""
    make("web", debian)
    assert pruned(store, home) == {("image", tiny.name): len(b"OTHER"), ("download", "http://x/a"): 1000}
    assert store.list() == (debian,)
    assert list(store.downloads.iterdir()) == []
    assert all(store.path(blob.digest).exists() for blob in debian.files.values())


@pytest.mark.usefixtures("debian", "tiny")
def test_prune_counts_what_is_really_freed(store, home):
    """A file that two images share is counted once."""
    add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD")
    assert sum(pruned(store, home).values()) == len(b"NEWER") + len(b"KERNEL") + len(b"INITRD") + len(b"OTHER")
    assert pruned(store, home) == {}


def test_prune_does_not_count_what_an_instance_keeps(store, home, debian, make):
    """A kernel that an instance of an older image still has takes space anyway, so it is not counted."""
    make("old", debian)
    add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD")
    assert pruned(store, home) == {("image", "debian"): len(b"NEWER") + len(b"INITRD")}


def test_unneeded_changes_nothing_and_is_what_prune_removes(store, home, debian, tiny, partial, make):
    """The list can be inspected before anything is removed."""
    make("web", debian)
    found = list(unneeded(store, home))
    assert store.list() == (debian, tiny)
    assert partial.size_bytes == 1000
    assert prune(store, home, found) == found


@pytest.mark.usefixtures("debian")
def test_prune_removes_nothing_that_was_not_listed_or_came_into_use(store, home, tiny, make):
    """Between the list and the removal, others may have added an image or begun to use one."""
    found = list(unneeded(store, home))
    make("t", tiny)
    later = add(store, "later", disk=b"LATER")
    assert [one.name for one in prune(store, home, found)] == ["debian"]
    assert store.list() == (later, tiny)


def test_prune_removes_what_a_dead_process_left(store, home, debian, make):
    """Work folders, half-written manifests and orphaned blobs are removed; a live writer's are not even listed."""
    make("web", debian)
    left = [store.work / "dead" / "file", store.manifests / ".debian.x86_64.ab12", store.blobs / ("0" * 64)]
    left[0].parent.mkdir()
    for path in left:
        path.write_bytes(b"left")
    with store.writing():  # sweeps
        assert not any(path.exists() for path in left)
        left[2].write_bytes(b"left")
        assert list(unneeded(store, home)) == []
    left[2].write_bytes(b"left")
    assert list(pruned(store, home)) == [("leftover", str(left[2]))]
    assert not left[2].exists()


def test_claim_makes_who_is_being_created_a_user(store, home, debian, tiny):
    """From then on the image counts as used, because the instance has the file by which users are found."""
    for name, image in (("web", debian), ("t", tiny)):
        home.creating(name).mkdir(parents=True)
        claim(store, image, home.creating(name))
        claim(store, image, home.creating(name))
    assert names(store, home) == {"debian": ("web",), "tiny": ("t",)}
    assert pruned(store, home) == {}


def test_claim_of_what_was_just_removed_is_not_found(store, home, debian):
    """If the image was deleted in the meantime, the claim fails, and the caller has to obtain it again."""
    home.creating("web").mkdir(parents=True)
    delete(store, home, "debian", ARCH)
    with pytest.raises(FileNotFoundError):
        claim(store, debian, home.creating("web"))


HOLD = """
import sys
from pathlib import Path
from interlock.host.locks import held

with held(Path(sys.argv[1]), None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_prune_leaves_a_download_that_goes_on(store, home, partial):
    """A download that another process still writes is not a leftover."""
    command = [sys.executable, "-c", HOLD, partial.folder / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert pruned(store, home) == {}
        other.stdin.close()
    assert pruned(store, home) == {("download", "http://x/a"): 1000}


def test_prune_without_a_store_makes_none(home):
    """Pruning does not create a store."""
    assert pruned(Store(home.images), home) == {}
    assert not home.root.exists()
