"""Scripts that Interlock writes itself, run in a folder that plays a guest's root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.guest import own_scripts
from interlock.guest.facts import Script
from interlock.host.yq import as_jq

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")

USER = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()


class Guest:
    """A guest whose programs are this host's, or only those that a test names."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "root", folder / "bin"
        (self.root / "etc").mkdir(parents=True)
        self.bin.mkdir()
        (self.bin / "python3").symlink_to(sys.executable)
        self.path = f"{self.bin}:{os.environ['PATH']}"

    def has_only(self, *programs: str) -> None:
        """Leave the guest no program but these."""
        for program in programs:
            (self.bin / program).symlink_to(shutil.which(program) or "")
        self.path = str(self.bin)

    def run(self, script: Script) -> tuple[int, str]:
        """Return how `script` ended, and what it said last."""
        done = subprocess.run(
            ["/bin/sh", "-s"],
            input=script.text.decode(),
            env={"PATH": self.path, "INTERLOCK_ROOT": str(self.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout.splitlines() or [""])[-1]


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def edit(path: str, program: str, form: str = "json") -> Script:
    return own_scripts.edit(path, program, form, owner=USER, permissions=0o640, once=False)


@needs_jq
def test_edit_makes_a_file_that_is_not_there(guest):
    """What the program makes of nothing is the file, with its folders and permissions."""
    assert guest.run(edit("/etc/a b/c.json", '.a."b-c" = [1]')) == (0, "")
    made = guest.root / "etc/a b/c.json"
    assert json.loads(made.read_text()) == {"a": {"b-c": [1]}}
    assert made.stat().st_mode & 0o777 == 0o640


@needs_jq
@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        ("json", '{"a": "ö", "z": 0}', '{\n  "a": "ö",\n  "z": 1\n}\n'),
        ("yaml", "# a comment\nz: 0\na: ö\n", "z: 1\na: ö\n"),
        ("yaml", "", "z: 1\n"),
    ],
)
def test_edit_changes_what_its_program_names(guest, form, before, after):
    """The rest stays as it is, in its order, also when it is done again; an empty file is nothing."""
    (guest.root / "etc/x").write_text(before)
    for _ in range(2):
        assert guest.run(edit("/etc/x", ".z = 1", form)) == (0, "")
        assert (guest.root / "etc/x").read_text() == after


@needs_jq
@pytest.mark.parametrize(("before", "program"), [("{not json", ".a = 1"), ('{"a": 1}', ".a | nonsense")])
def test_edit_that_fails_leaves_the_file(guest, before, program):
    """A file that cannot be read, or a program that jq does not know, changes nothing."""
    (guest.root / "etc/x").write_text(before)
    status, words = guest.run(edit("/etc/x", program))
    assert (status != 0, words.startswith(("parse error", "jq: "))) == (True, True)
    assert (guest.root / "etc/x").read_text() == before


def test_edit_says_what_the_guest_lacks(guest):
    """A guest with nothing but a shell has neither jq nor a program to install it with."""
    guest.has_only("mktemp", "id", "rm")
    assert guest.run(own_scripts.jq()) == (1, "this guest has no package manager to install jq with")
    assert guest.run(edit("/etc/x", ".")) == (1, "this guest has no jq, which edits files here")


def test_jq_is_installed_where_it_is_missing_only(guest):
    """A later boot has nothing to install."""
    guest.has_only()
    (guest.bin / "apt-get").write_text('#!/bin/sh\necho "$*"\n')
    (guest.bin / "apt-get").chmod(0o755)
    assert guest.run(own_scripts.jq()) == (0, "-q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends jq")
    (guest.bin / "jq").symlink_to("/bin/true")
    assert guest.run(own_scripts.jq()) == (0, "")


@pytest.mark.parametrize(
    ("expression", "program"),
    [
        (".features.containerd-snapshotter = true", '.features."containerd-snapshotter" = true'),
        (".a-b.c.d--e-1 |= .", '."a-b".c."d--e-1" |= .'),
        ('.a = "x.y-z" | .b - .c', '.a = "x.y-z" | .b - .c'),
        (r'.a = "\".y-z"', r'.a = "\".y-z"'),
    ],
)
def test_expression_of_yq_becomes_one_of_jq(expression, program):
    """A key may hold a dash in yq; texts, and a subtraction with blanks, stay."""
    assert as_jq(expression) == program
