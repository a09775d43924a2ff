"""Brings other people's cloud images: a qcow2 file at a URL, whose publisher says what its digest is."""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..fsm.errors import ImageError
from .store import Image, Report, Store

_CHUNK_BYTES = 2**20
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)")
_QCOW2 = b"QFI\xfb"
"""The first bytes of the format. Source: QEMU, docs/interop/qcow2.txt."""


def fetch(  # noqa: PLR0917 - what it is, where it is, and how to know it: each belongs to one download
    store: Store, name: str, arch: str, url: str, digest: str | None, report: Report
) -> Image:
    """Return the image of what lies at `url` (http, https or file), downloaded now if the store has none of that name.

    `digest` is the publisher's, `sha256:...` or `sha512:...`, and what does not have it is not kept. Raises ImageError
    with the cause; the store is then as it was.
    """
    if there := store.get(name, arch):
        return there
    with store.writing(report) as writer:
        # Another process may have brought it while we waited to write.
        if there := store.get(name, arch):
            return there
        disk = writer.work / "disk"
        report(f"downloading {url}")
        _save(url, disk, digest, report)
        image = Image(
            name=name,
            arch=arch,
            origin=url,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            boot=("firmware",),
            first_boot=("nocloud",),
        )
        return writer.add(image, {"disk": disk})


def _save(url: str, target: Path, digest: str | None, report: Report) -> None:
    """Write what lies at `url` to `target`, and raise ImageError unless it is whole, is a qcow2 and has `digest`."""
    match = _DIGEST.fullmatch(digest) if digest else None
    if digest and not match:
        raise ImageError(f"{digest!r} is not a digest", hint="write sha256: or sha512: and small hexadecimal digits")
    hasher = hashlib.new(match[1] if match else "sha256")
    head = b""
    with target.open("wb") as file:
        for chunk in _chunks(url, report):
            head = head or chunk[: len(_QCOW2)]
            hasher.update(chunk)
            file.write(chunk)
    if match and hasher.hexdigest() != match[2]:
        raise ImageError(
            f"{url} is not what was asked for: its digest is another",
            details=(f"expected {digest}", f"found    {match[1]}:{hasher.hexdigest()}"),
        )
    if head != _QCOW2:
        raise ImageError(f"{url} is not a qcow2 image")


def _chunks(url: str, report: Report) -> Iterator[bytes]:
    """Yield the content of `url`. Raises ImageError when it cannot be had, or not to its end."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            with Path(unquote(parts.path)).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as err:
            raise ImageError(f"cannot read {url}: {err.strerror}") from err
        return
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=30) as response:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0))
            told = 0
            # Raw: a digest is of the file as published, so nothing may be unpacked on the way.
            for chunk in response.iter_raw(_CHUNK_BYTES):
                yield chunk
                percent = response.num_bytes_downloaded * 100 // total if total else 0
                if percent >= told + 10:
                    told = percent
                    report(f"downloading {url}: {percent} %")
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise ImageError(f"cannot download {url}", details=(str(err) or type(err).__name__,)) from err
