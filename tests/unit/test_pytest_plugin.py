"""The plugin for tests of programs that embed Interlock: simulated guests with answers, and a home of their own."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import interlock
from interlock import pytest_plugin

PROGRAM = """
from interlock import Interlock

def kernel_of(vm):
    return Interlock().run(vm, ["uname", "-r"]).text

def kernel_of_a_new_one(template="tiny"):
    with Interlock().throwaway(template) as vm:
        return kernel_of(vm)
"""

TESTS = """
import os
from pathlib import Path

import program
import pytest
from interlock import Completed, DriverError, Interlock, IllegalTransitionError, State

def test_runs_of_the_program_are_answered(interlock_vm, interlock_driver):
    interlock_driver.answers = {"uname -r": "6.1.0"}
    assert program.kernel_of(interlock_vm) == program.kernel_of_a_new_one() == "6.1.0"
    assert [ran.argv for ran in interlock_driver.ran] == [("uname", "-r")] * 2

def test_answers_of_another_test_are_gone(interlock_vm, interlock_driver):
    assert Interlock().run(interlock_vm, ["uname", "-r"]).status == 127
    assert len(interlock_driver.ran) == 1

def test_machine_fails_as_ordered(interlock_vm, interlock_driver):
    interlock_driver.orders = {"stop": {"error": "the disk is on fire"}}
    with pytest.raises(DriverError, match="the disk is on fire"):
        Interlock().stop(interlock_vm)

def test_home_is_empty_and_that_of_the_environment(interlock_home):
    assert list(Interlock().instances()) == []
    Interlock().up("web", "tiny")
    Interlock().protect("web")
    assert (interlock_home / "instances" / "web").is_dir()
    assert Interlock(interlock_home).status("web").spec.driver == "simulated"

def test_home_of_the_user_is_not_used():
    assert os.environ["INTERLOCK_HOME"] == BEFORE
    assert not Path(BEFORE).exists()

class TestOwnTemplate:
    @pytest.fixture
    def interlock_template(self):
        return {"images": [{"location": "build:tiny"}], "cpus": 3}

    def test_is_that_of_the_instance(self, interlock_vm):
        assert Interlock().status(interlock_vm).spec.cpus == 3
"""


def examine(folder: Path, tests: str, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest on `tests` in a process of its own, with this plugin and no other."""
    (folder / "interlock").symlink_to(Path(interlock.__file__).parent)
    (folder / "program.py").write_text(PROGRAM)
    (folder / "test_it.py").write_text(tests)
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": "error", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-p", "interlock.pytest_plugin", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [*command, "--strict-markers", f"--rootdir={folder}", f"--basetemp={folder}/tmp", *options, "test_it.py"],
        cwd=folder,
        env={**os.environ, **alone, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the embedding program."""
    folder = tmp_path / "embedder"
    folder.mkdir()
    return folder


def test_program_is_tested_with_simulated_guests(folder, home):
    """The program's commands are answered, each test has a home of its own, and no instance is left."""
    done = examine(folder, f"BEFORE = {str(home.root)!r}\n{TESTS}")
    assert re.search(r"^6 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert not home.root.exists()
    assert list(folder.glob("tmp/*/interlock/instances/[a-z]*")) == []


def test_test_of_the_page_passes(folder):
    """The test that docs/embedding.md shows works as it is."""
    page = (Path(interlock.__file__).parent / "docs" / "embedding.md").read_text(encoding="utf-8")
    (shown,) = (it for it in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def test_" in it)
    assert re.search(r"^1 passed", examine(folder, shown).stdout, re.MULTILINE)


REAL = """
import os

import pytest
from interlock import Interlock

@pytest.mark.interlock_real
def test_real(interlock_home):
    assert os.environ["INTERLOCK_DRIVER"] == "qemu"
    (interlock_home / "images" / "here").write_text("")
"""


def test_marked_test_is_real_and_uses_the_images_of_the_user(folder, home):
    """Images are built once, in the user's own home, and not for each test."""
    done = examine(folder, REAL, INTERLOCK_DRIVER="simulated")
    assert re.search(r"^1 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert (home.images / "here").exists()


UNUSED = """
import sys

def test_nothing_of_interlock_is_imported():
    ours = sorted(name for name in sys.modules if name.partition(".")[0] == "interlock")
    assert ours == ["interlock", "interlock.pytest_plugin"]
"""


def test_plugin_that_is_not_used_imports_nothing(folder, home):
    """Tests that do not use Interlock pay for one small module."""
    done = examine(folder, UNUSED)
    assert re.search(r"^1 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert not home.root.exists()


def test_plugin_is_registered_and_its_marker_declared(folder):
    """Pytest loads what the package's metadata names; a marker is known with --strict-markers."""
    settings = tomllib.loads((Path(interlock.__file__).parent / "pyproject.toml").read_text())
    assert settings["project"]["entry-points"]["pytest11"] == {"interlock": pytest_plugin.__name__}
    assert "@pytest.mark.interlock_real: " in examine(folder, REAL, "--markers").stdout
