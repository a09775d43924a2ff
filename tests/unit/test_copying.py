"""Copies: which program makes them, with the same result; what the guest is asked beforehand."""

import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlock.commands.copy_bar import copy
from interlock.errors import DeadlineError, HostError, NotFoundError, UsageError
from interlock.guest.command import Completed
from interlock.guest.copying import Backend, Copied, Copying, Place, copying

CONFIG = Path("/home/it's mine/ssh.config")
SSH = ["ssh", "-F", str(CONFIG)]
KEEP = ["--copy-links", "--keep-dirlinks", "--perms", "--times"]
BY_SSH = ["-s", "-e", "ssh -F '/home/it''s mine/ssh.config'", "--"]


READER = """\
import sys
open(sys.argv[1] + "/a", "rb").read()
open(sys.argv[1] + "/go").read()
print("oops", file=sys.stderr)
sys.exit(3)
"""
"""A program that reads a file, waits for the end of a FIFO, complains and fails."""


def web(path: str) -> Place:
    return Place("web", path)


def here(path: object) -> Place:
    return Place(None, str(path))


class Guest:
    """A guest that gives a fixed answer and remembers which paths it was asked about."""

    def __init__(self, said: str) -> None:
        self.said, self.asked = said, []

    def __call__(self, guest: str, command: list[str], _timeout_s: float) -> Completed:
        self.asked.append((guest, *command[4:]))
        return Completed(0, self.said.encode())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of two files on a host that has rsync."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("rsync", "scp"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    site = tmp_path / "site"
    site.mkdir()
    (site / "a").write_text("aaa")
    (site / "b").write_text("bb")
    return site


@pytest.mark.parametrize(("target", "slash"), [("yes\n1 1", ""), ("yes\n0 0", "/")])
def test_folder_goes_into_a_target_that_exists_and_takes_its_name_otherwise(folder, target, slash):
    """rsync follows scp's rule: the content of the folder goes into a target that does not exist yet."""
    asked = Guest(target)
    found = copying([here(f"{folder}/"), web("~/there")], SSH, asked, recursive=True)
    assert found.line == ["rsync", *KEEP, "--recursive", *BY_SSH, f"{folder}{slash}", "web:./there"]
    assert (found.backend, asked.asked) == (Backend.rsync, [("web", "./there")])


@pytest.mark.parametrize(
    ("said", "sources", "backend"),
    [
        ("no\n1 1", ["site"], Backend.scp),
        ("no\n1 1", ["site"], Backend.auto),
        ("", ["site"], Backend.auto),
        ("yes\n0 0", ["site", "site/a"], Backend.auto),
    ],
)
def test_scp_copies_where_rsync_is_missing_or_would_do_something_else(folder, said, sources, backend):
    """Several sources need a folder as their target: scp reports a missing one, rsync would create it."""
    places = [here(folder.parent / source) for source in sources]
    found = copying([*places, web("x y")], SSH, Guest(said), recursive=True, backend=backend)
    assert found.line == ["scp", "-3", "-p", "-F", str(CONFIG), "-r", "--", *map(str, places), "web:x y"]


def test_host_without_rsync_asks_the_guest_for_nothing(folder, monkeypatch):
    """A needless ssh session would cost an emulated guest a tenth of a second."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    asked = Guest("")
    assert copying([here(folder / "a"), web("")], SSH, asked).backend == "scp"
    assert asked.asked == []


@pytest.mark.usefixtures("folder")
def test_from_guest_to_guest_goes_by_scp():
    """rsync copies only between this host and one guest; asking for it is refused, with a hint."""
    places = [web("a"), Place("db", "b")]
    assert copying(places, SSH, Guest("yes\n1 0")).backend == "scp"
    with pytest.raises(UsageError, match="between this host and one guest") as refused:
        copying(places, SSH, Guest("yes\n1 0"), backend=Backend.rsync)
    assert refused.value.hint == "interlock copy --backend scp web:a db:b"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("said", "error", "hint"),
    [("no\n1 0", NotFoundError, "interlock copy --backend scp web:a ."), (None, HostError, "apt install rsync")],
)
def test_rsync_that_is_asked_for_and_missing_is_refused(monkeypatch, said, error, hint):
    """rsync may be missing on either side; the hint is a command to type."""
    if said is None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(error, match="rsync") as refused:
        copying([web("a"), here(".")], SSH, Guest(said or ""), backend=Backend.rsync)
    assert refused.value.hint == hint


@pytest.mark.parametrize("from_guest", [False, True])
def test_folder_that_is_not_to_be_copied_whole_is_refused(folder, from_guest):
    """rsync would skip the folder and succeed."""
    places = [web("*.d"), here(".")] if from_guest else [here(folder), web("")]
    with pytest.raises(UsageError, match="is a folder") as refused:
        copying(places, SSH, Guest("yes\n3 1"))
    assert refused.value.hint.startswith("interlock copy --recursive ")


@pytest.mark.parametrize(
    ("path", "asked", "sent"),
    [
        ("", "./", "web:./"),
        ("~", "./", "web:./"),
        ("-x", "./-x", "web:./-x"),
        (":x", "./:x", "web:./:x"),
        ("/etc/", "/etc/", "web:/etc/"),
    ],
)
def test_path_in_a_guest_means_the_same_to_every_program(folder, path, asked, sent):
    """No program takes it for an option, a module of rsync's or a home directory."""
    guest = Guest("yes\n1 1")
    line = copying([here(folder / "a"), web(path)], SSH, guest).line
    assert (guest.asked, line[-1]) == ([("web", asked)], sent)


@pytest.mark.parametrize(("path", "sent"), [("/", "web:/"), ("/etc/", "web:/etc"), ("", "web:.")])
def test_source_in_a_guest_loses_its_last_slash_and_stays_what_it_is(folder, path, sent):
    """The root of a guest stays the root: rsync takes an empty path for the home of the user."""
    assert copying([web(path), here(folder)], SSH, Guest("yes\n1 1"), recursive=True).line[-2] == sent


def test_how_much_is_measured_where_it_lies(folder):
    """Links are followed, but not back into the folder; a guest that does not answer leaves the size unknown."""
    (folder / "again").symlink_to(folder / "a")
    (folder / "round").symlink_to(folder)
    found = copying([here(folder), web("")], SSH, Guest("no\n1 1"), recursive=True, measured=True)
    assert found.total_bytes == len("aaabbaaa")
    places = [web("a"), here(".")]
    assert copying(places, SSH, Guest("1234"), backend=Backend.scp, measured=True).total_bytes == 1234

    def slow(*_):
        raise DeadlineError("find did not end")

    assert copying(places, SSH, slow, measured=True).total_bytes is None


def test_copy_by_rsync_tells_how_far_it_has_come(tmp_path):
    """A real rsync copies on this host; the kernel's and rsync's counts add up to the bytes copied."""
    (tmp_path / "a").write_bytes(bytes(300_000))
    heard = []
    line = ["rsync", "--bwlimit=2000", str(tmp_path / "a"), str(tmp_path / "b")]
    assert Copying(Backend.rsync, line, 300_000).run(heard.append, print) == 0
    assert heard[-1] == Copied(300_000, 300_000)


def test_copy_that_says_nothing_is_followed_by_what_it_has_read(tmp_path):
    """Like scp: progress is what the kernel counts. This program ends only after all it read was reported."""
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    os.mkfifo(tmp_path / "go")
    complaints = []

    def heard(copied: Copied) -> None:
        if copied.done_bytes == copied.total_bytes:
            with suppress(OSError):  # the reader has not opened its end yet, or has exited
                os.close(os.open(tmp_path / "go", os.O_WRONLY | os.O_NONBLOCK))

    reading = [sys.executable, "-c", READER, str(tmp_path)]
    assert Copying(Backend.scp, reading, 1 << 20).run(heard, complaints.append) == 3
    assert b"".join(complaints) == b"oops\n"


@pytest.mark.parametrize(
    ("backend", "status", "done", "code", "said"),
    [
        ("scp", 0, 1 << 20, 0, r"copied 3\.0 MiB by scp in \d.*s"),
        ("rsync", 0, 1 << 20, 0, r"copied 3\.0 MiB by rsync in \d.*s; 1\.0 MiB of it differed"),
        ("scp", 1, 0, 1, None),
        ("scp", -15, 0, 143, None),
    ],
)
def test_bar_ends_with_what_it_came_to_and_the_programs_exit_code(capsys, backend, status, done, code, said):
    """The program's complaints stand above the bar, without escape characters."""

    class Made(Copying):
        def run(self, heard, complained):
            heard(Copied(done, 3 << 20))
            complained(b"first\nsec\x1b[1mond")
            return status

    reports = []
    session = SimpleNamespace(report=reports.append)
    assert copy(session, Made(Backend(backend), [], 3 << 20)) == code
    assert [bool(re.fullmatch(said or "", it)) for it in reports] == ([True] if said else [])
    assert capsys.readouterr().err.split("\n")[:2] == ["first", "sec[1mond"]
