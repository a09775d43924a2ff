"""`interlock doctor`: what this host has and lacks, and how to fix it."""

import json
import os
import platform
from pathlib import Path

import pytest

NATIVE = f"qemu {platform.machine()}"
QEMU = f"qemu-system-{platform.machine()}"


@pytest.fixture
def checked(interlock, tmp_path):
    """Return a function that runs the check with only these programs (name → script) on PATH."""

    def check(**scripts: str):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        done = interlock("doctor", "--format", "json", env={**os.environ, "PATH": str(folder)})
        return done, {record["subject"]: record for record in map(json.loads, done.stdout.splitlines())}

    return check


def test_doctor_of_host_without_anything_names_the_packages(checked):
    """Each missing program comes with the command that installs it, and the exit code says that the host is unfit."""
    done, found = checked()
    assert done.returncode == 6
    assert found["qemu-img"]["mend"] == "apt install qemu-utils"
    assert found["ssh"]["mend"] == "apt install openssh-client"
    assert (found[NATIVE]["ok"], found[NATIVE]["finding"]) == (False, f"{QEMU} is not installed")
    assert found[NATIVE]["mend"].startswith("apt install qemu-system-")
    assert done.stderr.splitlines()[0] == "error: host-unfit"
    essential = {
        name for record in found.values() if record["essential"] and record["mend"] for name in record["mend"].split()
    }
    hint = done.stderr.splitlines()[-1].removeprefix("hint: apt install ")
    assert set(hint.split()) == essential - {"apt", "install"} >= {"qemu-utils", "openssh-client"}


def test_doctor_of_qemu_that_fails_tells_its_last_words(checked):
    """The finding quotes the program's last words, not only its exit status."""
    words = 'while read -r _; do :; done; echo first >&2; echo "libfoo.so.1: no such file" >&2; exit 127'
    _, found = checked(**{QEMU: words})
    assert found[NATIVE]["finding"].endswith(" ended with status 127: libfoo.so.1: no such file")
    assert not found[NATIVE]["ok"]


def test_doctor_as_table_has_a_line_for_each_finding(interlock):
    """The table shows subject, verdict and finding of each check."""
    lines = interlock("doctor").stdout.splitlines()
    assert lines[0].split() == ["CHECK", "FINDING", "FIX"]
    home = Path(os.environ["INTERLOCK_HOME"])
    assert next(line for line in lines if line.startswith("home ")).split()[:3] == ["home", "ok", f"{home},"]
