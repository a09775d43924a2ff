"""A published disk becomes a self-contained qcow2 with the same content; anything else is refused."""

import bz2
import gzip
import lzma
import subprocess

import pytest
import zstandard

from interlock.errors import HostError, ImageError
from interlock.host.progress import unheard
from interlock.images import space, unpack

CD = bytes(0x8001) + b"CD001"

COMPRESSORS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "gz of two members": lambda content: gzip.compress(content[:1000]) + gzip.compress(content[1000:]),
    "zst of two frames": lambda content: zstandard.compress(content[:1000]) + zstandard.compress(content[1000:]),
}


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a disk from published content."""

    def make_disk(content):
        (tmp_path / "published").write_bytes(content)
        unpack.disk(tmp_path / "published", tmp_path / "disk", "it", lambda _: None)
        assert (tmp_path / "published").read_bytes() == content
        return tmp_path / "disk"

    return make_disk


@pytest.fixture
def holds(tmp_path):
    """Return a function that reads the content of a qcow2 as a guest sees it."""

    def content(disk):
        qemu_img("convert", "-f", "qcow2", "-O", "raw", disk, tmp_path / "seen")
        return (tmp_path / "seen").read_bytes()

    return content


def qemu_img(*arguments):
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, timeout=60)


def refused(make, content):
    with pytest.raises(ImageError) as caught:
        make(content)
    return caught.value


def test_disk_of_a_qcow2_is_that_file(make, qcow2):
    """A valid qcow2 is used unchanged."""
    assert make(qcow2).read_bytes() == qcow2


def test_disk_of_a_raw_one_is_a_qcow2_that_holds_the_same(make, holds, raw):
    """The guest sees the published content byte for byte; zeros take no space."""
    disk = make(raw)
    assert disk.read_bytes()[:4] == b"QFI\xfb"
    assert holds(disk) == raw
    assert disk.stat().st_size < len(raw)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_qcow2_is_unpacked(make, qcow2, kind):
    """The compression is recognized by the first bytes, and everything is unpacked."""
    assert make(COMPRESSORS[kind](qcow2)).read_bytes() == qcow2


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_raw_one_is_unpacked_and_converted(make, holds, raw, tmp_path, kind):
    """No intermediate file is left."""
    assert holds(make(COMPRESSORS[kind](raw))) == raw
    assert {path.name for path in tmp_path.iterdir()} >= {"published", "disk", "seen"}
    assert not (tmp_path / "disk.unpacked").exists()


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_file_cut_off_is_refused(make, qcow2, kind):
    """A truncated disk is noticed even without a digest."""
    packed = COMPRESSORS[kind](qcow2)
    assert "is damaged" in refused(make, packed[: len(packed) - 7]).message


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_damaged_compressed_file_is_refused(make, qcow2, kind):
    """Damage found while unpacking is reported in one line."""
    packed = bytearray(COMPRESSORS[kind](qcow2))
    packed[20:40] = bytes(20)
    assert refused(make, bytes(packed)).message.startswith("it is ")


def test_disk_that_has_a_backing_file_is_refused(make, tmp_path):
    """An image that refers to another file would make QEMU read whatever it names."""
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd", tmp_path / "over", "1M")
    assert "a backing file" in refused(make, (tmp_path / "over").read_bytes()).message


def test_disk_that_has_its_data_elsewhere_is_refused(make, tmp_path):
    """An external data file is refused for the same reason as a backing file."""
    data = f"data_file={tmp_path}/data,data_file_raw=on"
    qemu_img("create", "-q", "-f", "qcow2", "-o", data, tmp_path / "outside", "1M")
    assert "an external data file" in refused(make, (tmp_path / "outside").read_bytes()).message


def test_disk_of_a_qcow2_that_cannot_be_opened_is_refused(make):
    """A qcow2 header alone is not enough."""
    assert "qemu-img failed" in refused(make, b"QFI\xfb" + bytes(200)).message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<html>log in first</html>", "but text"),
        (b"KDMV" + bytes(600), "but VMDK"),
        (b"vhdxfile" + bytes(600), "but VHDX"),
        (b"", "but something else"),
        (bytes(4096), "but something else"),
        (CD, ".iso"),
        (b"\0" * 510 + b"\x55\xaa" + bytes(0x8001 - 512) + b"CD001", ".iso"),
    ],
    ids=["a portal's page", "vmdk", "vhdx", "nothing", "zeros", "iso", "iso that boots from a stick"],
)
def test_disk_of_something_else_is_refused_with_what_it_is(make, content, what):
    """Content that no guest could boot from is not used as a raw disk."""
    assert what in refused(make, content).message


@pytest.mark.parametrize("packed", [False, True])
def test_cd_is_taken_as_it_is(tmp_path, packed):
    """A CD is not converted, because the drive needs the image as it is."""
    published, target = tmp_path / "published", tmp_path / "cd"
    published.write_bytes(gzip.compress(CD) if packed else CD)
    unpack.cd(published, target, "x.iso", unheard)
    assert target.read_bytes() == CD


def test_file_that_is_no_cd_is_refused(tmp_path):
    """A server's error page is not used as a CD."""
    (tmp_path / "published").write_bytes(b"<html>")
    with pytest.raises(ImageError, match="is not the image of a CD"):
        unpack.cd(tmp_path / "published", tmp_path / "cd", "x.iso", unheard)


@pytest.mark.parametrize(("packed", "what"), [(False, "converting"), (True, "unpacking")])
def test_disk_that_has_no_room_is_refused(make, monkeypatch, raw, packed, what):
    """Free space is checked before converting and before unpacking."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(HostError, match=f"{what} it needs") as caught:
        make(gzip.compress(raw) if packed else raw)
    assert caught.value.hint == "interlock prune"


def test_copy_is_the_same_and_sparse(tmp_path, raw):
    """Holes stay holes in a copy."""
    (tmp_path / "from").write_bytes(raw + bytes(16 << 20))
    assert b"".join(unpack.copy(tmp_path / "from", tmp_path / "to")) == raw + bytes(16 << 20)
    assert (tmp_path / "to").read_bytes() == raw + bytes(16 << 20)
    assert (tmp_path / "to").stat().st_blocks * 512 < 4 << 20
