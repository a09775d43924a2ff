"""The first use of the API by several threads at once works, as the API's docstring promises."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "six_threads.py"


@pytest.mark.parametrize("_attempt", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))])
def test_first_use_from_six_threads_succeeds_in_each(home, _attempt):
    """Nothing exists yet: all threads create folders and records at once, and do not disturb each other."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "simulated"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["stopped"] * 6)
    assert [path.name for path in home.instances.iterdir() if not path.name.startswith(".")] == []
