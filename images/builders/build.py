"""Builds Interlock's own images, on this host, from Debian's packages."""

from collections.abc import Callable

from ...errors import ImageError
from ...host.progress import Report
from ..source import BUILT_HERE
from ..store import Image, Store, Writer
from . import debian, tiny
from .recipe import Recipe

_BUILDERS: dict[str, Callable[[Writer, Recipe, str, Report], Image]] = {"debian": debian.build, "tiny": tiny.build}


def build(store: Store, recipe: Recipe, report: Report, *, name: str | None = None, force: bool = False) -> Image:
    """Return the image of `recipe`, built now if the store has none, or if `force` asks for a fresh one.

    It is called `name`, by default as the recipe says. If several processes want it at once, one builds and the others
    wait. If anything fails, the store is unchanged. Raises HostError naming what this host lacks, ImageError if another
    image has that name, or with the output of the program that failed.
    """
    recipe.check()
    name = name or recipe.default_name
    if name in BUILT_HERE and not (recipe.is_plain and name == recipe.name):
        raise ImageError(f"the name {name} is reserved for the plain image {name}; choose another with --as")
    before = store.get(name, recipe.arch)
    if before and not force:
        return _same(before, recipe)
    with store.writing(report) as writer:
        there = store.get(name, recipe.arch)
        # An image that appeared in the meantime is a fresh build, which is what `force` asks for, too.
        if there and there != before:
            return _same(there, recipe)
        return _BUILDERS[recipe.name](writer, recipe, name, report)


def _same(image: Image, recipe: Recipe) -> Image:
    """Return `image`; raise ImageError when it is not what `recipe` would make."""
    if image.kind == "built" and image.made_of == recipe.to_json():
        return image
    raise ImageError(
        f"there is another image {image.name} for {image.arch} ({image.origin}): choose another name with --as, "
        "or replace it with --force",
        hint="interlock image list",
    )
