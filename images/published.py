"""Other people's cloud images: a disk, and perhaps a kernel and an initrd, from URLs or from this host.

An image is found again by what it was made from: the publisher's digests, or else the locations. Its name is for
people: the location's last part and, where another image has that name, a suffix.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..host.files import link_or_copy
from ..host.locks import held
from ..host.progress import Pace, Report
from . import unpack
from .download import Download, download
from .source import BUILT_HERE, Place, Source
from .space import check_space, writing_in
from .store import NAME_LENGTH, Image, Kind, Store, Writer, tagged

_SUFFIXES = re.compile(r"(\.(qcow2|img|raw|iso|gz|bz2|xz|zst))+$", re.IGNORECASE)


def find(store: Store, source: Source) -> Image | None:
    """Return the image of `source`, if the store has it; no server is asked."""
    return next((image for image in store.list() if image.arch == source.arch and _is_of(image, source)), None)


def obtain(store: Store, source: Source, report: Report) -> Image:
    """Return the image at `source`, downloaded or copied now if the store does not have it.

    If several processes want it at once, one downloads it and the others wait. Raises ImageError with the cause; the
    store is then unchanged, except for a partial download. Raises HostError when this host lacks space.
    """
    return _obtain(store, source, report, kind="fetched", name=None)


def import_(store: Store, source: Source, name: str | None, report: Report) -> Image:
    """Return the image of the local file `source`, copied into the store under `name`, or the file's own.

    Raises ImageError when another image has the name.
    """
    return _obtain(store, source, report, kind="imported", name=name or _readable_name(source))


def _obtain(store: Store, source: Source, report: Report, *, kind: Kind, name: str | None) -> Image:
    source.check()
    if name:
        store.manifest(name, source.arch)  # refuses an impossible name
        if name in BUILT_HERE:
            raise ImageError(
                f"the name {name} is reserved for the image that Interlock builds; choose another with --name"
            )
    elif there := find(store, source):
        return there
    with ExitStack() as stack, writing_in(store.directory, f"obtaining {source.shown}"):
        downloads: dict[str, Download] = {}
        digests: dict[str, str] = {}
        for role, place in source.places.items():
            if place.path is None:
                one = downloads[role] = Download.of(store, place)
                stack.enter_context(
                    held(one.folder / "lock", f"waiting for another process to download {place.shown}", report)
                )
                # The other process may have finished it.
                if not name and (there := find(store, source)):
                    _remove(downloads)
                    return there
                digests[role] = download(place, one, report)
        with store.writing(report) as writer:
            # Another process may have obtained the image from a mirror in the meantime.
            there = None if name else find(store, source)
            try:
                image = there or _add(writer, source, downloads, digests, report, kind=kind, name=name)
            except ImageError:  # what cannot become an image is not worth resuming
                _remove(downloads)
                raise
        _remove(downloads)
    return image


def _remove(downloads: Mapping[str, Download]) -> None:
    for one in downloads.values():
        one.remove()


def _add(
    writer: Writer,
    source: Source,
    downloads: Mapping[str, Download],
    digests: dict[str, str],
    report: Report,
    *,
    kind: Kind,
    name: str | None,
) -> Image:
    """Put the downloaded files, and those on this host, into the store as one image."""
    made_of: dict[str, dict[str, str]] = {}
    files: dict[str, Path] = {}
    for role, place in source.places.items():
        if place.path is None:
            published = downloads[role].content
            made_of[role] = {"location": place.shown, "digest": digests[role]}
        else:
            published = writer.work / f"{role}.published"
            made_of[role] = {"location": place.shown, **_copied(place, place.path, published, report)}
        if not place.digest:
            report(f"{place.shown} has no digest; computed {made_of[role]['digest']}")
        files[role] = writer.work / role
        if role in ("disk", "cd"):
            (unpack.cd if role == "cd" else unpack.disk)(published, files[role], place.shown, report)
        else:
            link_or_copy(published, files[role])
    return writer.add(
        Image(
            name=_free_name(writer.store, source, made_of, kind, name),
            arch=source.arch,
            kind=kind,
            origin=source.shown,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            boot=("kernel", "firmware") if source.kernel else ("firmware",),
            first_boot=("nocloud", "nocloud") if source.kernel else ("nocloud",),
            kernel_arguments=source.kernel_arguments,
            made_of=made_of,
        ),
        files,
    )


_LARGE_BYTES = 256 << 20
_FIFTHS = 5
"""Progress of a copy is reported from this size on, in this many steps."""


def _copied(place: Place, path: Path, target: Path, report: Report) -> dict[str, str]:
    """Return {digest, version} of the local file `path`, once `target` is a copy of it.

    It is a copy, not a link: the store's file must never change, and the owner of `path` may write to it.
    """
    algorithm = (place.digest or "sha256").partition(":")[0]
    hasher = hashlib.new(algorithm)
    try:
        if not path.is_file():
            raise ImageError(f"{path} is not a file" if path.exists() else f"there is no file {path}")
        version = _version(path)
        check_space(target.parent, path.stat().st_blocks * 512, f"copying {path}")
        report(f"copying {path}")
        size, done, pace = path.stat().st_size, 0, Pace()
        for chunk in unpack.copy(path, target):
            hasher.update(chunk)
            before, done = done, done + len(chunk)
            if (part := _FIFTHS * done // size) > _FIFTHS * before // size and size >= _LARGE_BYTES:
                report(f"copying {path}: {100 * part // _FIFTHS} %{pace.left(done, size)}")
    except OSError as err:
        if err.filename != str(path):
            raise
        raise ImageError(f"cannot read {path}: {err.strerror}") from err
    digest = f"{algorithm}:{hasher.hexdigest()}"
    if place.digest not in (None, digest):
        raise ImageError(
            f"{path} has another digest than expected", details=(f"expected {place.digest}", f"found    {digest}")
        )
    return {"digest": digest, "version": version}


def _version(path: Path) -> str:
    """Return a text that changes whenever the content of `path` does, without reading the file."""
    seen = path.stat()
    return f"{seen.st_size}-{seen.st_mtime_ns}-{seen.st_ino}"


def _is_of(image: Image, source: Source) -> bool:
    if image.kind == "built" or image.kernel_arguments != source.kernel_arguments:
        return False
    places = source.places
    return image.made_of.keys() == places.keys() and all(
        _is_from(image.made_of[role], place) for role, place in places.items()
    )


def _is_from(made_of: Mapping[str, Any], place: Place) -> bool:
    if place.digest:
        return bool(made_of["digest"] == place.digest)
    if made_of["location"] != place.shown:
        return False
    try:
        return place.path is None or made_of["version"] == _version(place.path)
    except OSError:
        return True  # the file is gone, but its image is here


def _free_name(store: Store, source: Source, made_of: Mapping[str, Any], kind: Kind, chosen: str | None) -> str:
    """Return a free name for the image. The name of the same image, or of an older version of it, counts as free."""
    name = chosen or _readable_name(source)
    there = store.get(name, source.arch)
    free = there is None or (there.kind in (kind, "fetched") and _is_older(there, source, made_of))
    if free and name not in BUILT_HERE:
        return name
    if there and chosen:
        raise ImageError(
            f"there is another image {name} for {source.arch} ({there.origin}); choose another name with --name",
            hint="interlock image list",
        )
    whole = (sorted(made_of.items()), source.kernel_arguments)
    return tagged(name, whole)


def _is_older(there: Image, source: Source, made_of: Mapping[str, Any]) -> bool:
    """True when `there` is the same image, or an older one from the same locations."""
    if there.kernel_arguments != source.kernel_arguments or there.made_of.keys() != made_of.keys():
        return False
    return any(
        all(there.made_of[role][key] == file[key] for role, file in made_of.items()) for key in ("location", "digest")
    )


def _readable_name(source: Source) -> str:
    stem = _SUFFIXES.sub("", Place(source.location).file_name.lower())
    return re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:NAME_LENGTH] or "image"
