"""A fetched image is identified by its sources, fetched once, and belongs to the store alone."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys

import pytest

from interlock.errors import ImageError
from interlock.images import published, unpack
from interlock.images.download import Download
from interlock.images.published import find
from interlock.images.source import Kernel, Place, Source
from interlock.images.store import Image, Store

ARCH = "x86_64"
TAG = {"ETag": '"1"'}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "images")


@pytest.fixture
def said():
    return []


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def content(store, image, role="disk"):
    return store.path(image.files[role].digest).read_bytes()


def silent(_):
    pass


def leftovers(store):
    """Return the files in the store that are not part of images."""
    return [path for folder in (store.work, store.downloads) if folder.exists() for path in folder.iterdir()]


def test_obtain_image_boots_as_any_cloud_image_does(store, publisher, qcow2):
    """The image equals the published file, boots with its own loader and looks for a NoCloud seed."""
    url = publisher.publish("/Jammy-server.amd64.qcow2", qcow2)
    image = published.obtain(store, Source(url, ARCH, sha256(qcow2)), silent)
    assert store.get("jammy-server-amd64", ARCH) == image
    assert content(store, image) == qcow2
    assert (image.kind, image.boot, image.first_boot, image.origin) == ("fetched", ("firmware",), ("nocloud",), url)
    assert image.made_of == {"disk": {"location": url, "digest": sha256(qcow2)}}
    assert leftovers(store) == []


def test_obtain_digest_is_of_the_file_as_published(store, publisher, qcow2):
    """Publishers sign the file that is downloaded, not its unpacked content."""
    packed = gzip.compress(qcow2)
    image = published.obtain(store, Source(publisher.publish("/a.qcow2.gz", packed), ARCH, sha256(packed)), silent)
    assert (image.name, content(store, image)) == ("a", qcow2)


def test_obtain_without_a_digest_says_so_and_which_it_has(store, publisher, qcow2, said):
    """A note says that the file has no digest, and which one to give next time."""
    url = publisher.publish("/a", qcow2)
    published.obtain(store, Source(url, ARCH), said.append)
    assert f"{url} has no digest; computed {sha256(qcow2)}" in said


def test_obtain_with_a_digest_says_nothing_of_it(store, publisher, qcow2, said):
    """A correct digest needs no note."""
    published.obtain(store, Source(publisher.publish("/a", qcow2), ARCH, sha256(qcow2)), said.append)
    assert not any("has no digest" in line for line in said)


def test_obtain_kernel_and_initrd_make_it_boot_directly_too(store, publisher, qcow2):
    """QEMU loads the kernel and initrd of the publisher; cloud-init takes the seed either way."""
    kernel = Kernel(publisher.publish("/vmlinuz", b"K"), sha256(b"K"), "root=LABEL=cloudimg-rootfs")
    initrd = Place(publisher.publish("/initrd", b"I"), sha256(b"I"))
    image = published.obtain(store, Source(publisher.publish("/a", qcow2), ARCH, sha256(qcow2), kernel, initrd), silent)
    assert (image.boot, image.first_boot) == (("kernel", "firmware"), ("nocloud", "nocloud"))
    assert image.kernel_arguments == "root=LABEL=cloudimg-rootfs"
    assert (content(store, image, "kernel"), content(store, image, "initrd")) == (b"K", b"I")
    assert image.made_of.keys() == {"disk", "kernel", "initrd"}


def test_obtain_second_time_asks_nobody(store, publisher, qcow2, said):
    """An image in the store is not fetched again: it is found by its digest or, without one, by its location."""
    url = publisher.publish("/a", qcow2)
    first = published.obtain(store, Source(url, ARCH, sha256(qcow2)), silent)
    publisher.asked.clear()
    for source in (Source("http://127.0.0.1:1/mirror", ARCH, sha256(qcow2)), Source(url, ARCH)):
        assert published.obtain(store, source, said.append) == first
    assert (said, publisher.asked) == ([], [])


def test_obtain_two_urls_with_one_last_part_are_two_images(store, publisher, qcow2, raw):
    """The last part of a URL does not identify an image."""
    sources = [
        Source(publisher.publish(f"/{release}/disk.qcow2", data), ARCH) for release, data in (("a", qcow2), ("b", raw))
    ]
    first, second = (published.obtain(store, source, silent) for source in sources)
    assert (first.name, second.name.rpartition("-")[0]) == ("disk", "disk")
    assert [find(store, source) for source in sources] == [first, second]


def test_obtain_same_disk_with_and_without_a_kernel_are_two_images(store, publisher, qcow2):
    """They boot in different ways, so they are kept as separate images."""
    url = publisher.publish("/a", qcow2)
    plain = Source(url, ARCH)
    direct = Source(url, ARCH, kernel=Kernel(publisher.publish("/k", b"K"), None, "ro"))
    other = Source(url, ARCH, kernel=Kernel(publisher.publish("/k", b"K"), None, "rw"))
    images = [published.obtain(store, source, silent) for source in (plain, direct, other)]
    assert [find(store, source) for source in (plain, direct, other)] == images
    assert len({image.name for image in images}) == 3


def test_obtain_newer_file_of_one_url_takes_the_olders_name(store, publisher, qcow2, raw):
    """A newer file of one URL replaces the older one, so old releases do not pile up."""
    old = published.obtain(store, Source(publisher.publish("/latest", raw), ARCH, sha256(raw)), silent)
    new = published.obtain(store, Source(publisher.publish("/latest", qcow2), ARCH, sha256(qcow2)), silent)
    assert (old.name, store.list(), new.made_of["disk"]["digest"]) == ("latest", (new,), sha256(qcow2))


@pytest.mark.parametrize("name", ["debian", "tiny"])
def test_obtain_never_takes_the_name_of_what_is_built(store, publisher, qcow2, name):
    """`build:debian` must not be answered with a downloaded file."""
    image = published.obtain(store, Source(publisher.publish(f"/{name}.qcow2", qcow2), ARCH), silent)
    assert image.name.startswith(f"{name}-")


def test_obtain_what_is_no_disk_leaves_nothing(store, publisher):
    """The download is not kept to be resumed."""
    with pytest.raises(ImageError, match="neither a qcow2 nor a raw"):
        published.obtain(store, Source(publisher.publish("/a", b"<html>", headers=TAG), ARCH), silent)
    assert (store.list(), leftovers(store)) == ((), [])


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (Source("http://x/a.ISO", ARCH, kernel=Kernel("http://x/k")), "image of a CD"),
        (Source("ftp://x/a", ARCH), "is neither a URL nor"),
        (Source("a.qcow2", ARCH), "is neither a URL nor"),
        (Source("http://x/a", ARCH, "md5:00"), "not a digest"),
        (Source("http://x/a", ARCH, "sha256:XYZ"), "not a digest"),
        (Source("http://x/a", ARCH, f"sha512:{'0' * 64}"), "not a digest"),
        (Source("http://x/a", ARCH, initrd=Place("http://x/i")), "without a kernel"),
    ],
)
def test_obtain_source_that_cannot_be_is_refused_at_once(store, source, what):
    """The error comes before anything is downloaded."""
    with pytest.raises(ImageError, match=what):
        published.obtain(store, source, silent)


# Files of this host.


@pytest.fixture
def local(tmp_path, qcow2):
    """Return a disk on this host, with a name that needs quoting."""
    (tmp_path / "my disk.qcow2").write_bytes(qcow2)
    return tmp_path / "my disk.qcow2"


@pytest.mark.parametrize("form", [str, lambda path: path.as_uri()], ids=["path", "url"])
def test_obtain_local_file_is_copied(store, local, qcow2, form):
    """The store has its own copy, so later changes of the source do not matter."""
    image = published.obtain(store, Source(form(local), ARCH), silent)
    local.write_bytes(b"changed")
    assert (image.name, content(store, image)) == ("my-disk", qcow2)


def test_obtain_large_local_file_says_how_far_it_is(store, local, said, monkeypatch):
    """Copying a large file reports its progress; a file of one chunk is done before there is progress to report."""
    monkeypatch.setattr(published, "_LARGE_BYTES", 1)
    monkeypatch.setattr(unpack, "_CHUNK_BYTES", local.stat().st_size // 10)
    published.obtain(store, Source(str(local), ARCH), said.append)
    assert [words.rpartition(": ")[2] for words in said if "%" in words] == ["20 %", "40 %", "60 %", "80 %", "100 %"]


def test_obtain_local_file_shares_its_blocks_where_it_can(store, local, qcow2, monkeypatch):
    """A cloned file is complete: nothing is written into it, and its digest is read from the source."""

    def clone(source, target):
        target.write_bytes(source.read())
        source.seek(0)
        return True

    monkeypatch.setattr(unpack, "clone", clone)
    monkeypatch.setattr(unpack, "_written", None)
    assert content(store, published.obtain(store, Source(str(local), ARCH), silent)) == qcow2


def test_obtain_local_file_unchanged_is_not_copied_again(store, local, said):
    """Size, time and inode show that the file is the same."""
    first = published.obtain(store, Source(str(local), ARCH), silent)
    assert published.obtain(store, Source(str(local), ARCH), said.append) == first
    assert said == []


def test_obtain_local_file_that_changed_is_copied_again(store, local, raw):
    """A local file that was rebuilt replaces the older image."""
    published.obtain(store, Source(str(local), ARCH), silent)
    local.write_bytes(raw)
    image = published.obtain(store, Source(str(local), ARCH), silent)
    assert (image.made_of["disk"]["digest"], store.list()) == (sha256(raw), (image,))


def test_obtain_local_file_that_is_gone_is_still_in_the_store(store, local):
    """An image in the store no longer needs its source."""
    first = published.obtain(store, Source(str(local), ARCH), silent)
    local.unlink()
    assert published.obtain(store, Source(str(local), ARCH), silent) == first


def test_obtain_local_file_of_another_digest_is_refused(store, local, qcow2):
    """The digest of a local file is checked, too."""
    with pytest.raises(ImageError, match="has another digest than expected") as caught:
        published.obtain(store, Source(str(local), ARCH, f"sha256:{'0' * 64}"), silent)
    assert caught.value.details[1] == f"found    {sha256(qcow2)}"


@pytest.mark.parametrize("kind", ["nothing", "folder", "fifo"])
def test_obtain_what_is_no_regular_file_is_refused(store, tmp_path, kind):
    """The error names the path, and a FIFO is not waited for."""
    path = tmp_path / "x.qcow2"
    {"nothing": lambda _: None, "folder": os.mkdir, "fifo": os.mkfifo}[kind](path)
    with pytest.raises(ImageError, match=str(path)):
        published.obtain(store, Source(str(path), ARCH), silent)


# Images with a name of their own.


def test_import_image_is_found_by_the_name_that_was_chosen(store, local, qcow2):
    """The image has the name that was given, by default that of its file."""
    image = published.import_(store, Source(str(local), ARCH), "mine", silent)
    assert (image.kind, store.get("mine", ARCH), content(store, image)) == ("imported", image, qcow2)
    assert published.import_(store, Source(str(local), ARCH), None, silent).name == "my-disk"


def test_import_same_file_again_is_no_conflict(store, local):
    """Importing the same file under the same name succeeds, from another path, too."""
    image = published.import_(store, Source(str(local), ARCH), "mine", silent)
    moved = local.rename(local.with_name("moved"))
    assert published.import_(store, Source(str(moved), ARCH), "mine", silent).files == image.files


@pytest.mark.parametrize("name", ["mine", "debian", "../x", "X"])
def test_import_name_that_it_cannot_have_is_refused(store, local, tmp_path, raw, name):
    """The name is that of another image, that of a built one, or invalid."""
    (tmp_path / "other").write_bytes(raw)
    published.import_(store, Source(str(tmp_path / "other"), ARCH), "mine", silent)
    with pytest.raises(ImageError):
        published.import_(store, Source(str(local), ARCH), name, silent)
    assert [image.name for image in store.list()] == ["mine"]


def test_obtain_does_not_replace_what_was_imported(store, local, raw):
    """An imported image keeps the name that its user chose."""
    mine = published.import_(store, Source(str(local), ARCH), "my-disk", silent)
    local.write_bytes(raw)
    fetched = published.obtain(store, Source(str(local), ARCH), silent)
    assert (store.get("my-disk", ARCH), fetched.name.startswith("my-disk-")) == (mine, True)


# Several processes.

FETCH = """
import sys
from pathlib import Path
from interlock.images import published
from interlock.images.source import Source
from interlock.images.store import Store

source = Source(sys.argv[2], "x86_64", sys.argv[3])
image = published.obtain(Store(Path(sys.argv[1])), source, lambda text: print(text, flush=True))
print("has", image.name)
"""


@pytest.fixture
def begin(store):
    """Return a function that starts a process that fetches; each one that still runs at the end is killed."""
    begun = []

    def popen(url, digest):
        command = [sys.executable, "-c", FETCH, store.directory, url, digest]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield popen
    for process in begun:
        process.kill()
        process.communicate()


def test_obtain_by_two_processes_downloads_once(store, publisher, qcow2, begin, until):
    """One process downloads the image; the other says that it waits, and uses the image."""
    url = publisher.publish("/a", qcow2, stalls=[1000])
    first = begin(url, sha256(qcow2))
    until(lambda: publisher.asked)
    second = begin(url, sha256(qcow2))
    assert second.stdout.readline() == f"waiting for another process to download {url}\n"
    publisher.go.set()
    assert first.communicate(timeout=60)[0].endswith("has a\n")
    assert second.communicate(timeout=60)[0] == "has a\n"
    assert len(publisher.asked) == 1
    assert leftovers(store) == []


def test_obtain_whose_mirror_was_quicker_leaves_nothing(store, publisher, qcow2, begin, until):
    """Two mirrors of one image are two downloads; the later one uses the image that is there, and leaves nothing."""
    slow = begin(publisher.publish("/slow", qcow2, stalls=[1000]), sha256(qcow2))
    until(lambda: publisher.asked)
    quick = published.obtain(store, Source(publisher.publish("/quick", qcow2), ARCH, sha256(qcow2)), silent)
    publisher.go.set()
    assert slow.communicate(timeout=60)[0].endswith("has quick\n")
    assert (store.list(), leftovers(store)) == ((quick,), [])


def test_obtain_while_another_downloads_something_else_does_not_wait(store, publisher, qcow2, raw, begin, until):
    """The store's lock is held for moments, not for a whole download."""
    begin(publisher.publish("/slow", raw, stalls=[1000]), sha256(raw))
    until(lambda: publisher.asked)
    said = []
    published.obtain(store, Source(publisher.publish("/a", qcow2), ARCH, sha256(qcow2)), said.append)
    assert not any("waiting" in line for line in said)


def test_obtain_after_a_kill_goes_on_where_it_was(store, publisher, qcow2, begin, until, said):
    """A process that is killed leaves a partial download and no lock: the next one requests the rest."""
    url = publisher.publish("/a", qcow2, headers=TAG, stalls=[300_000])
    victim = begin(url, sha256(qcow2))
    partial = Download.of(store, Place(url, sha256(qcow2)))
    until(lambda: partial.size_bytes > 200_000)
    victim.kill()
    assert victim.wait(60) == -signal.SIGKILL
    came = partial.size_bytes
    image = published.obtain(store, Source(url, ARCH, sha256(qcow2)), said.append)
    assert content(store, image) == qcow2
    assert publisher.asked[-1]["Range"] == f"bytes={came}-"
    assert not any("waiting" in line for line in said)
    assert leftovers(store) == []


def test_obtain_killed_between_download_and_image_downloads_nothing_again(store, publisher, qcow2, monkeypatch):
    """The download is kept until the image is in the store."""
    url = publisher.publish("/a", qcow2, headers=TAG)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image, "to_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            published.obtain(store, Source(url, ARCH, sha256(qcow2)), silent)
    assert store.list() == ()
    image = published.obtain(store, Source(url, ARCH, sha256(qcow2)), silent)
    assert content(store, image) == qcow2
    assert publisher.asked[-1]["Range"] == f"bytes={len(qcow2)}-"
