"""The format of a disk image, by its first bytes: names lie, and QEMU's programs open files that a header names."""

import struct
from typing import NamedTuple

HEAD_BYTES = 80
"""How much of a file's beginning decides its format."""

_QCOW2 = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQ")
"""Magic, version, offset and length of the backing file's name, cluster bits, size in bytes.

Source: QEMU, docs/interop/qcow2.txt, as for all of the format."""
_VERSION_3 = 3
_FEATURES = struct.Struct(">72xQ")
"""Where version 3 keeps its incompatible features."""
_EXTERNAL_DATA = 1 << 2
"""The feature that keeps the data in another file."""

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
    """The size that a guest sees."""
    refers_to: str
    """What other file it needs, in words; empty when it needs no other."""


def qcow2(head: bytes) -> Qcow2 | None:
    """Return the qcow2 header of a file that begins with `head`; None when it is not qcow2.

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
    """Return the compression of a file that begins with `head`: gzip, bzip2, xz or zstd; None when uncompressed."""
    return next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)


def foreign(head: bytes) -> str | None:
    """Return the name of another hypervisor's format if a file that begins with `head` has one, else None."""
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
