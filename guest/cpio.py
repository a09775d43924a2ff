"""The archive that a Linux kernel unpacks as its first root file system: cpio, in the `newc` form.

Sixty lines suffice for an archive of a few files that root owns, whereas cpio(1) must be installed, needs the files on
disk first, and records their times and inode numbers. The same tree gives the same bytes here, so an archive can be
named by its digest.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

_BLOCK = 512
"""Archives end on a block, as cpio(1) ends them. The kernel wants the next one on a multiple of 4 and skips zeros."""


class Entry(NamedTuple):
    """One node of the tree: type and permissions as in st_mode, and its content (of a link, the target)."""

    mode: int
    data: bytes = b""


Tree = Mapping[str, Entry]
"""Relative paths to nodes. A missing parent becomes a directory that everyone may read."""


def directory(permissions: int = 0o755) -> Entry:
    return Entry(stat.S_IFDIR | permissions)


def file(data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(stat.S_IFREG | permissions, data)


def symlink(target: str) -> Entry:
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def pack(tree: Tree) -> bytes:
    """Return `tree` as one archive, owned by root, sorted, without times.

    Archives may be concatenated: the kernel unpacks them in order, and a later file replaces an earlier one.
    """
    archive = bytearray()
    for number, (path, entry) in enumerate(_with_parents(tree), start=1):
        archive += _member(number, path, entry)
    archive += _member(0, "TRAILER!!!", Entry(0))
    return bytes(archive) + bytes(-len(archive) % _BLOCK)


def _with_parents(tree: Tree) -> Iterator[tuple[str, Entry]]:
    """Yield every node after its parent directories, because the kernel does not make them."""
    whole = {
        str(parent): directory() for path in tree for parent in PurePosixPath(path).parents if parent.parts
    } | dict(tree)
    yield from sorted(whole.items(), key=lambda item: PurePosixPath(item[0]).parts)


def _member(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # Inode, mode, owner, group, links, time, size, device (2), device it stands for (2), length of the name, checksum.
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _aligned(head) + _aligned(entry.data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
