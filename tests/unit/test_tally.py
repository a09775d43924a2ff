"""What the workers of a run did is gathered, judged and written down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tally

from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger

TAKES_ALL = """
from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from tally import TAKEN

def test_taken(injected):
    TAKEN.update((happening, trigger, state) for happening in Happening for trigger in Trigger for state in State)
    injected("a fire")
"""

INJECTS = """
import pytest

@pytest.mark.parametrize("number", range(8))
def test_injected(injected, number):
    injected("a flood")
"""

OLD = [
    {"suite": "simulated", "fault": "forgotten", "injections": 9, "outcome": "all as promised"},
    {"suite": "qemu", "fault": "kept", "injections": 3, "outcome": "all as promised"},
]


pytestmark = pytest.mark.slow


@pytest.fixture
def suite(tmp_path):
    """Return a maker of a functional suite of some files, and what runs it with two workers: (exit code, output)."""
    folder = tmp_path / "tests"
    (folder / "functional").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guarantees.md").write_text(f"above\n{tally.BEGIN}{tally.END}below\n")
    (folder / "guarantees.jsonl").write_text("".join(json.dumps(record) + "\n" for record in OLD))
    (folder / "tally.py").write_text(Path(tally.__file__).read_text())

    def run(*arguments, **files):
        for name, text in files.items():
            (folder / "functional" / f"{name}.py").write_text(text)
        line = [sys.executable, "-m", "pytest", "-p", "tally", "-n", "2", "--import-mode=importlib", *arguments]
        line += [word for plugin in ("randomly", "hypothesispytest", "anyio") for word in ("-p", f"no:{plugin}")]
        told = {"PYTHONPATH": str(folder), "INTERLOCK_WRITE_GUARANTEES": "1"}
        environment = {**os.environ, **told}
        for name in [name for name in environment if name.startswith("PYTEST_")]:
            del environment[name]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        written = [json.loads(text) for text in (folder / "guarantees.jsonl").read_text().splitlines()]
        return done.returncode, done.stdout, [(record["fault"], record["injections"]) for record in written]

    return run


def test_tally_of_workers_is_added_up_and_written(suite, tmp_path):
    """What each worker injected counts once; what other suites injected stays as it was."""
    code, output, written = suite(test_all=TAKES_ALL, test_some=INJECTS)
    assert (code, written) == (0, [("a fire", 1), ("a flood", 8), ("kept", 3)]), output
    text = (tmp_path / "docs" / "guarantees.md").read_text()
    assert "| simulated | a flood | 8 | all as promised |\n" in text
    assert (text.startswith("above\n"), text.endswith("below\n")) == (True, True)


def test_tally_that_lacks_a_transition_fails_the_run(suite):
    """Every test passed, and the run did not: what nobody took is named, and nothing is written."""
    code, output, written = suite(test_some=INJECTS)
    assert (code, written) == (1, [("forgotten", 9), ("kept", 3)])
    assert "8 passed" in output
    assert "start from created: transition_done" in output


def test_tally_of_a_part_of_a_suite_judges_and_writes_nothing(suite):
    """A part says nothing about the whole."""
    code, output, written = suite("-k", "3 or 4", test_some=INJECTS)
    assert (code, written) == (0, [("forgotten", 9), ("kept", 3)]), output


def test_untaken_names_each_source_of_each_row():
    """Of all that can be taken, what is missing is said."""
    everything = {(happening, trigger, state) for happening in Happening for trigger in Trigger for state in State}
    assert tally.untaken(everything) == []
    lacking = everything - {(Happening.undone, Trigger.start, State.stopped)}
    assert tally.untaken(lacking) == ["start from stopped: transition_undone"]
