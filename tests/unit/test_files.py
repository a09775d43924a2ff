"""Files are written completely or not at all, and removed completely, whatever they are."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from interlock.errors import DriverError
from interlock.host import files
from interlock.host.files import (
    UnfitFileError,
    clone,
    link_or_copy,
    make_private_directory,
    read_own,
    remove_tree,
    retire,
    write_whole,
)


@pytest.fixture
def folder(tmp_path):
    """Return an empty folder."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_write_whole_puts_the_content_privately(folder):
    """The file holds the content, only its owner may read it, and no other file is left beside it."""
    write_whole(folder / "f", b"one")
    write_whole(folder / "f", b"two")
    assert (folder / "f").read_bytes() == b"two"
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [folder / "f"]


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_write_whole_that_fails_leaves_the_old_content(folder, monkeypatch, call):
    """If the disk fails, the old content stays, and no temporary file is left."""
    write_whole(folder / "f", b"old")

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(folder / "f", b"new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"f": b"old"}


def test_link_or_copy_within_a_file_system_links(folder):
    """Both names are one file, so the kernel counts its users."""
    (folder / "f").write_bytes(b"x")
    link_or_copy(folder / "f", folder / "g")
    assert (folder / "f").samefile(folder / "g")


def test_clone_where_the_file_system_cannot_leaves_an_empty_file(folder, monkeypatch):
    """`clone` returns False and the caller copies; only the file system knows whether it can clone."""

    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    (folder / "f").write_bytes(b"x")
    with (folder / "f").open("rb") as source:
        assert not clone(source, folder / "g")
    assert (folder / "g").read_bytes() == b""


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_link_or_copy_where_links_fail_copies(folder, monkeypatch, reason):
    """On another file system, one without links, or after too many links, the content is copied."""

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", refuse)
    (folder / "f").write_bytes(b"x")
    link_or_copy(folder / "f", folder / "g")
    assert (folder / "g").read_bytes() == b"x"
    assert not (folder / "f").samefile(folder / "g")


def test_make_private_directory_missing_parents_are_private_too(folder):
    """Missing parents are made for the owner only, like the folder; an existing one keeps its mode."""
    (folder / "old").mkdir(mode=0o755)
    assert make_private_directory(folder / "old" / "a" / "b") == folder / "old" / "a" / "b"
    modes = [stat.S_IMODE((folder / path).stat().st_mode) for path in ("old", "old/a", "old/a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_remove_tree_of_nothing_is_fine(folder):
    """A missing path is no error."""
    remove_tree(folder / "nothing")


def test_remove_tree_of_file_removes_it(folder):
    """A file in place of a folder is removed, too."""
    (folder / "f").write_bytes(b"x")
    remove_tree(folder / "f")
    assert list(folder.iterdir()) == []


def test_remove_tree_of_link_keeps_what_it_leads_to(folder):
    """A symbolic link is removed; the folder that it leads to is not ours and stays."""
    (folder / "there").mkdir()
    (folder / "link").symlink_to(folder / "there")
    remove_tree(folder / "link")
    assert list(folder.iterdir()) == [folder / "there"]


def test_remove_tree_goes_on_past_what_it_cannot_remove_and_names_it(folder, monkeypatch):
    """The error names each file that stays, with the reason; everything else is removed."""
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"x")
    real = os.unlink

    def unlink(path, **named):
        if str(path).endswith(("a", "b")):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(DriverError) as said:
        remove_tree(folder)
    assert sorted([said.value.message.replace(" could not be removed", ""), *said.value.details]) == [
        f"{folder / 'a'}: Operation not permitted",
        f"{folder / 'b'}: Operation not permitted",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("moment", ["_mount", "iterdir", "rmdir"])
def test_remove_tree_that_another_process_removes_too_is_gone(folder, monkeypatch, moment):
    """Something that another process has removed meanwhile is no error."""
    (folder / "sub").mkdir()
    (folder / "sub" / "f").touch()
    place = files if moment == "_mount" else Path
    whole = getattr(place, moment)

    def late(path):
        if path.name == "sub":
            shutil.rmtree(path)
        return whole(path)

    monkeypatch.setattr(place, moment, late)
    remove_tree(folder)
    assert not folder.exists()


def test_remove_tree_of_a_folder_that_its_owner_may_not_open_removes_it():
    """An owner can remove a folder whatever its permissions. Root can open everything, so it becomes another user."""
    with tempfile.TemporaryDirectory() as place:
        folder, owner = Path(place, "folder"), os.geteuid() or 65534
        (folder / "closed" / "inner").mkdir(parents=True)
        for path in (place, folder, folder / "closed", folder / "closed" / "inner"):
            os.chown(path, owner, -1)
        (folder / "closed").chmod(0)
        before = os.geteuid()
        os.seteuid(owner)
        try:
            remove_tree(folder)
        finally:
            os.seteuid(before)
        assert not folder.exists()


MOUNT = """
mount -t tmpfs none "$0/a/mounted" && touch "$0/a/mounted/theirs"
mount --bind "$1" "$0/bound"
exec "$2" -c "$3" "$0"
"""
"""A script that mounts a tmpfs and the folder $1 (of the same file system) in $0, and has Python $2 run $3."""

REMOVE = """
import sys
from pathlib import Path
from interlock.errors import DriverError
from interlock.host.files import remove_tree
try:
    remove_tree(Path(sys.argv[1]))
except DriverError as error:
    print(*sorted([error.message.replace(" could not be removed", ""), *error.details]), error.hint, sep="\\n")
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False, capture_output=True).returncode != 0,
    reason="this host gives its users no mount namespaces",
)
def test_remove_tree_of_a_folder_with_a_mount_in_it_leaves_what_is_mounted(tmp_path, injected):
    """Mounted files may be anyone's and stay; the rest goes. The error names the mounts and how to unmount one."""
    folder, theirs = tmp_path / "folder", tmp_path / "theirs"
    for path in (folder / "a" / "mounted", folder / "bound", folder / "b", theirs):
        path.mkdir(parents=True)
    (theirs / "kept").touch()
    (folder / "b" / "ours").touch()
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, folder, theirs, sys.executable, REMOVE],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    *stayed, hint = done.stdout.splitlines()
    mounts = [str(folder / "a" / "mounted"), str(folder / "bound")]
    assert stayed == [f"{mount}: a file system is mounted there" for mount in mounts]
    assert hint in [f"umount {mount}" for mount in mounts]
    assert (theirs / "kept").exists()
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == ["a", "a/mounted", "bound"]
    injected("a file system mounted in an instance's folder")


def test_read_own_of_anything_but_a_file_that_fits_is_refused_at_once(folder, thing, injected):
    """Links are not followed, FIFOs not waited for, huge files not read; folders, sockets and devices are refused."""
    thing(folder / "f")
    with pytest.raises(UnfitFileError, match=r"not a regular file|larger than"):
        read_own(folder / "f")
    injected("a FIFO, folder, socket, device, link or huge file in place of a file")


def test_remove_tree_of_anything_removes_it(folder, thing, injected):
    """Anything is removed, but not the target of a link."""
    thing(folder / "f")
    remove_tree(folder / "f")
    assert list(folder.iterdir()) == []
    injected("a FIFO, folder, socket, device, link or huge file in place of a file")


def test_read_own_of_a_larger_file_refuses_it_unread(folder):
    """A sparse file of 6 GiB costs neither memory nor time; its tail can still be read."""
    with (folder / "f").open("wb") as file:
        file.truncate(6 << 30)
    with pytest.raises(UnfitFileError, match="larger than 100 bytes"):
        read_own(folder / "f", 100)
    assert read_own(folder / "f", 100, tail=True) == bytes(100)


def test_write_whole_of_the_longest_name_writes_it(folder):
    """A name may have 255 bytes, and its temporary name is no longer than that."""
    write_whole(folder / ("f" * 255), b"x")
    assert [path.name for path in folder.iterdir()] == ["f" * 255]


def test_retire_over_what_an_earlier_removal_left_leaves_nothing(folder):
    """Leftovers of a removal that crashed do not block the next one."""
    for path in ("it/file", "trash/left/file"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).touch()
    retire(folder / "it", folder / "trash")
    assert list(folder.iterdir()) == []


def test_write_whole_by_threads_at_once_leaves_one_content_and_no_error(folder):
    """Each thread has temporary names of its own."""
    failures = []

    def write(content):
        try:
            for _ in range(50):
                write_whole(folder / "f", content)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=[bytes([65 + number]) * 1000]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set((folder / "f").read_bytes())) == 1
    assert list(folder.iterdir()) == [folder / "f"]
