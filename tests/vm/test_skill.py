"""The commands that SKILL.md gives to a coding agent work, block by block, with real guests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKS = re.findall(
    r"^```sh\n(.*?)^```$", (Path(__file__).parents[2] / "SKILL.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[2])
def test_block_of_the_skill_runs(vms, tmp_path, block):
    """Each command succeeds without a terminal, and no instance is left; the small image replaces the other one."""
    lines = block.replace("--template debian", "--template tiny")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-eu", "-c", lines],
        check=False,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert list(vms.instances()) == []
    if "copy work:note.txt" in block:
        assert "Linux" in done.stdout
        assert (tmp_path / "back.txt").read_text() == "hello\n"
