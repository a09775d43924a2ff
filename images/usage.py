"""Which instances use which image, and the removal of unused images.

An instance's files are hard links to the store's, made at creation. So the kernel knows which instance uses what: two
names of one file have one inode, and no record can be wrong. A copy, made where no link was possible, does not count:
it does not depend on the store.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

from ..drivers.contract import BASE, CD, KERNEL, WARM
from ..errors import ImageError
from ..host.files import remove_tree
from ..host.home import Home
from ..host.locks import held
from ..host.progress import Report, unheard
from ..host.unneeded import Unneeded, bytes_in
from . import warm
from .download import Download
from .store import Image, Store, Writer
from .warm import WarmImage

_MARKS = (BASE, CD, KERNEL)
"""The names of an instance's link to `Image.mark`: the first of these that it has."""

KINDS = ("image", "warm", "download", "leftover")
"""The kinds of unneeded things that are found here."""

Users = Mapping[tuple[str, str], tuple[str, ...]]
"""(name, architecture) of an image → the names of the instances that use it, sorted."""


def users(store: Store, home: Home) -> Users:
    """Return the users of every image in the store; two images with the same disk have the same users.

    An instance that is being created counts as soon as it has its link (`claim`).
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


def users_of_warm(home: Home, image: WarmImage) -> tuple[str, ...]:
    """Return the names of the instances that hold the warm image, sorted: they began from it, or are going to."""
    inode = _inode(image.folder / warm.RECORD)
    using = (it.name for it in _instances(home) if inode and _inode(it / WARM / warm.RECORD) == inode)
    return tuple(sorted(using))


def delete_warm(store: Store, name: str, arch: str) -> int:
    """Remove the warm images of the image called `name`; return how many. Instances keep their links to them."""
    if not store.warm.is_dir():
        return 0
    with store.writing() as writer:
        return _remove_warm(writer, name, arch)


def _remove_warm(writer: Writer, name: str, arch: str) -> int:
    found = list(warm.warm_images(writer.store, name, arch))
    for one in found:
        warm.remove(writer, one.folder)
    return len(found)


def claim(store: Store, image: Image, directory: Path) -> None:
    """Make the instance that is being created in `directory` count as a user of `image` from now on.

    Raises FileNotFoundError when the image has just been removed. If no link can be made, the instance will have a
    copy, and does not count.
    """
    name = next(name for name, role in zip(_MARKS, ("disk", "cd", "kernel"), strict=True) if role in image.files)
    link = directory / name
    remove_tree(link)
    try:
        os.link(store.path(image.mark.digest), link)
    except FileNotFoundError:
        raise
    except OSError:
        return


def delete(store: Store, home: Home, name: str, arch: str, *, force: bool = False, dry_run: bool = False) -> bool:
    """Remove the image and its warm images; False if there is no such image.

    Raises ImageError naming the instances that use it. `force` removes it all the same; their links keep the files.
    With `dry_run` nothing is touched.
    """
    if not store.manifest(name, arch).exists():
        return False
    with nullcontext() if dry_run else store.writing() as writer:
        using = users(store, home).get((name, arch), ())
        if using and not force:
            raise ImageError(
                f"image {name} for {arch} is used by {', '.join(using)}",
                hint=f"interlock image delete {name} --arch {arch} --force",
            )
        if writer is None:
            return True
        _remove_warm(writer, name, arch)
        return writer.delete(name, arch)


def unneeded(store: Store, home: Home) -> Iterator[Unneeded]:
    """Yield images and warm images that no instance uses, downloads that no process works on, and leftovers.

    A yielded download stays locked until the next item is asked for.
    """
    if not store.directory.is_dir():
        return
    used, images = users(store, home), store.list()
    idle = [image for image in images if not used.get((image.name, image.arch))]
    kept = {blob for image in images if image not in idle for blob in image.files.values()}
    for image in idle:
        # A blob that has another hard link stays on the disk after the store's own link is removed.
        freed = {blob for blob in image.files.values() if _links(store.path(blob.digest)) == 1} - kept
        kept |= freed
        yield Unneeded("image", image.name, sum(blob.size_bytes for blob in freed), image.arch)
    for form in warm.warm_images(store):
        if not users_of_warm(home, form):
            yield Unneeded("warm", form.folder.name, form.size_bytes, form.arch, path=form.folder)
    for download in _resting(store):
        yield Unneeded("download", download.location, download.size_bytes, path=download.folder)
    with suppress(BlockingIOError), held(store.directory / "lock", None):
        for path in store.leftovers():
            yield Unneeded("leftover", str(path), bytes_in(path), path=path)


def prune(store: Store, home: Home, chosen: Iterable[Unneeded], report: Report = unheard) -> list[Unneeded]:
    """Remove those of `chosen` that are still unneeded, and return them."""
    wanted = {one.key: one for one in chosen}
    if not wanted or not store.directory.is_dir():
        return []
    with store.writing(report) as writer:  # this sweeps the leftovers
        gone = [one for one in wanted.values() if one.kind == "leftover"]
        for one in unneeded(store, home):
            if one.key not in wanted:
                continue
            if one.kind == "image":
                writer.delete(one.name, str(one.arch))
                gone.append(one)
            elif one.path and one.kind == "warm":
                warm.remove(writer, one.path)
                gone.append(one)
            elif one.path and one.kind == "download":
                Download(one.path).remove()
                gone.append(one)
        return gone


def _resting(store: Store) -> Iterator[Download]:
    """Yield the downloads that no process works on, each with its lock held until the next is asked for."""
    for folder in sorted(store.downloads.glob("*/")):
        with suppress(BlockingIOError), held(folder / "lock", None):
            yield Download(folder)


def _instances(home: Home) -> Iterator[Path]:
    yield from map(home.directory, home.names())
    with suppress(OSError):
        yield from (home.instances / ".creating").iterdir()


def _mark(directory: Path) -> tuple[int, int] | None:
    return next((inode for name in _MARKS if (inode := _inode(directory / name))), None)


def _links(path: Path) -> int:
    """Return how many names the file has; 0 when it is gone."""
    try:
        return path.lstat().st_nlink
    except OSError:
        return 0


def _inode(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if there is no file, or a damaged instance prevents a look."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
