"""Which instances use an image is read from their files, and what none uses can go."""

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
    """Add the image `name`, made of files with these contents, by role."""
    image = Image(name, ARCH, "built", "test", "2026-01-01T00:00:00Z", ("kernel",), ("overlay",))
    with store.writing() as writer:
        files = {role: writer.work / role for role in contents}
        for role, path in files.items():
            path.write_bytes(contents[role])
        return writer.add(image, files)


@pytest.fixture
def make(home, store):
    """Return what makes the files that an instance of an image has, under the names that creation gives them."""

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
    """Return an image without a disk, with the kernel that debian has too."""
    return add(store, "tiny", kernel=b"KERNEL", initrd=b"OTHER")


def names(store, home):
    return {name: instances for (name, _), instances in users(store, home).items()}


def test_users_are_told_by_the_disk_or_where_there_is_none_by_the_kernel(store, home, debian, tiny, make):
    """Two images with one kernel are not taken for one another."""
    make("web", debian)
    make("db", debian, firmware=True)
    make("t", tiny)
    assert names(store, home) == {"debian": ("db", "web"), "tiny": ("t",)}


def test_users_of_an_image_that_was_built_anew_are_the_new_ones(store, home, debian, make):
    """An instance keeps the image that it was made of, which is in the store no more."""
    make("old", debian)
    make("new", add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD"))
    assert names(store, home) == {"debian": ("new",)}


def test_users_do_not_include_who_has_a_copy(store, home, debian, make):
    """Nothing that happens to the store concerns a copy."""
    make("web", debian, copy=True)
    assert names(store, home) == {"debian": ()}


def test_users_include_who_is_being_created(store, home, debian, make):
    """An image that somebody is just taking is in use."""
    make("web", debian).rename(home.creating("web"))
    assert names(store, home) == {"debian": ("web",)}


@pytest.mark.parametrize("damage", ["file", "empty", "loop"])
@pytest.mark.usefixtures("debian")
def test_users_of_damaged_instances_are_none(home, store, damage):
    """One damaged instance never disturbs a listing."""
    path = home.directory("web")
    path.parent.mkdir(exist_ok=True)
    {"file": path.touch, "empty": path.mkdir, "loop": lambda: path.symlink_to(path)}[damage]()
    assert names(store, home) == {"debian": ()}


def test_users_and_delete_without_a_store_make_none(home):
    """Looking changes nothing, nor does removing what is not there."""
    assert users(Store(home.images), home) == {}
    assert delete(Store(home.images), home, "debian", ARCH) is False
    assert not home.root.exists()


def test_delete_of_a_used_image_is_refused_with_the_instances(store, home, debian, make):
    """What is in use goes only when somebody insists."""
    make("web", debian)
    make("db", debian)
    with pytest.raises(ImageError, match="is used by db, web") as caught:
        delete(store, home, "debian", ARCH)
    assert "--force" in str(caught.value.hint)
    assert store.get("debian", ARCH) == debian


def test_delete_by_force_takes_nothing_from_instances(store, home, debian, make):
    """Their links are files of their own."""
    directory = make("web", debian)
    assert delete(store, home, "debian", ARCH, force=True) is True
    assert store.list() == ()
    assert (directory / "base.qcow2").read_bytes() == b"DISK"


@pytest.mark.usefixtures("debian")
def test_delete_of_an_unused_or_absent_image(store, home):
    """What nobody uses goes without a question; what is not there is said not to have been."""
    assert delete(store, home, "debian", ARCH) is True
    assert delete(store, home, "debian", ARCH) is False


@pytest.fixture
def partial(store):
    """Return a download that somebody began."""
    download = Download.of(store, Place("http://x/a"))
    download.folder.mkdir(parents=True)
    download.begin("http://x/a", {}, None)
    download.content.write_bytes(bytes(1000))
    return download


def pruned(store, home):
    """Remove all that is found, and return (kind, name) → bytes freed."""
    return {(one.kind, one.name): one.size_bytes for one in prune(store, home, unneeded(store, home))}


@pytest.mark.usefixtures("partial")
def test_prune_removes_what_nobody_uses(store, home, debian, tiny, make):
    """Images without instances, and beginnings of downloads; what stays is whole."""
    make("web", debian)
    assert pruned(store, home) == {("image", tiny.name): len(b"OTHER"), ("download", "http://x/a"): 1000}
    assert store.list() == (debian,)
    assert list(store.downloads.iterdir()) == []
    assert all(store.path(blob.digest).exists() for blob in debian.files.values())


@pytest.mark.usefixtures("debian", "tiny")
def test_prune_counts_what_is_really_freed(store, home):
    """A file that two images share is counted once, and one that an instance keeps is not."""
    add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD")
    assert sum(pruned(store, home).values()) == len(b"NEWER") + len(b"KERNEL") + len(b"INITRD") + len(b"OTHER")
    assert pruned(store, home) == {}


def test_prune_does_not_count_what_an_instance_keeps(store, home, debian, make):
    """The kernel of an instance of another, former image lies on the disk all the same."""
    make("old", debian)
    add(store, "debian", disk=b"NEWER", kernel=b"KERNEL", initrd=b"INITRD")
    assert pruned(store, home) == {("image", "debian"): len(b"NEWER") + len(b"INITRD")}


def test_unneeded_changes_nothing_and_is_what_prune_removes(store, home, debian, tiny, partial, make):
    """It can be looked at before it is done."""
    make("web", debian)
    found = list(unneeded(store, home))
    assert store.list() == (debian, tiny)
    assert partial.size_bytes == 1000
    assert prune(store, home, found) == found


@pytest.mark.usefixtures("debian")
def test_prune_removes_nothing_that_was_not_listed_or_came_into_use(store, home, tiny, make):
    """Between the list and the removal, others may have made something or begun to use it."""
    found = list(unneeded(store, home))
    make("t", tiny)
    later = add(store, "later", disk=b"LATER")
    assert [one.name for one in prune(store, home, found)] == ["debian"]
    assert store.list() == (later, tiny)


def test_prune_removes_what_a_dead_process_left(store, home, debian, make):
    """Work, half-written manifests and blobs without an image; a living writer's are not even listed."""
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
    """From then on, until the instance is whole, the image stays; by the file that instances are known by."""
    for name, image in (("web", debian), ("t", tiny)):
        home.creating(name).mkdir(parents=True)
        claim(store, image, home.creating(name))
        claim(store, image, home.creating(name))
    assert names(store, home) == {"debian": ("web",), "tiny": ("t",)}
    assert pruned(store, home) == {}


def test_claim_of_what_was_just_removed_is_not_found(store, home, debian):
    """Who claims too late obtains the image again."""
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
    """Another process still writes it: it is not a leftover."""
    command = [sys.executable, "-c", HOLD, partial.folder / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert pruned(store, home) == {}
        other.stdin.close()
    assert pruned(store, home) == {("download", "http://x/a"): 1000}


def test_prune_without_a_store_makes_none(home):
    """Nothing to do is nothing done."""
    assert pruned(Store(home.images), home) == {}
    assert not home.root.exists()
