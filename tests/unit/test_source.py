"""A source says where an image comes from, and does not reveal passwords."""

from pathlib import Path

import pytest

from interlock.errors import ImageError
from interlock.images.source import Kernel, Place, Source


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/a b", Path("/a b")),
        ("file:///a%20b", Path("/a b")),
        ("file:/a", Path("/a")),
        ("http://x/a", None),
        ("https://x/a", None),
    ],
)
def test_place_is_on_this_host_or_elsewhere(location, path):
    """A path and a file URL need no network."""
    assert Place(location).path == path


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://anna:secret@x:8443/a?b", "https://x:8443/a?b"),
        ("https://x/a@b", "https://x/a@b"),
        ("/a@b", "/a@b"),
        ("https://x/a%2Fb", "https://x/a%2Fb"),
    ],
)
def test_place_shows_no_password(location, shown):
    """Messages, manifests and listings may be read by people who must not know the password."""
    assert Place(location).shown == shown


@pytest.mark.parametrize(
    ("location", "name"), [("https://x/a/b%20c.img?d/e", "b c.img"), ("/a/b?c.img", "b?c.img"), ("https://x/", "")]
)
def test_place_file_name_is_the_last_part(location, name):
    """The query of a URL is not part of the name."""
    assert Place(location).file_name == name


def test_source_that_is_built_has_a_name_and_no_files():
    """There is nothing to download."""
    source = Source("build:debian-nginx", "x86_64")
    assert (source.build, source.places) == ("debian-nginx", {})
    source.check()


def test_source_of_files_names_each_by_its_role():
    """The roles are those of the image's files."""
    kernel = Kernel("http://x/k", None, "ro")
    source = Source("http://x/d", "x86_64", None, kernel, Place("http://x/i"))
    assert (source.build, source.kernel_arguments) == (None, "ro")
    assert source.places == {"disk": Place("http://x/d"), "kernel": kernel, "initrd": Place("http://x/i")}


@pytest.mark.parametrize("more", [{"digest": f"sha256:{'0' * 64}"}, {"kernel": Kernel("/k")}, {"initrd": Place("/i")}])
def test_source_that_is_built_can_have_nothing_more(more):
    """An image that is built here has no published digest, kernel or initrd."""
    with pytest.raises(ImageError, match="is built here"):
        Source("build:debian", "x86_64", **more).check()
