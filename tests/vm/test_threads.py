"""The first use of the API on the real driver, by several threads at once; no guest is booted."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

SCRIPT = Path(__file__).parents[1] / "six_threads.py"


def test_first_use_from_six_threads_succeeds_in_each(vms):
    """All threads make keys, probe QEMU, and write seeds and disks at the same time."""
    done = subprocess.run([sys.executable, SCRIPT, "qemu"], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["created"] * 6)
    assert list(vms.instances()) == []
