"""Makes an image's disk from a published file: decompressed, in qcow2 form, without references to other files.

A file's first bytes say what it is; its name may not. They are checked before any program of QEMU's opens the file:
a qcow2 header can name other files, and those programs would open them too.
"""

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..host import cancellation, disk_format
from ..host.files import clone, link_or_copy
from ..host.progress import Report
from .space import check_space
from .tools import run

_CHUNK_BYTES = 2**20
_ZST_CHUNK_BYTES = 2**12
"""Compressed bytes to unpack at once: they become up to 32768 times as many, all in memory."""

_RAW = ((510, b"\x55\xaa"), (0x438, b"\x53\xef"), (0, b"XFSB"), (0x10040, b"_BHRfS_M"), (0, b"hsqs"))
"""Offset and magic of what a raw disk may contain: a partition table, or else ext2-4, XFS, Btrfs or SquashFS."""

_ISO_9660 = (0x8001, b"CD001")
"""Source: ECMA-119, 8.1."""


def disk(published: Path, target: Path, shown: str, report: Report) -> None:
    """Make `target`, a qcow2 that refers to no other file, from `published`; both lie on one file system.

    `published` is left as it is. `shown` is its name in messages. Raises ImageError when it is not a disk, is damaged
    or needs other files; HostError when there is no space for the result.
    """
    content = published
    if unpack := _compression(published):
        report(f"unpacking {shown}")
        # At least as much: the content is rarely smaller, and few formats record its size.
        check_space(target.parent, published.stat().st_size, f"unpacking {shown}")
        content = target.with_name(f"{target.name}.unpacked")
        with _readable(shown):
            _write(unpack(published), content)
    if _is_qcow2(content, shown):
        # A download stays where it is until the image exists: we may be killed in between.
        if content == published:
            link_or_copy(published, target)
        else:
            content.rename(target)
        run("qemu-img", "info", "-f", "qcow2", target)  # fails if it cannot be opened
        return
    _check_raw(content, shown)
    report(f"converting {shown} to qcow2")
    measured = json.loads(run("qemu-img", "measure", "-f", "raw", "-O", "qcow2", "--output=json", content))
    check_space(target.parent, measured["required"], f"converting {shown}")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", content, target)
    if content != published:
        content.unlink()


def cd(published: Path, target: Path, shown: str, report: Report) -> None:
    """Make `target`, the image of a CD, from `published`; both lie on one file system. Otherwise like `disk`."""
    if unpack := _compression(published):
        report(f"unpacking {shown}")
        check_space(target.parent, published.stat().st_size, f"unpacking {shown}")
        with _readable(shown):
            _write(unpack(published), target)
    else:
        link_or_copy(published, target)
    if not _begins(target, *_ISO_9660):
        raise ImageError(f"{shown} is not the image of a CD, although its name says so: it has no ISO 9660 file system")


def copy(source: Path, target: Path) -> Iterator[bytes]:
    """Yield the content of `source` piece by piece while `target` becomes a copy of it, sparse where it is zero.

    If the file system supports it, `target` shares the blocks of `source` until one of the files is written to.
    """
    with source.open("rb") as file:
        pieces = iter(lambda: file.read(_CHUNK_BYTES), b"")
        yield from pieces if clone(file, target) else _written(pieces, target)


def _compression(path: Path) -> Callable[[Path], Iterator[bytes]] | None:
    """Return the function that yields the decompressed content of `path`; None if it is not compressed."""
    name = disk_format.compression(_head(path))
    return _UNPACKERS[name] if name else None


def _stream(opened: Callable[[Path], Any]) -> Callable[[Path], Iterator[bytes]]:
    def unpack(path: Path) -> Iterator[bytes]:
        with opened(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    return unpack


def _zst(path: Path) -> Iterator[bytes]:
    """Yield the content of the frames of `path`. The library's own reader would accept a truncated file."""
    import zstandard

    with path.open("rb") as file:
        frame = None
        while chunk := file.read(_ZST_CHUNK_BYTES):
            while chunk:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(chunk)
                except zstandard.ZstdError as err:
                    raise ValueError(str(err)) from err
                chunk = frame.unused_data
                frame = None if frame.eof else frame
        if frame:
            raise EOFError


_UNPACKERS: dict[str, Callable[[Path], Iterator[bytes]]] = {
    "gzip": _stream(gzip.open),
    "bzip2": _stream(bz2.open),
    "xz": _stream(lzma.open),
    "zstd": _zst,
}


@contextmanager
def _readable(shown: str) -> Iterator[None]:
    """Turn the decompressors' errors about damaged files into ImageError; the system's own errors, with errno, pass."""
    try:
        yield
    except (EOFError, ValueError, lzma.LZMAError, zlib.error, OSError) as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        raise ImageError(
            f"{shown} is damaged: it cannot be unpacked", details=(str(err) or "it ends too early",)
        ) from err


def _write(chunks: Iterator[bytes], target: Path) -> None:
    for _ in _written(chunks, target):
        pass


def _written(chunks: Iterator[bytes], target: Path) -> Iterator[bytes]:
    """Yield `chunks` while they are written to `target`; zeros, which most of a disk is, take up no space."""
    with target.open("wb") as file:
        for chunk in cancellation.each(chunks):
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), 1)
            else:
                file.write(chunk)
            yield chunk
        file.truncate()


def _is_qcow2(path: Path, shown: str) -> bool:
    """True for a qcow2 file. Raises ImageError for one that needs another file.

    QEMU would read that file, whatever it is.
    """
    with _readable(shown):
        header = disk_format.qcow2(_head(path))
    if header and header.refers_to:
        raise ImageError(
            f"{shown} needs another file, {header.refers_to}; `qemu-img convert` makes a disk that needs none"
        )
    return header is not None


def _check_raw(path: Path, shown: str) -> None:
    """Raise ImageError for a file that is not a raw disk."""
    if _begins(path, *_ISO_9660):
        raise ImageError(f"{shown} is the image of a CD: let its name end with .iso")
    if any(_begins(path, at, mark) for at, mark in _RAW):
        return
    head = _head(path)
    other = disk_format.foreign(head) or ("text" if head.startswith(b"<") else "something else")
    raise ImageError(f"{shown} is neither a qcow2 nor a raw disk image, but {other}")


def _begins(path: Path, at: int, mark: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(len(mark)) == mark


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(disk_format.HEAD_BYTES)
