"""The linters run as tests, and must find nothing in the sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PACKAGES = [f"interlock.{path.parent.name}" for path in sorted(ROOT.glob("*/__init__.py"))]
MODULES = ["interlock", *(f"interlock.{path.stem}" for path in sorted(ROOT.glob("*.py")) if path.stem != "__init__")]


def complaints(*command, **environment):
    """Return what a tool prints about the repository; an empty string if it succeeds."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_no_fault():
    """Every rule that is not switched off with a reason holds everywhere."""
    assert complaints("ruff", "check", "--quiet", ".") == ""


def test_ruff_would_format_nothing():
    """The sources are as the formatter would write them."""
    assert complaints("ruff", "format", "--check", ".") == ""


def test_mypy_is_strict_and_content(tmp_path):
    """Every package of the product is typed, strictly; it is checked under its own name, by a link to this folder."""
    (tmp_path / "interlock").symlink_to(ROOT)
    names = [*(f"--package={name}" for name in PACKAGES), *(f"--module={name}" for name in MODULES)]
    settings = ("--config-file", "pyproject.toml", "--no-error-summary")
    assert complaints("mypy", *settings, *names, MYPYPATH=str(tmp_path)) == ""


def test_imports_run_one_way():
    """The layers and the forbidden imports of pyproject.toml hold, imports inside functions included."""
    assert complaints("lint-imports", "--no-cache") == ""


def test_import_contract_would_notice_a_breach(tmp_path):
    """The check above works: it finds an import of templates in the engine."""
    copy = tmp_path / "interlock"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "tests", "docs", "*.egg-info", "__pycache__"))
    with (copy / "fsm" / "instance.py").open("a") as file:
        file.write("\n\ndef _breach() -> None:\n    from ..templates import load  # noqa: F401\n")
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "interlock.fsm.instance -> interlock.templates.load" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_in_three_lines_what_lives_there(package):
    """Each package begins with a docstring that says what is in it."""
    module = ROOT.joinpath(*package.split(".")[1:], "__init__.py")
    assert module.read_text().startswith('"""')
