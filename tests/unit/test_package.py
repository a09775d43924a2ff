"""What is installed is the program and its data, under one name, and nothing else."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from interlock import __version__

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy of the sources, without a network."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, place / "source", ignore=NOT_SOURCES)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, place / "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = place.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel):
    """Return the names of the files in the wheel."""
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_one_name_at_its_top(contents):
    """Nothing called `fsm`, `drivers` or `tests` lands in anyone's site-packages."""
    tops = {name.partition("/")[0] for name in contents}
    assert tops == {"interlock", f"interlock-{__version__}.dist-info"}


def test_wheel_holds_every_source_file_and_no_test(contents):
    """Each module of the product is there, and only those: a package that is not listed would be missing."""
    folders = [ROOT, *(path.parent for path in ROOT.glob("[a-z]*/**/__init__.py"))]
    modules = {f"interlock/{path.relative_to(ROOT)}" for folder in folders for path in folder.glob("*.py")}
    assert {name for name in contents if name.endswith(".py")} == modules


@pytest.mark.parametrize("data", ["templates/builtin/*", "images/builders/guests/**/*", "guest/*.sh"])
def test_wheel_holds_the_data(contents, data):
    """What is no Python is part of the program: templates, what images are built from, what guests run, the marker."""
    files = {f"interlock/{path.relative_to(ROOT)}" for path in ROOT.glob(data) if path.is_file()}
    assert files
    assert files | {"interlock/py.typed"} <= contents


@pytest.mark.slow
def test_wheel_installed_elsewhere_is_the_program(wheel, tmp_path):
    """Installed into an environment of its own, the program runs, and finds its templates, without these sources."""
    venv.create(tmp_path / "venv", symlinks=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    install = [sys.executable, "-m", "pip", "--python", tmp_path / "venv", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*install, "--quiet", "--disable-pip-version-check"], check=True, timeout=120)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = tmp_path / "venv" / "bin" / "interlock"
    environment = {**os.environ, "PYTHONPATH": ""}

    def run(*arguments):
        command = [program, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert run("--version") == f"interlock {__version__}\n"
    assert "tiny" in run("template", "list")
    where = [tmp_path / "venv" / "bin" / "python", "-c", "import interlock; print(interlock.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert Path(found.stdout.strip()).is_relative_to(site)
