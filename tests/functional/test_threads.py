"""The first use of the API, by several threads at once: what the API promises in its docstring."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "six_threads.py"


@pytest.mark.parametrize("_attempt", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))])
def test_first_use_from_six_threads_succeeds_in_each(home, _attempt):
    """Nothing is there yet: folders and records are made by all at once, and none gets in another's way."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "simulated"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["stopped"] * 6)
    assert [path.name for path in home.instances.iterdir() if not path.name.startswith(".")] == []
