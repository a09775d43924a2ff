"""The format of a disk image is read from its first bytes, before any QEMU program opens it."""

import struct
import subprocess

import pytest

from interlock.host import disk_format

SIZE = 3 << 20


def head(tmp_path, *options):
    """Return the first bytes of a qcow2 that qemu-img made."""
    (tmp_path / "base").write_bytes(bytes(SIZE))
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, "disk", str(SIZE)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    return (tmp_path / "disk").read_bytes()[: disk_format.HEAD_BYTES]


@pytest.mark.parametrize(
    ("options", "refers_to"),
    [
        ((), ""),
        (("-o", "compat=0.10"), ""),
        (("-F", "raw", "-b", "base"), "a backing file"),
        (("-o", "data_file=base"), "an external data file"),
    ],
    ids=["version 3", "version 2", "backing", "data"],
)
def test_qcow2_header_of_qemus_own_is_read(tmp_path, options, refers_to):
    """Both versions of the format say how large the disk is, and whether it needs another file."""
    assert disk_format.qcow2(head(tmp_path, *options)) == disk_format.Qcow2(SIZE, refers_to)


def test_qcow2_of_version_2_has_no_features():
    """The bytes after a header of version 2 are not feature bits."""
    old = struct.pack(">4sIQIIQ", b"QFI\xfb", 2, 0, 0, 16, SIZE).ljust(disk_format.HEAD_BYTES, b"\xff")
    assert disk_format.qcow2(old) == disk_format.Qcow2(SIZE, "")


def test_qcow2_that_ends_within_its_header_is_a_mistake(tmp_path):
    """A truncated qcow2 is an error, not a file of another format."""
    with pytest.raises(ValueError, match="ends within its header"):
        disk_format.qcow2(head(tmp_path)[:-1])


@pytest.mark.parametrize("head", [b"", b"\0" * disk_format.HEAD_BYTES, b"QFI", b"KDMV"])
def test_qcow2_of_anything_else_is_none(head):
    """A raw disk, an empty file and a file of another format have no qcow2 header."""
    assert disk_format.qcow2(head) is None


def test_foreign_and_compressed_files_are_named():
    """Files that could pass for a raw disk are recognized by their first bytes."""
    assert disk_format.foreign(b"KDMV" + bytes(76)) == "VMDK"
    assert disk_format.compression(b"\x1f\x8b" + bytes(78)) == "gzip"
    assert disk_format.foreign(bytes(80)) is disk_format.compression(bytes(80)) is None
