"""Which instances use which image, and the removal of unused images.

An instance's files are hard links to the store's (made at creation), so the kernel knows: two names of one file have
one inode, and no record can be wrong. A copy, made where no link was possible, does not count: it does not depend on
the store.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..drivers.contract import BASE, KERNEL
from ..errors import ImageError
from ..host.home import Home
from ..host.locks import held
from ..host.progress import Report, unheard
from .download import Download
from .store import Image, Store

_MARKS = (BASE, KERNEL)
"""What an instance calls its link to `Image.mark`: the first of these that it has."""

Users = Mapping[tuple[str, str], tuple[str, ...]]
"""(name, architecture) of an image → the names of the instances that use it, sorted."""


def users(store: Store, home: Home) -> Users:
    """Return the users of every image in the store; of two images with one and the same disk, both have all.

    An instance that is being created counts as soon as it has its link.
    """
    marks: dict[tuple[int, int], list[str]] = {}
    for directory in _instances(home):
        if inode := _mark(directory):
            marks.setdefault(inode, []).append(directory.name)
    return {
        (image.name, image.arch): tuple(sorted(marks.get(inode, ())))
        for image in store.list()
        if (inode := _inode(store.path(image.mark.digest)))
    }


def delete(store: Store, home: Home, name: str, arch: str, *, force: bool = False) -> bool:
    """Remove the image; False when there is no such image. Raises ImageError naming the instances that use it.

    `force` removes it all the same; their links keep the files.
    """
    if not store.manifest(name, arch).exists():
        return False
    with store.writing() as writer:
        using = users(store, home).get((name, arch), ())
        if using and not force:
            raise ImageError(
                f"image {name} for {arch} is used by {', '.join(using)}",
                hint=f"interlock image delete {name} --arch {arch} --force",
            )
        return writer.delete(name, arch)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed because nothing uses it, or would have been."""

    images: tuple[Image, ...]
    downloads: Mapping[str, int] = field(default_factory=dict)
    """Location → bytes that were here."""
    freed_bytes: int = 0
    """Less than the sum of the images where they share files with each other or with what stays."""


def prune(store: Store, home: Home, report: Report = unheard, *, dry_run: bool = False) -> Pruned:
    """Remove the images that no instance uses, and downloads that no process is working on.

    With `dry_run`, say what that would be and change nothing.
    """
    if not store.directory.is_dir():
        return Pruned(())
    if dry_run:
        return _unused(store, home)
    with store.writing(report) as writer:
        found = _unused(store, home)
        for image in found.images:
            writer.delete(image.name, image.arch)
        for download in _resting(store):
            download.remove()
    return found


def _unused(store: Store, home: Home) -> Pruned:
    used = users(store, home)
    images = tuple(image for image in store.list() if not used.get((image.name, image.arch)))
    kept = {blob for image in store.list() if image not in images for blob in image.files.values()}
    gone = {blob for image in images for blob in image.files.values()} - kept
    # A blob that has another name still lies on the disk when the store's name for it is gone.
    freed = sum(blob.size_bytes for blob in gone if store.path(blob.digest).stat().st_nlink == 1)
    downloads = {download.location: download.size_bytes for download in _resting(store)}
    return Pruned(images, downloads, freed + sum(downloads.values()))


def _resting(store: Store) -> Iterator[Download]:
    """Yield the downloads that no process is at, each with its lock held until the next is asked for."""
    for folder in sorted(store.downloads.glob("*/")):
        with suppress(BlockingIOError), held(folder / "lock", None):
            yield Download(folder)


def _instances(home: Home) -> Iterator[Path]:
    yield from map(home.directory, home.names())
    with suppress(OSError):
        yield from (home.instances / ".creating").iterdir()


def _mark(directory: Path) -> tuple[int, int] | None:
    return next((inode for name in _MARKS if (inode := _inode(directory / name))), None)


def _inode(path: Path) -> tuple[int, int] | None:
    """Return what the kernel knows a file by; None when there is none, or a damaged instance lets nobody look."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
