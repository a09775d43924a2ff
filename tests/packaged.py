"""A pytest plugin that provides Interlock as users have it: built as a wheel and installed in an environment."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from a copy of the sources without network access."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, place / "source", ignore=NOT_SOURCES)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, place / "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = place.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the wheel and our own dependencies, but without access to the sources."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, symlinks=True)
    install = [sys.executable, "-m", "pip", "--python", place, "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*install, "--quiet", "--disable-pip-version-check"], check=True, timeout=600)
    site = next(place.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


@pytest.fixture
def embedded(installed: Path, tmp_path: Path) -> Callable[..., list[Any]]:
    """Return a function that runs a program of tests/embed with the wheel: `embedded("life.py", "qemu", 2)`.

    It returns the lines of JSON that the program prints. Warnings, other output on stderr and failures fail the test.
    """

    def run(program: str, *arguments: object) -> list[Any]:
        done = subprocess.run(
            [installed / "bin" / "python", ROOT / "tests" / "embed" / program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "error"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
