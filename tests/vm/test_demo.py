"""`make demo` shows a real machine's life, keeps the image, and ends with commands that work."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

DEMO = Path(__file__).parents[2] / "tools" / "demo.sh"
PROGRAM = Path(sys.executable).with_name("interlock")


def run(*command):
    """Return what a command writes to stdout; the command must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_leaves_the_image_and_commands_that_work(vms):
    """No instance of the demo is left, the user's own instance `demo` stays, and the printed commands work."""
    vms.create("demo", "tiny", driver="simulated")
    said = run("sh", DEMO, PROGRAM)
    assert [status.name for status in vms.instances()] == ["demo"]
    assert "tiny" in run(PROGRAM, "image", "list", "--format", "json")
    up, shell, delete = (line.split() for line in said.splitlines() if line.startswith(f"    {PROGRAM}"))
    run(*up)
    assert run(*shell, "--", "echo", "here") == "here\n"
    run(*delete)
    assert [status.name for status in vms.instances()] == ["demo"]
