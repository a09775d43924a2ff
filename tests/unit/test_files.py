"""Files are whole or not there, and what is removed is gone, whatever it was."""

import errno
import os
import stat

import pytest

from interlock.host.files import link_or_copy, make_private_directory, remove_tree, write_whole


@pytest.fixture
def folder(tmp_path):
    """Return an empty folder."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_write_whole_puts_the_content_privately(folder):
    """The file holds the content, only its owner reads it, and nothing else is left beside it."""
    write_whole(folder / "f", b"one")
    write_whole(folder / "f", b"two")
    assert (folder / "f").read_bytes() == b"two"
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [folder / "f"]


@pytest.mark.parametrize("call", ["fsync", "open", "fdopen"])
def test_write_whole_that_fails_leaves_the_old_content(folder, monkeypatch, call):
    """A failing disk costs the new content, never the old one, and leaves no temporary file."""
    write_whole(folder / "f", b"old")

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(folder / "f", b"new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"f": b"old"}


def test_link_or_copy_within_a_file_system_links(folder):
    """Both names are one file, so the kernel counts who uses it."""
    (folder / "f").write_bytes(b"x")
    link_or_copy(folder / "f", folder / "g")
    assert (folder / "f").samefile(folder / "g")


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_link_or_copy_where_links_fail_copies(folder, monkeypatch, reason):
    """Another file system, one without links, or too many of them: the content arrives all the same."""

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", refuse)
    (folder / "f").write_bytes(b"x")
    link_or_copy(folder / "f", folder / "g")
    assert (folder / "g").read_bytes() == b"x"
    assert not (folder / "f").samefile(folder / "g")


def test_make_private_directory_missing_parents_are_private_too(folder):
    """What leads to the folder is made for its owner only, like the folder; what was there keeps its mode."""
    (folder / "old").mkdir(mode=0o755)
    assert make_private_directory(folder / "old" / "a" / "b") == folder / "old" / "a" / "b"
    modes = [stat.S_IMODE((folder / path).stat().st_mode) for path in ("old", "old/a", "old/a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_remove_tree_of_nothing_is_fine(folder):
    """What is not there needs no removing."""
    remove_tree(folder / "nothing")


def test_remove_tree_of_file_removes_it(folder):
    """A file that stands where a folder should is removed like one."""
    (folder / "f").write_bytes(b"x")
    remove_tree(folder / "f")
    assert list(folder.iterdir()) == []


def test_remove_tree_of_link_keeps_what_it_leads_to(folder):
    """A symbolic link goes; the folder it led to belongs to somebody else."""
    (folder / "there").mkdir()
    (folder / "link").symlink_to(folder / "there")
    remove_tree(folder / "link")
    assert list(folder.iterdir()) == [folder / "there"]
