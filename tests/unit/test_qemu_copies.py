"""Copies that a host fetches from a guest, with a local shell in place of ssh."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import copies
from interlock.fsm.port import Deadline
from interlock.fsm.spec import Copy
from interlock.guest import ssh


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Return a function that fetches copies of files of this host, and returns the errors by file."""
    monkeypatch.setattr(ssh, "command_line", lambda _config, _name, command, options: list(command))  # noqa: ARG005

    def fetched(*wanted: Copy) -> dict[str, str]:
        (tmp_path / "instance").mkdir(exist_ok=True)
        spec = SimpleNamespace(copies=wanted, instance_id="i-1")
        site = SimpleNamespace(name="web", directory=tmp_path / "instance", spec=spec)
        pidfd, alive = socket.socketpair()
        with pidfd, alive:
            failures = copies.fetch(site, Deadline(30), pidfd.fileno())
        return {failure.name.removeprefix("copy of "): failure.output[0] for failure in failures}

    return fetched


@pytest.fixture
def forget(tmp_path):
    """Return a function that forgets the copies, and returns what was reported."""

    def forgotten() -> list[str]:
        said: list[str] = []
        copies.forget(tmp_path / "instance", said.append)
        assert not (tmp_path / "instance" / copies.RECORD).exists()
        return said

    return forgotten


def copy(guest: Path | str, host: Path, *, skip: bool = False, delete: bool = True, most: int = 1 << 30) -> Copy:
    return Copy(str(guest), str(host), skip_if_missing=skip, delete_on_stop=delete, max_bytes=most)


def names(folder: Path) -> list[str]:
    """Return what is in `folder`, sorted."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def made(tmp_path):
    """Return a file that stands for one of the guest's."""
    (tmp_path / "made").write_text("by the guest")
    return tmp_path / "made"


def test_copy_is_fetched_and_removed_with_the_machine(fetch, forget, tmp_path, made):
    """No other file is left beside it, and only copies that are to be deleted are removed."""
    gone, kept = tmp_path / "host" / "gone", tmp_path / "host" / "kept"
    assert fetch(copy(made, gone), copy(made, kept, delete=False)) == {}
    assert gone.read_text() == kept.read_text() == "by the guest"
    assert names(gone.parent) == ["gone", "kept"]
    assert forget() == []
    assert names(gone.parent) == ["kept"]


def test_file_that_no_guest_made_is_not_removed(fetch, forget, tmp_path, made):
    """A path alone is no reason to delete: it may never have been fetched to, or hold another file by now."""
    never, replaced, edited = tmp_path / "never", tmp_path / "replaced", tmp_path / "edited"
    never.write_text("mine")
    failed = fetch(copy("/no/such", never), copy(made, replaced), copy(made, edited))
    assert failed == {"/no/such": "there is no such file in the guest"}
    replaced.unlink()
    replaced.write_text("mine")
    edited.write_text("mine")
    assert forget() == []
    assert [path.read_text() for path in (never, replaced, edited)] == ["mine"] * 3


def test_copy_that_cannot_be_had_is_named_and_keeps_no_other(fetch, tmp_path, made):
    """An obstacle on either side is reported; the other files are fetched, and no partial file is kept."""
    host = tmp_path / "host"
    (host / "folder").mkdir(parents=True)
    assert fetch(
        copy("/no/such", host / "a"),
        copy("/no/such", host / "b", skip=True),
        copy("/etc", host / "c"),
        copy("/dev/zero", host / "d", most=1 << 20),
        copy(made, host / "folder"),
        copy(made, made / "below"),
        copy(made, host / "fetched"),
    ) == {
        "/no/such": "there is no such file in the guest",
        "/etc": "cat: /etc: Is a directory",
        "/dev/zero": "it is larger than 1 MiB; maxSize in the template allows more",
        str(made): f"{made / 'below'}: Not a directory",
    }
    assert names(host) == ["fetched", "folder"]


def test_copy_onto_a_folder_is_refused_in_words(fetch, forget, tmp_path, made):
    """The folder is not touched, and the copies can still be forgotten."""
    (tmp_path / "folder").mkdir()
    assert fetch(copy(made, tmp_path / "folder")) == {
        str(made): f"{tmp_path}/folder on the host is not a regular file; it was not replaced"
    }
    assert forget() == []
    assert (tmp_path / "folder").is_dir()


def test_copy_that_cannot_be_removed_is_reported(fetch, forget, tmp_path, made, monkeypatch):
    """A copy that cannot be removed does not keep the machine from being stopped."""
    fetch(copy(made, tmp_path / "host"))

    unlink = os.unlink

    def refused(path: str | Path) -> None:
        if path == str(tmp_path / "host"):
            raise PermissionError(13, "Permission denied", path)
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        assert forget() == [f"leaving {tmp_path}/host, which cannot be removed: Permission denied"]
    assert (tmp_path / "host").exists()


def test_half_a_copy_of_a_dead_process_is_removed(fetch, forget, tmp_path, made, monkeypatch):
    """A process that is killed while it fetches leaves a name in the record, and the next one removes the file."""
    monkeypatch.setattr(copies, "run", lambda *_, **__: os._exit(9))
    pid = os.fork()
    if pid == 0:
        fetch(copy(made, tmp_path / "host"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert [path.name for path in tmp_path.glob(".*")] == [".host.i-1"]
    assert forget() == []
    assert not (tmp_path / ".host.i-1").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", json.dumps({"/x": "y"}).encode(), b"[" * 100_000])
def test_damaged_record_condemns_nothing(forget, tmp_path, content):
    """A record that cannot be read names no file to remove."""
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / copies.RECORD).write_bytes(content)
    assert forget() == []
