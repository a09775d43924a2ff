"""The wheel installs the program and its data under one name, and nothing else."""

import os
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from interlock import __version__

ROOT = Path(__file__).parents[2]
DATA = f"interlock-{__version__}.data/data"


@pytest.fixture(scope="module")
def contents(wheel):
    """Return the names of the files in the wheel."""
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_one_name_at_its_top(contents):
    """Nothing called `fsm`, `drivers` or `tests` lands in anyone's site-packages."""
    tops = {name.partition("/")[0] for name in contents}
    assert tops == {"interlock", f"interlock-{__version__}.dist-info", DATA.partition("/")[0]}


def test_wheel_puts_the_manual_pages_where_man_looks(contents):
    """The wheel's data are the manual pages and nothing else."""
    pages = {f"{DATA}/share/man/man1/{path.name}" for path in (ROOT / "docs" / "man").iterdir()}
    assert f"{DATA}/share/man/man1/interlock-start.1" in pages
    assert pages == {name for name in contents if name.startswith(DATA)}


def test_wheel_holds_every_source_file_and_no_test(contents):
    """The wheel has every module of the product and no other; a package that is not listed would be missing."""
    folders = [ROOT, *(path.parent for path in ROOT.glob("[a-z]*/**/__init__.py"))]
    modules = {f"interlock/{path.relative_to(ROOT)}" for folder in folders for path in folder.glob("*.py")}
    assert {name for name in contents if name.endswith(".py")} == modules


@pytest.mark.parametrize(
    "data", ["templates/builtin/*", "images/builders/guests/**/*", "guest/*.sh", "commands/*.json", "schemas/*.json"]
)
def test_wheel_holds_the_data(contents, data):
    """Files other than Python are included: templates, recipes of images, scripts of guests, schemas and the marker."""
    files = {f"interlock/{path.relative_to(ROOT)}" for path in ROOT.glob(data) if path.is_file()}
    assert files
    assert files | {"interlock/py.typed"} <= contents


@pytest.mark.slow
def test_wheel_installed_elsewhere_is_the_program(installed, tmp_path):
    """Installed into an environment of its own, the program runs, and finds its templates, without these sources."""
    environment = {**os.environ, "PYTHONPATH": ""}

    def run(program, *arguments):
        command = [installed / "bin" / program, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert run("interlock", "--version") == f"interlock {__version__}\n"
    assert "tiny" in run("interlock", "template", "list")
    found = run("python", "-c", "import interlock; print(interlock.__file__)")
    assert Path(found.strip()).is_relative_to(installed)
    if shutil.which("man"):
        environment["PATH"] = f"{installed / 'bin'}:{environment['PATH']}"
        assert (
            str(installed / "share" / "man" / "man1")
            in subprocess.run(
                ["man", "-w", "interlock-start"],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
        )
    assert "interlock_vm" in run("python", "-m", "pytest", "-p", "no:cacheprovider", "--fixtures")
