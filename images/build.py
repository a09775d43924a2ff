"""Builds Interlock's own images, on this host, from Debian's packages."""

from collections.abc import Callable
from datetime import UTC, datetime

from ..fsm.errors import ImageError
from . import debian, tiny
from .packages import ARCHES
from .store import Image, Report, Store, Writer

_BUILDERS: dict[str, Callable[[Writer, str, str, Report], Image]] = {"debian": debian.build, "tiny": tiny.build}

NAMES = tuple(_BUILDERS)
"""The images that can be built here."""


def build(store: Store, name: str, arch: str, report: Report, *, force: bool = False) -> Image:
    """Return the image `name` for `arch`, built now if the store has none, or if `force` asks for a fresh one.

    Of several processes that want it at once, one builds and the others wait for that. Whatever goes wrong, the store
    is as it was. Raises HostError naming what this host lacks, ImageError with the words of the program that failed.
    """
    if name not in _BUILDERS:
        raise ImageError(f"there is no recipe for an image {name!r}", hint=f"known: {', '.join(NAMES)}")
    if arch not in ARCHES:
        raise ImageError(f"{name} cannot be built for {arch!r}", hint=f"known: {', '.join(ARCHES)}")
    before = store.get(name, arch)
    if before and not force:
        return before
    with store.writing(report) as writer:
        there = store.get(name, arch)
        # One that was not there when we began is somebody's fresh build: that is what `force` asks for, too.
        if there and there != before:
            return there
        created_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _BUILDERS[name](writer, arch, created_at, report)
