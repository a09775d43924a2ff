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
"""Archives are padded to whole blocks, as by cpio(1). The kernel wants the next at a multiple of 4, and skips zeros."""

_MAGIC, _TRAILER = b"070701", "TRAILER!!!"

_HEAD_BYTES = len(_MAGIC) + 13 * 8


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
    archive += _member(0, _TRAILER, Entry(0))
    return bytes(archive) + bytes(-len(archive) % _BLOCK)


def last(archives: bytes) -> tuple[int, dict[str, Entry]]:
    """Return where the last one of concatenated `archives` begins, and its tree.

    Raises ValueError for anything else, such as an archive that is compressed.
    """
    begin, tree, place = 0, dict[str, Entry](), 0
    while archives.startswith(_MAGIC, place):
        head = archives[place + len(_MAGIC) : place + _HEAD_BYTES]
        fields = [int(head[at : at + 8], 16) for at in range(0, len(head), 8)]
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        name = archives[place + _HEAD_BYTES : place + _HEAD_BYTES + name_bytes - 1].decode()
        content = place + -(-(_HEAD_BYTES + name_bytes) // 4) * 4
        place = content + -(-size // 4) * 4
        if name != _TRAILER:
            tree[name] = Entry(mode, archives[content : content + size])
            continue
        while archives.startswith(bytes(4), place):
            place += 4
        if place < len(archives):
            begin, tree = place, {}
    if place < len(archives) or not archives:
        raise ValueError("not a cpio archive")
    return begin, tree


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
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return _aligned(head) + _aligned(entry.data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
