"""The commands of docs/cluster.md are run as they stand there; `nodes.py` has run those that make the cluster."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.nodes import FENCE, PAGE, documented, here


def test_commands_of_the_page_work(home, nodes, vms, tmp_path):
    """With `tiny` in place of debian, each command succeeds: a life of an instance, and its moves between nodes."""
    shutil.copy(nodes.record, home.root / "clusters" / "west.yaml")
    life, (moves,) = FENCE.search(PAGE.read_text(encoding="utf-8")).group(1), documented("Nodes")
    made, started, *rest = life.splitlines()
    for line in (made, started, *moves.splitlines(), *rest):
        typed(line, tmp_path)
    assert list(vms.instances()) == []


def typed(line: str, folder: Path) -> None:
    """Run a command of the page, which has to succeed."""
    words = shlex.split(here(line).replace("--template debian", "--template tiny --memory 256MiB --disk 1GiB"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
