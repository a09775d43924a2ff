"""How folders of the host are served to guests: which program is found, how it is run, what is refused."""

import json
import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from interlock.drivers.contract import Site
from interlock.drivers.qemu import mounts
from interlock.errors import DriverError, HostError
from interlock.fsm.spec import Mount

IN_C = "-o source=PATH"
IN_RUST = "--shared-dir <SHARED_DIR>"
NEWER = f"{IN_RUST} --readonly"


@pytest.fixture
def site(tmp_path, spec):
    """Return a function that makes a site with virtiofs mounts, each given as a folder and whether it is writable."""

    def make(*folders: tuple[str, bool]) -> Site:
        wanted = tuple(Mount(it, "/mnt", writable=w, type="virtiofs", security_model="none") for it, w in folders)
        return Site("web", tmp_path, Path("/run/web"), spec._replace(mounts=wanted))

    return make


@pytest.fixture
def virtiofsd(tmp_path, monkeypatch):
    """Return a function that installs a virtiofsd with the given help text and its descriptor, and returns its path."""
    monkeypatch.setattr(mounts, "DESCRIPTORS", (tmp_path / "etc", tmp_path / "share"))

    def install(text: str, folder: str = "share", file: str = "50-virtiofsd.json") -> str:
        program = tmp_path / f"virtiofsd-{folder}"
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o700)
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text(json.dumps({"type": "fs", "binary": str(program)}))
        return str(program)

    return install


@pytest.fixture
def be(monkeypatch):
    """Return a function that fakes the effective user id; 0 is root."""
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(
    ("text", "uid", "expected"),
    [
        (IN_C, 0, "{}|--socket-path=/run/web/mount0.sock|-o|log_level=err,source=/a\\,b c"),
        (NEWER, 1000, "{}|--log-level|error|--socket-path|/run/web/mount0.sock|--shared-dir|/a,b c"),
    ],
)
def test_daemons_are_given_folder_and_socket(site, virtiofsd, be, text, uid, expected):
    """Each of the two programs gets options that it understands, whatever characters the folder's name has."""
    path = virtiofsd(text)
    be(uid)
    (daemon,) = mounts.daemons(site(("/a,b c", True)))
    assert daemon.socket == Path("/run/web/mount0.sock")
    assert daemon.command == expected.format(path).split("|")


def test_daemons_of_read_only_mounts_cannot_write(site, virtiofsd, be):
    """A program without a read-only option runs in a mount namespace where the folder is read-only."""
    virtiofsd(NEWER)
    be(1000)
    assert mounts.daemons(site(("/a", False)))[0].command[-1] == "--readonly"
    virtiofsd(IN_C, folder="etc")
    be(0)
    command = mounts.daemons(site(("/a", False)))[0].command
    assert command[:4] == ["unshare", "--mount", "sh", "-c"]
    assert 'mount -o bind,ro "$0" "$0"' in command[4]
    assert command[5] == "/a"


@pytest.mark.parametrize(
    ("text", "writable", "words"),
    [(IN_C, True, "can be run by root only"), (IN_RUST, False, "cannot keep a guest from writing to /a")],
)
def test_daemons_that_could_not_do_it_are_refused(site, virtiofsd, be, text, writable, words):
    """The error comes before anything runs, and its hint says what would work."""
    virtiofsd(text)
    be(1000)
    with pytest.raises(HostError, match=words) as caught:
        mounts.daemons(site(("/a", writable)))
    assert "9p" in caught.value.hint


def test_find_without_virtiofsd_names_the_package(virtiofsd):  # noqa: ARG001 - it makes the host's folders ours
    """On a host without it, the error says what to install."""
    with pytest.raises(HostError, match="virtiofsd is not installed") as caught:
        mounts.find()
    assert caught.value.hint.startswith("apt install virtiofsd")


def test_find_prefers_the_administrators_descriptor_and_passes_over_strange_ones(virtiofsd, tmp_path):
    """A file in /etc hides the package's file of the same name; files that describe no virtiofsd are skipped."""
    virtiofsd(IN_RUST)
    for name, text in (
        ("10-gpu.json", '{"type": "gpu", "binary": "/bin/sh"}'),
        ("11-x.json", "{"),
        ("12-y.json", "[]"),
    ):
        (tmp_path / "share" / name).write_text(text)
    (tmp_path / "share" / "13-gone.json").write_text('{"type": "fs", "binary": "/no/such"}')
    ours = virtiofsd(IN_C, folder="etc")
    assert mounts.find() == mounts.Program(ours, in_c=True, can_readonly=False)


def test_check_of_missing_folders_names_all_and_the_command_that_makes_them(site, tmp_path):
    """Every missing folder is named, and the hint creates them all, whatever characters their names have."""
    there, gone, other = str(tmp_path), str(tmp_path / "two 'words'"), str(tmp_path / "other")
    spec = site((there, True), (gone, True), (other, False)).spec
    with pytest.raises(DriverError, match="but this host has no such folder") as caught:
        mounts.check(spec)
    assert caught.value.message.startswith(f"the instance mounts {gone}, {other}, ")
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    mounts.check(spec)


def test_check_of_a_file_is_refused(site, tmp_path):
    """A file cannot be mounted as a folder."""
    (tmp_path / "file").touch()
    with pytest.raises(DriverError, match="no such folder"):
        mounts.check(site((str(tmp_path / "file"), True)).spec)


def test_cut_off_names_the_folder_whose_daemon_ended(site, tmp_path):
    """A daemon counts as running as long as the kernel knows its socket, whatever the path."""
    runtime = tmp_path / "a b"
    runtime.mkdir()
    machine = site(("/first", True), ("/second", True))._replace(runtime=runtime)
    with closing(socket.socket(socket.AF_UNIX)) as first, closing(socket.socket(socket.AF_UNIX)) as second:
        first.bind(str(runtime / "mount0.sock"))
        second.bind(str(runtime / "mount1.sock"))
        assert mounts.cut_off(machine) is None
        second.close()
        failed = mounts.cut_off(machine)
        assert (failed.message, failed.hint) == (
            "/second is cut off: its virtiofsd ended",
            f"interlock restart {machine.name}",
        )
