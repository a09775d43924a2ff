"""Of what is published as a disk, a qcow2 is made that holds the same and needs nothing else; the rest is refused."""

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
    """Return a function that makes a disk of published content."""

    def make_disk(content):
        (tmp_path / "published").write_bytes(content)
        unpack.disk(tmp_path / "published", tmp_path / "disk", "it", lambda _: None)
        assert (tmp_path / "published").read_bytes() == content
        return tmp_path / "disk"

    return make_disk


@pytest.fixture
def holds(tmp_path):
    """Return a function that returns the content of a qcow2, as a guest sees it."""

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
    """What is right already is not made again."""
    assert make(qcow2).read_bytes() == qcow2


def test_disk_of_a_raw_one_is_a_qcow2_that_holds_the_same(make, holds, raw):
    """The guest sees what was published, byte for byte; where there was nothing, nothing is stored."""
    disk = make(raw)
    assert disk.read_bytes()[:4] == b"QFI\xfb"
    assert holds(disk) == raw
    assert disk.stat().st_size < len(raw)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_qcow2_is_unpacked(make, qcow2, kind):
    """Whatever compressed it, its first bytes say so, and all of it comes out."""
    assert make(COMPRESSORS[kind](qcow2)).read_bytes() == qcow2


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_raw_one_is_unpacked_and_converted(make, holds, raw, tmp_path, kind):
    """Both at once, with nothing left between."""
    assert holds(make(COMPRESSORS[kind](raw))) == raw
    assert {path.name for path in tmp_path.iterdir()} >= {"published", "disk", "seen"}
    assert not (tmp_path / "disk.unpacked").exists()


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_file_cut_off_is_refused(make, qcow2, kind):
    """Half a disk is not taken for a whole one, also when nobody gave a digest."""
    packed = COMPRESSORS[kind](qcow2)
    assert "is damaged" in refused(make, packed[: len(packed) - 7]).message


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_disk_of_a_compressed_file_spoilt_is_refused(make, qcow2, kind):
    """What the checksums inside find out is reported in one line."""
    packed = bytearray(COMPRESSORS[kind](qcow2))
    packed[20:40] = bytes(20)
    assert refused(make, bytes(packed)).message.startswith("it is ")


def test_disk_that_has_a_backing_file_is_refused(make, tmp_path):
    """An image that refers to another file would make QEMU read whatever it names."""
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd", tmp_path / "over", "1M")
    assert "a backing file" in refused(make, (tmp_path / "over").read_bytes()).message


def test_disk_that_has_its_data_elsewhere_is_refused(make, tmp_path):
    """Likewise for the other way to refer to a file."""
    data = f"data_file={tmp_path}/data,data_file_raw=on"
    qemu_img("create", "-q", "-f", "qcow2", "-o", data, tmp_path / "outside", "1M")
    assert "an external data file" in refused(make, (tmp_path / "outside").read_bytes()).message


def test_disk_of_a_qcow2_that_cannot_be_opened_is_refused(make):
    """The first bytes alone make no disk."""
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
    """What no guest could boot from is not taken for a raw disk."""
    assert what in refused(make, content).message


@pytest.mark.parametrize("packed", [False, True])
def test_cd_is_taken_as_it_is(tmp_path, packed):
    """A CD is not converted, because its drive shows it as it is."""
    published, target = tmp_path / "published", tmp_path / "cd"
    published.write_bytes(gzip.compress(CD) if packed else CD)
    unpack.cd(published, target, "x.iso", unheard)
    assert target.read_bytes() == CD


def test_cd_that_is_none_is_refused(tmp_path):
    """What a server says instead of an image is not put into a drive."""
    (tmp_path / "published").write_bytes(b"<html>")
    with pytest.raises(ImageError, match="is not the image of a CD"):
        unpack.cd(tmp_path / "published", tmp_path / "cd", "x.iso", unheard)


@pytest.mark.parametrize(("packed", "what"), [(False, "converting"), (True, "unpacking")])
def test_disk_that_has_no_room_is_refused(make, monkeypatch, raw, packed, what):
    """The room for what becomes of a download is looked for when that is known."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(HostError, match=f"{what} it needs") as caught:
        make(gzip.compress(raw) if packed else raw)
    assert caught.value.hint == "interlock prune"


def test_copy_is_the_same_and_sparse(tmp_path, raw):
    """A copy of a disk takes no more room than the disk."""
    (tmp_path / "from").write_bytes(raw + bytes(16 << 20))
    assert b"".join(unpack.copy(tmp_path / "from", tmp_path / "to")) == raw + bytes(16 << 20)
    assert (tmp_path / "to").read_bytes() == raw + bytes(16 << 20)
    assert (tmp_path / "to").stat().st_blocks * 512 < 4 << 20
