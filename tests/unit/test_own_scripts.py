"""Scripts that Interlock writes itself, run in a folder that plays a guest's root."""

import hashlib
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
        self.environment: dict[str, str] = {}

    def has_only(self, *programs: str) -> None:
        """Give the guest only these programs."""
        for program in programs:
            (self.bin / program).symlink_to(shutil.which(program) or "")
        self.path = str(self.bin)

    def stands_in(self, program: str, words: str) -> None:
        """Replace `program` with a shell script of `words`."""
        (self.bin / program).unlink(missing_ok=True)
        (self.bin / program).write_text(f"#!/bin/sh\n{words}\n")
        (self.bin / program).chmod(0o755)

    def run(self, script: Script) -> tuple[int, str]:
        """Return the exit status of `script` and its last line of output."""
        done = subprocess.run(
            ["/bin/sh", "-s"],
            input=script.text.decode(),
            env={"PATH": self.path, "INTERLOCK_ROOT": str(self.root), **self.environment},
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
    """The program's output for no input becomes the file, with its folders and permissions."""
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
        ("ini", "", "[z]\nAb = true\n\n"),
        ("ini", "# a comment\n[Unit]\nCase=50%\n", "[Unit]\nCase = 50%\n\n[z]\nAb = true\n\n"),
    ],
)
def test_edit_changes_what_its_program_names(guest, form, before, after):
    """Other keys keep their values and order, also on a second run; an empty file counts as no input."""
    (guest.root / "etc/x").write_text(before)
    for _ in range(2):
        assert guest.run(edit("/etc/x", ".z.Ab = true" if form == "ini" else ".z = 1", form)) == (0, "")
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
    assert guest.run(own_scripts.jq()) == (1, "this guest has no package manager")
    assert guest.run(edit("/etc/x", ".")) == (1, "this guest has no jq, which edits files here")


def test_jq_is_installed_where_it_is_missing_only(guest):
    """A later boot has nothing to install."""
    guest.has_only()
    guest.stands_in("apt-get", 'echo "$*"')
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
    """yq allows dashes in keys; texts, and subtractions with blanks, are left unchanged."""
    assert as_jq(expression) == program


@pytest.fixture
def distribution(guest):
    """Return a guest of a distribution like Debian; the file `heard` has its programs' command lines."""
    guest.has_only("mkdir", "grep", "sed", "id", "rm", "mktemp", "tar", "gzip", "sha256sum", "cat", "cp")
    guest.heard = guest.bin / "heard"
    has = "case $2 in containerd | nerdctl | iptables) ;; *) exit 100 ;; esac"
    guest.stands_in("apt-cache", has)
    guest.stands_in("apt-get", f'echo "$0 $*" >>{guest.heard}; cp /bin/true {guest.bin}/containerd')
    guest.stands_in("systemctl", f'echo "$0 $*" >>{guest.heard}; [ "$1" != cat ]')
    guest.environment = {"LIMA_CIDATA_USER": USER, "LIMA_CIDATA_HOME": "/home/me"}
    return guest


def asked_of(guest):
    """Return the recorded command lines, without options."""
    lines = guest.heard.read_text().replace(f"{guest.bin}/", "").splitlines()
    options = ("-q", "-y", "-o", "DPkg")
    return [" ".join(word for word in line.split() if not word.startswith(options)) for line in lines]


def test_containerd_for_root_comes_from_packages_that_there_are(distribution):
    """Missing packages are left out, containerd reads the settings of templates, and a later boot installs nothing."""
    assert distribution.run(own_scripts.containerd(system=True, user=False)) == (0, "")
    assert asked_of(distribution) == [
        "apt-get update",
        "apt-get install --no-install-recommends containerd nerdctl iptables",
        "systemctl enable --now containerd",
        "systemctl restart containerd",
        "systemctl cat buildkit",
    ]
    config = (distribution.root / "etc/containerd/config.toml").read_text()
    assert config == 'imports = ["/etc/containerd/conf.d/*.toml"]\nversion = 2\n'
    distribution.heard.unlink()
    assert distribution.run(own_scripts.containerd(system=True, user=False)) == (0, "")
    assert asked_of(distribution) == ["systemctl enable --now containerd", "systemctl cat buildkit"]


def test_containerd_for_a_user_without_its_program_says_what_to_do(distribution):
    """The error says that the distribution has no such package; root's containerd is not left running."""
    status, words = distribution.run(own_scripts.containerd(system=False, user=True))
    assert status == 1
    assert words.startswith("no package of this guest's distribution sets up containerd for a user; give the template")
    assert asked_of(distribution)[-1] == "systemctl disable --now containerd"


@pytest.mark.parametrize("manager", [None, "apt-get"])
def test_containerd_in_a_guest_without_packages_for_it_says_so(guest, manager):
    """The error says whether the package manager or the package is missing."""
    guest.has_only()
    if manager:
        guest.stands_in("apt-get", ":")
        guest.stands_in("apt-cache", "exit 100")
    status, words = guest.run(own_scripts.containerd(system=True, user=False))
    expected = "this guest's distribution has no package containerd" if manager else "this guest has no package manager"
    assert (status, words.startswith(expected)) == (1, True)


@pytest.mark.parametrize("right", [True, False], ids=["digest", "another-digest"])
def test_containerd_of_an_archive_is_what_its_digest_says(distribution, tmp_path, right):
    """The archive is fetched, compared and unpacked; one with another digest is not unpacked."""
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    distribution.stands_in("curl", f'while [ "$1" != --output ]; do shift; done; cp {archive} "$2"')
    distribution.stands_in("tar", f'echo "tar $4" >>{distribution.heard}; cp /bin/true {distribution.bin}/containerd')
    digest = hashlib.sha256(b"x" if right else b"y").hexdigest()
    given = {"archive": "https://example.org/x.tgz", "digest": f"sha256:{digest}"}
    status, words = distribution.run(own_scripts.containerd(system=True, user=False, **given))
    if right:
        assert (status, "tar /usr/local" in asked_of(distribution)) == (0, True)
    else:
        assert words == "https://example.org/x.tgz has another digest than containerd.archives says"
        assert status != 0
        assert "tar /usr/local" not in asked_of(distribution)
