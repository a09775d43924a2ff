"""A new row is cheap: the patch in docs/development.md touches few files, and the rest is derived."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCH = ROOT / "tests" / "patches" / "ping.patch"
GOLDEN = "tests/golden/"
AT_MOST = 6
"""How many files a new row may touch by hand, besides goldens."""


def touched():
    """Return the files that the patch changes."""
    return re.findall(r"^\+\+\+ b/(\S+)", PATCH.read_text(), re.MULTILINE)


def test_new_row_touches_few_files_by_hand():
    """The patch has the row, one method of the driver contract, its drivers, and a typed method of the API."""
    assert len([name for name in touched() if not name.startswith(GOLDEN)]) <= AT_MOST


def test_development_page_shows_the_row_of_the_patch():
    """The walk-through in docs/development.md shows the lines that the patch adds to the table and to the matrix."""
    page = (ROOT / "docs" / "development.md").read_text()
    added = "\n".join(line[1:] for line in PATCH.read_text().splitlines() if line.startswith("+"))
    row = re.search(r"Row\(ping.*?\),$", added, re.MULTILINE | re.DOTALL)
    assert row
    assert " ".join(row[0].split()) in " ".join(page.split())


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """Return a folder with a copy of the package in which the patch is applied, and the environment to run it in."""
    place = tmp_path_factory.mktemp("ping")
    skip = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "releases", "build", "dist")
    shutil.copytree(ROOT, place / "interlock", ignore=skip)
    subprocess.run(
        ["git", "apply", "--unsafe-paths", f"--directory={place / 'interlock'}", str(PATCH)], cwd=place, check=True
    )
    (place / "home").mkdir(mode=0o700)
    where = {"PYTHONPATH": str(place), "INTERLOCK_HOME": str(place / "home"), "INTERLOCK_LOG_FORMAT": "human"}
    return place, {**os.environ, **where}


def test_new_row_is_a_command_with_words_verdict_and_help(patched):
    """Its command exists; its refusal, its hint, its messages and its line in the journal come from the row."""
    place, environment = patched

    def interlock(*arguments):
        command = [sys.executable, "-m", "interlock", *arguments]
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    assert interlock("create", "web", "--template", "tiny", "--driver", "simulated").returncode == 0
    refused = interlock("ping", "web")
    assert refused.returncode == 3
    assert 'instance "web" is created; ping is legal from running only' in refused.stderr
    assert "hint: interlock start web && interlock ping web" in refused.stderr
    assert interlock("start", "web").returncode == 0
    pinged = interlock("ping", "web", "--timeout", "30")
    assert pinged.returncode == 0
    assert 'pinged "web" in' in pinged.stderr
    assert "the simulated guest has" in pinged.stderr
    assert '"trigger": "ping"' in interlock("history", "web", "--format", "json").stdout
    assert "Asks the guest for its clock." in interlock("ping", "--help").stdout
    assert "ping" in interlock("diagram").stdout
    assert interlock("delete", "web", "--force").returncode == 0


@pytest.mark.slow
def test_new_row_is_tested_by_the_tests_that_are_there(patched):
    """Grid, machine, crash rules and model are derived: unedited, they test the new row, and pass."""
    place, environment = patched
    tests = [f"tests/unit/test_{name}.py" for name in ("table", "machine", "engine", "instance", "promela")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    done = subprocess.run(
        command, cwd=place / "interlock", env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-3000:]
