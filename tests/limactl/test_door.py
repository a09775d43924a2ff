"""The ways to run the drop-in: `interlock limactl`, and the programs that `install-limactl` writes."""

import subprocess
import sys

import pytest

from interlock.limactl.version import LIMA_VERSION

PROGRAM = [sys.executable, "-m", "interlock"]


@pytest.mark.usefixtures("lima")
def test_command_limactl_is_the_drop_in():
    """`interlock limactl` passes all arguments on, including options, and exits with the drop-in's exit code."""
    done = subprocess.run([*PROGRAM, "limactl", "ls", "--json", "nope"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No instance matching nope found." in done.stderr


@pytest.mark.usefixtures("lima")
def test_install_writes_programs_that_work(tmp_path):
    """`limactl` and `lima` run from the folder, and installing twice works; `lima` uses the default instance."""
    bin_ = tmp_path / "bin"
    subprocess.run([*PROGRAM, "install-limactl", str(bin_)], check=True, capture_output=True)
    subprocess.run([*PROGRAM, "install-limactl", str(bin_)], check=True, capture_output=True)
    version = subprocess.run([bin_ / "limactl", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("limactl version ")
    refused = subprocess.run([bin_ / "lima", "uname"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert 'instance \\"default\\" does not exist' in refused.stderr


def test_install_replaces_no_other_program(tmp_path):
    """A limactl that is not ours is kept, and nothing is written beside it."""
    (tmp_path / "limactl").write_text("#!/bin/sh\n")
    done = subprocess.run([*PROGRAM, "install-limactl", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not Interlock's" in done.stderr
    assert not (tmp_path / "lima").exists()


def loading(*words):
    """Return the output of `limactl` for `words`, followed by a line with the modules that it has loaded."""
    program = (
        f"import atexit, sys; sys.argv = ['limactl', *{words!r}]\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "from interlock.limactl.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("lima")
def test_listing_loads_nothing_slow():
    """`limactl ls` does not import click, yaml, pydantic, structlog, httpx, rich or threading."""
    printed = loading("ls", "--json")
    assert {"click", "yaml", "pydantic", "structlog", "rich", "httpx", "threading"} & set(printed.split()) == set()


def test_version_imports_next_to_nothing():
    """Embedders ask for the version first, and often."""
    version, loaded = loading("--version").splitlines()
    assert version == f"limactl version {LIMA_VERSION}"
    ours = {name.removeprefix("interlock.") for name in loaded.split() if name.startswith("interlock.")}
    assert ours == {"limactl", "limactl.__main__", "limactl.version", "version"}
