"""What a disk image is, by its first bytes: names lie, and QEMU's own programs open the files that a header names."""

import struct
from typing import NamedTuple

HEAD_BYTES = 80
"""How much of a file says what it is."""

_QCOW2 = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQ")
"""Magic, version, where the name of a backing file is, its length, cluster bits, size in bytes.

Source: QEMU, docs/interop/qcow2.txt, as for all of the format."""
_VERSION_3 = 3
_FEATURES = struct.Struct(">72xQ")
"""Version 3 has its incompatible features here."""
_EXTERNAL_DATA = 1 << 2
"""The feature that the data are in another file."""

_FOREIGN = {
    b"KDMV": "VMDK",
    b"# Disk DescriptorFile": "VMDK",
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"<<< ": "VDI",
    b"QED\0": "QED",
}
"""How the formats of other hypervisors begin."""

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""Sources: RFC 1952; bzip2(1); The .xz File Format; RFC 8878."""


class Qcow2(NamedTuple):
    """What the header of a qcow2 file says."""

    size_bytes: int
    """What a guest sees."""
    refers_to: str
    """Words for the other file that it needs; empty when it is complete in itself."""


def qcow2(head: bytes) -> Qcow2 | None:
    """Return what the header of a file that begins with `head` says; None when that is no qcow2 file.

    Raises ValueError for a file that ends within its header.
    """
    if not head.startswith(_QCOW2):
        return None
    if len(head) < HEAD_BYTES:
        raise ValueError("it ends within its header")
    _, version, backing_offset, _, _, size_bytes = _HEADER.unpack_from(head)
    features = _FEATURES.unpack_from(head)[0] if version >= _VERSION_3 else 0
    refers_to = "a backing file" if backing_offset else "an external data file" if features & _EXTERNAL_DATA else ""
    return Qcow2(size_bytes, refers_to)


def compression(head: bytes) -> str | None:
    """Return how a file that begins with `head` is compressed: gzip, bzip2, xz or zstd; None when it is not."""
    return next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)


def foreign(head: bytes) -> str | None:
    """Return which other hypervisor's format a file that begins with `head` has; None when it has none of them."""
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
