"""Each variant of a recipe has its own name, plain names stay reserved, and impossible recipes are refused."""

import hashlib
import re

import pytest

from interlock.errors import ImageError
from interlock.images.builders.build import build
from interlock.images.builders.recipe import Recipe
from interlock.images.store import Store

ARCH = "x86_64"
SCRIPT = b"echo"
TAG = hashlib.sha256(SCRIPT).hexdigest()[:8]


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe("debian", ARCH), "debian"),
        (Recipe("tiny", ARCH, "trixie"), "tiny-trixie"),
        (Recipe("debian", ARCH, packages=("nginx", "g++")), "debian-nginx-g--"),
        (Recipe("debian", ARCH, script=SCRIPT), f"debian-{TAG}"),
        (Recipe("debian", ARCH, "trixie", ("nginx",), SCRIPT), f"debian-trixie-nginx-{TAG}"),
    ],
)
def test_recipe_name_is_made_of_what_differs(recipe, name):
    """The list of images shows what is in each."""
    assert recipe.default_name == name
    assert recipe.is_plain is (name == recipe.name)


def test_recipe_name_of_much_is_as_long_as_a_name_may_be():
    """A long list of packages has a name too, and it differs from that of another list that begins the same way."""
    many = tuple(f"package-{number}" for number in range(20))
    names = {Recipe("debian", ARCH, packages=packages).default_name for packages in (many, many[:-1])}
    assert len(names) == 2
    assert all(re.fullmatch(r"[a-z0-9-]{63}", name) for name in names)


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (Recipe("fedora", ARCH), "no recipe"),
        (Recipe("debian", "vax"), "cannot be built for 'vax'"),
        (Recipe("debian", ARCH, "../x"), "not the name of a release"),
        (Recipe("debian", ARCH, packages=("nginx,--x",)), "not the name of a Debian package"),
        (Recipe("tiny", ARCH, packages=("nginx",)), "takes no packages"),
        (Recipe("tiny", ARCH, script=b""), "no script"),
    ],
)
def test_build_of_what_cannot_be_built_is_refused_at_once(tmp_path, recipe, what):
    """The error comes before anything is downloaded, and nothing is created."""
    with pytest.raises(ImageError, match=what):
        build(Store(tmp_path / "images"), recipe, print)
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("name", ["debian", "tiny"])
def test_build_of_a_variant_cannot_have_a_plain_name(tmp_path, name):
    """The name `debian` means the same image for everyone."""
    with pytest.raises(ImageError, match="is reserved for the plain image"):
        build(Store(tmp_path / "images"), Recipe("debian", ARCH, "trixie"), print, name=name)


@pytest.fixture
def store(tmp_path):
    """Return a store that has the image `web`, built of nginx."""
    store = Store(tmp_path / "images")
    with store.writing() as writer:
        (writer.work / "kernel").write_bytes(b"K")
        image = WEB.image("web", boot=("kernel",), first_boot=("overlay",), kernel_arguments="")
        writer.add(image, {"kernel": writer.work / "kernel"})
    return store


WEB = Recipe("debian", ARCH, packages=("nginx",), script=SCRIPT)


def test_build_of_what_is_there_is_that(store):
    """If the image with that name has the same recipe, nothing is built."""
    assert build(store, WEB, print, name="web") == store.get("web", ARCH)


@pytest.mark.parametrize(
    "other",
    [
        Recipe("debian", ARCH),
        Recipe("debian", ARCH, "trixie", ("nginx",), SCRIPT),
        Recipe("debian", ARCH, packages=("nginx",), script=b"other"),
    ],
)
def test_build_of_something_else_under_a_name_that_is_taken_is_refused(store, other):
    """Nobody gets an image other than the one requested, and no image is silently replaced."""
    with pytest.raises(ImageError, match="there is another image web") as caught:
        build(store, other, print, name="web")
    assert "--as" in caught.value.message


def test_recipe_manifest_says_what_the_image_was_built_from(store):
    """The manifest has the release, the requested packages and the digest of the script."""
    assert store.get("web", ARCH).made_of == {
        "recipe": "debian",
        "suite": "bookworm",
        "packages": ["nginx"],
        "script": f"sha256:{hashlib.sha256(SCRIPT).hexdigest()}",
    }
