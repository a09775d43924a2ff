"""Programs that are no part of the package: the wheel is installed in an environment of its own, and embedded."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from interlock import Interlock

EMBED = Path(__file__).parents[1] / "embed"

pytestmark = pytest.mark.slow


def test_program_takes_machines_through_their_lives(installed, home, tmp_path):
    """Two processes with three threads each; a watcher sees it all, nothing is printed, no warning is caused."""
    done = subprocess.run(
        [installed / "bin" / "python", EMBED / "life.py", "simulated", "2", "3"],
        env={**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lived = {it["name"]: it for it in map(json.loads, done.stdout.splitlines())}
    assert sorted(lived) == ["p0t0", "p0t1", "p0t2", "p1t0", "p1t1", "p1t2"]
    for name, it in lived.items():
        assert it == {"name": name, "said": f"heard {name}", "seen": ["create", "start", "stop", "clone", "delete"]}
    assert list(Interlock(home).instances()) == []
