"""The images of a home, as programs and commands use them: `Interlock.images`."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import NotFoundError
from ..host.home import Home
from ..host.progress import Report, unheard
from . import obtain, published, usage
from .source import BUILT_HERE, Source
from .store import Image, Store
from .usage import Users
from .warm import warm_images


class Images:
    """The images that instances are created from. Instances hold the files they need: nothing done here harms them.

    Each image has a name and an architecture, by default this host's. `report` is called with the steps of long work.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._store = Store(home.images)

    def list(self) -> tuple[Image, ...]:
        """Return every image, by name and architecture."""
        return self._store.list()

    def get(self, name: str, arch: str | None = None) -> Image:
        """Return the image called `name`; raises NotFoundError when there is none."""
        arch = arch or platform.machine()
        if image := self._store.get(name, arch):
            return image
        raise _not_found(name, arch)

    def users(self) -> Users:
        """Return who uses which image: (name, architecture) → names of instances."""
        return usage.users(self._store, self._home)

    def obtain(self, *sources: Source, report: Report = unheard) -> Image:
        """Return the image of the first of `sources` that has it: mirrors of each other, tried in order.

        An image in the store is used; one that it lacks is built, downloaded or copied. Raises ImageError with each
        cause.
        """
        return obtain.obtain(self._store, sources, report)

    def build(
        self,
        recipe: str,
        *,
        arch: str | None = None,
        suite: str | None = None,
        packages: Sequence[str] = (),
        script: bytes | None = None,
        name: str | None = None,
        force: bool = False,
        report: Report = unheard,
    ) -> Image:
        """Return the image that `recipe`, `debian` or `tiny`, makes; built now if it does not exist, or with `force`.

        `packages` and `script` (run by root in the new system) go into an image of another name: `name`, or a name made
        from the differences. Raises HostError for what this host lacks, ImageError with the output of a program that
        failed.
        """
        from .builders.build import build  # slow to import
        from .builders.packages import RELEASE
        from .builders.recipe import Recipe

        order = Recipe(recipe, arch or platform.machine(), suite or RELEASE, tuple(packages), script)
        return build(self._store, order, report, name=name, force=force)

    def import_(
        self, file: Path, *, name: str | None = None, arch: str | None = None, report: Report = unheard
    ) -> Image:
        """Return the image of the disk in the local `file`, copied into the store under `name`, or the file's own.

        Qcow2 or raw, also compressed. Raises ImageError for another kind of file, or when an image has the name.
        """
        source = Source(str(file.absolute()), arch or platform.machine())
        return published.import_(self._store, source, name, report)

    def warm(self, image: Image) -> Sequence[Mapping[str, Any]]:
        """Return the documented JSON form of each warm image of `image`, with the instances that hold it."""
        return [
            {**form.to_json(), "instances": list(usage.users_of_warm(self._home, form))}
            for form in warm_images(self._store, image.name, image.arch)
        ]

    def delete_warm(self, name: str, arch: str | None = None) -> int:
        """Remove the warm images of the image called `name`; return how many. Instances keep their links to them."""
        return usage.delete_warm(self._store, name, arch or platform.machine())

    def delete(self, name: str, arch: str | None = None, *, force: bool = False, dry_run: bool = False) -> None:
        """Remove the image called `name`; raises NotFoundError, and ImageError when instances use it.

        `force` removes it all the same: the instances keep what they need. With `dry_run` nothing is removed, but the
        same errors are raised.
        """
        arch = arch or platform.machine()
        if not usage.delete(self._store, self._home, name, arch, force=force, dry_run=dry_run):
            raise _not_found(name, arch)


def _not_found(name: str, arch: str) -> NotFoundError:
    known = f"interlock image build {name} --arch {arch}" if name in BUILT_HERE else "interlock image list"
    return NotFoundError(f'there is no image "{name}" for {arch}', hint=known)
