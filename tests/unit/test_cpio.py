import random
import shutil
import subprocess

import pytest

from interlock.guest import cpio

TREE = {
    "seed/hostname": cpio.file(b"web\n"),
    "seed/key": cpio.file(b"secret", 0o600),
    "bin/sh": cpio.symlink("busybox"),
    "run": cpio.directory(0o700),
}


def members(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Read an archive by the format's specification: (path, mode, content) of each member."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], archive[data_at : data_at + size]))
        at = (data_at + size + 3) // 4 * 4


def test_pack_tree_puts_each_directory_before_what_is_in_it():
    """The kernel creates no parent directories, so each comes before its content, even if the tree does not list it."""
    assert [name for name, _, _ in members(cpio.pack(TREE))] == [
        "bin",
        "bin/sh",
        "run",
        "seed",
        "seed/hostname",
        "seed/key",
    ]


def test_pack_entries_keep_type_permissions_and_content():
    """A file, a link and a directory come back as they went in."""
    found = {name: (mode, data) for name, mode, data in members(cpio.pack(TREE))}
    assert found["seed/key"] == (0o100600, b"secret")
    assert found["bin/sh"] == (0o120777, b"busybox")
    assert found["run"] == (0o040700, b"")
    assert found["bin"] == (0o040755, b"")


def test_pack_same_tree_in_any_order_gives_the_same_bytes():
    """Equal trees give equal bytes, so an archive can be named by its digest."""
    shuffled = list(TREE.items())
    random.shuffle(shuffled)
    assert cpio.pack(dict(shuffled)) == cpio.pack(TREE)


def test_pack_any_tree_ends_on_a_block():
    """An archive that follows begins where the kernel looks for it."""
    assert len(cpio.pack(TREE)) % 512 == 0
    assert len(cpio.pack({})) == 512


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio(1), the other implementation, is not installed")
def test_pack_is_understood_by_cpio():
    """The reference implementation lists what we wrote, owned by root."""
    listing = subprocess.run(["cpio", "-itvn"], input=cpio.pack(TREE), capture_output=True, check=True)
    lines = listing.stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["bin", "busybox", "run", "seed", "seed/hostname", "seed/key"]
    assert {tuple(line.split()[2:4]) for line in lines} == {("0", "0")}
