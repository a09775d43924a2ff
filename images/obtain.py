"""Makes an image available, from the first source that has it."""

from collections.abc import Sequence
from contextlib import suppress

from ..errors import DriverError, HostError, ImageError
from ..host.progress import Report
from . import published
from .source import Source
from .store import Image, Store


def obtain(store: Store, sources: Sequence[Source], report: Report) -> Image:
    """Return the image from the first of `sources` that has it: mirrors of each other, tried in order.

    If the store has the image already, no server is asked. `report` gets the reason why a source failed. Raises the
    error of the only source, or an ImageError that lists each source with its cause.
    """
    if there := stored(store, sources):
        return there
    failures: list[tuple[Source, DriverError]] = []
    for source in sources:
        if failures:
            report(f"{failures[-1][0].shown}: {failures[-1][1].message}; trying {source.shown}")
        try:
            return _obtain(store, source, report)
        except (ImageError, HostError) as error:
            failures.append((source, error))
    if len(failures) == 1:
        raise failures[0][1]
    raise ImageError(
        f"none of the {len(failures)} sources has the image" if failures else "no source of the image is given",
        details=[line for source, error in failures for line in _lines(source, error)],
    )


def stored(store: Store, sources: Sequence[Source]) -> Image | None:
    """Return the image of the first of `sources` that the store has; None if it has to be obtained."""
    for source in sources:
        with suppress(ImageError):  # an impossible source, which `obtain` reports
            if there := _in_store(store, source):
                return there
    return None


def _in_store(store: Store, source: Source) -> Image | None:
    if source.build is None:
        return published.find(store, source)
    image = store.get(source.build, source.arch)
    # A downloaded image has this name by chance, not because someone chose it.
    return image if image and image.kind != "fetched" else None


def _obtain(store: Store, source: Source, report: Report) -> Image:
    if source.build is None:
        return published.obtain(store, source, report)
    source.check()
    from .builders.build import build  # the builders are slow to import and rarely needed
    from .builders.recipe import Recipe

    return build(store, Recipe(source.build, source.arch), report)


def _lines(source: Source, error: DriverError) -> list[str]:
    return [f"{source.shown}: {error.message}", *(f"    {line}" for line in error.details)]
