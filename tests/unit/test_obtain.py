"""An image is fetched from the first place that has it; when no place has it, the error names every cause."""

import platform

import pytest

from interlock.errors import HostError, ImageError
from interlock.images import download, published
from interlock.images.builders.recipe import Recipe
from interlock.images.obtain import obtain
from interlock.images.source import Source
from interlock.images.store import Store

ARCH = "x86_64"


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Retry no download."""
    monkeypatch.setattr(download, "PAUSES_S", ())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "images")


@pytest.fixture
def said():
    return []


def test_obtain_first_place_that_has_it_is_used(store, publisher, qcow2, said):
    """Places are mirrors: if one fails, the next is tried, and a note says why."""
    missing = f"{publisher.url}/missing"
    nobody = "http://127.0.0.1:1/a"
    good = publisher.publish("/a", qcow2)
    unasked = publisher.publish("/b", qcow2)
    image = obtain(store, [Source(url, ARCH) for url in (missing, nobody, good, unasked)], said.append)
    assert image.origin == good
    assert f"{missing}: cannot download {missing}; trying {nobody}" in said
    assert f"{nobody}: cannot download {nobody}; trying {good}" in said
    assert "/b" not in [request["path"] for request in publisher.asked]


def test_obtain_what_the_store_has_asks_nobody(store, publisher, qcow2, said):
    """An image in the store is used without a network, whichever place it came from."""
    first = published.obtain(store, Source(publisher.publish("/a", qcow2), ARCH), print)
    publisher.asked.clear()
    assert obtain(store, [Source(f"{publisher.url}/missing", ARCH), Source(first.origin, ARCH)], said.append) == first
    assert (publisher.asked, said) == ([], [])


def test_obtain_from_nowhere_lists_every_place_with_its_cause(store, publisher):
    """The error names the cause for each mirror, so nobody has to try again to learn the next one."""
    sources = [Source(f"{publisher.url}/missing", ARCH), Source("/no/such/file", ARCH), Source("build:other", ARCH)]
    with pytest.raises(ImageError, match="none of the 3 sources") as caught:
        obtain(store, sources, lambda _: None)
    assert caught.value.details == (
        f"{publisher.url}/missing: cannot download {publisher.url}/missing",
        "    the server answered 404 Not Found",
        "/no/such/file: there is no file /no/such/file",
        "build:other: the store has no image 'other', and there is no recipe for it; recipes: debian, tiny",
    )


def test_obtain_place_that_cannot_be_does_not_hide_the_next(store, publisher, qcow2):
    """A mistake in one line of a list is reported, and the image is still fetched."""
    sources = [Source("build:../x", ARCH), Source("nowhere", ARCH), Source(publisher.publish("/a", qcow2), ARCH)]
    assert obtain(store, sources, print).name == "a"
    with pytest.raises(ImageError):
        obtain(store, sources[:1], print)


def test_obtain_from_one_place_fails_with_its_own_error(store):
    """With a single place, the error is that of the place."""
    with pytest.raises(ImageError, match="there is no file /no/such/file"):
        obtain(store, [Source("/no/such/file", ARCH)], lambda _: None)


def test_obtain_from_no_place_at_all_is_refused(store):
    """An empty list of places is an error."""
    with pytest.raises(ImageError, match="no source"):
        obtain(store, [], lambda _: None)


def test_obtain_image_that_this_host_cannot_build_is_had_elsewhere(store, publisher, qcow2, said):
    """A host that cannot build an image, of another architecture for example, fetches it instead."""
    foreign = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    sources = [Source("build:debian", foreign), Source(publisher.publish("/a", qcow2), foreign)]
    assert obtain(store, sources, said.append).kind == "fetched"
    with pytest.raises(HostError):
        obtain(store, sources[:1], said.append)


def test_obtain_built_name_finds_what_was_built_or_imported_and_nothing_fetched(store, publisher, qcow2, tmp_path):
    """A fetched image is named after its file by chance; built and imported images have names that people chose."""
    with store.writing() as writer:
        (writer.work / "kernel").write_bytes(b"K")
        recipe = Recipe("debian", ARCH, packages=("nginx",))
        built = recipe.image("web", boot=("kernel",), first_boot=("overlay",), kernel_arguments="")
        built = writer.add(built, {"kernel": writer.work / "kernel"})
    (tmp_path / "disk").write_bytes(qcow2)
    imported = published.import_(store, Source(str(tmp_path / "disk"), ARCH), "mine", print)
    published.obtain(store, Source(publisher.publish("/other", qcow2), ARCH), print)
    assert obtain(store, [Source("build:web", ARCH)], print) == built
    assert obtain(store, [Source("build:mine", ARCH)], print) == imported
    with pytest.raises(ImageError, match="no image 'other'"):
        obtain(store, [Source("build:other", ARCH)], print)
