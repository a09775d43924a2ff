"""The tallies of all workers of a test run are added up, checked and written."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tally

from interlock.diagrams import coverage
from interlock.diagrams.coverage import REAL, SIMULATED, Cell, Outcome
from interlock.errors import CancelledError
from interlock.fsm.events import Event
from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, Trigger

TAKES_ALL = """
from interlock.diagrams.coverage import SIMULATED, cells
from tally import TAKEN

def test_taken(injected):
    TAKEN.update(cells(SIMULATED))
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


@pytest.fixture
def suite(tmp_path):
    """Return a function that runs a suite of the given files with two workers: (exit code, output, injections)."""
    folder = tmp_path / "tests"
    (folder / "functional").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guarantees.md").write_text(f"above\n{tally.BEGIN}{tally.END}below\n")
    (folder / "guarantees.jsonl").write_text("".join(json.dumps(record) + "\n" for record in OLD))
    kept = Cell(REAL, Trigger.start, State.created, Outcome.done)
    (folder / "transitions.jsonl").write_text(coverage.dumps({kept: 5}))
    (folder / "tally.py").write_text(Path(tally.__file__).read_text())

    def run(*arguments, **files):
        for name, text in files.items():
            (folder / "functional" / f"{name}.py").write_text(text)
        line = [sys.executable, "-m", "pytest", "-p", "tally", "-n", "2", "--import-mode=importlib", *arguments]
        line += [word for plugin in ("randomly", "hypothesispytest", "anyio") for word in ("-p", f"no:{plugin}")]
        shown = {"PYTHONPATH": str(folder), "INTERLOCK_WRITE_GUARANTEES": "1"}
        environment = {**os.environ, **shown}
        for name in [name for name in environment if name.startswith("PYTEST_")]:
            del environment[name]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        written = [json.loads(text) for text in (folder / "guarantees.jsonl").read_text().splitlines()]
        return done.returncode, done.stdout, [(record["fault"], record["injections"]) for record in written]

    return run


@pytest.mark.slow
def test_tally_of_workers_is_added_up_and_written(suite, tmp_path):
    """The injections of all workers are added up; those of other suites are unchanged."""
    code, output, written = suite(test_all=TAKES_ALL, test_some=INJECTS)
    assert (code, written) == (0, [("a fire", 1), ("a flood", 8), ("kept", 3)]), output
    text = (tmp_path / "docs" / "guarantees.md").read_text()
    assert "| simulated | a flood | 8 | all as promised |\n" in text
    assert (text.startswith("above\n"), text.endswith("below\n")) == (True, True)
    taken = coverage.loads((tmp_path / "tests" / "transitions.jsonl").read_text().splitlines())
    assert taken == {
        **dict.fromkeys(coverage.cells(SIMULATED), 1),
        Cell(REAL, Trigger.start, State.created, Outcome.done): 5,
    }
    assert ">1 · 5<" in (tmp_path / "docs" / "coverage.svg").read_text()


@pytest.mark.slow
def test_tally_that_lacks_a_transition_fails_the_run(suite):
    """The run fails though every test passes; the missing transitions are named, and nothing is written."""
    code, output, written = suite(test_some=INJECTS)
    assert (code, written) == (1, [("forgotten", 9), ("kept", 3)])
    assert "8 passed" in output
    assert "start from created: done" in output


@pytest.mark.slow
def test_tally_of_a_part_of_a_suite_judges_and_writes_nothing(suite):
    """A partial run proves nothing about the whole suite."""
    code, output, written = suite("-k", "3 or 4", test_some=INJECTS)
    assert (code, written) == (0, [("forgotten", 9), ("kept", 3)]), output


def test_untaken_names_each_outcome_of_each_row():
    """Each outcome that the table allows and no test took is named."""
    everything = dict.fromkeys(coverage.cells(SIMULATED), 1)
    assert tally.untaken(everything) == []
    del everything[Cell(SIMULATED, Trigger.start, State.stopped, Outcome.undone)]
    assert tally.untaken(everything) == ["start from stopped: undone"]


def test_outcomes_follow_from_the_row():
    """An observed event cannot fail; after a crash, a probe has two possible outcomes, a redo has one."""
    assert coverage.outcomes(BY_TRIGGER[Trigger.exited]) == (Outcome.done,)
    assert coverage.outcomes(BY_TRIGGER[Trigger.shell]) == ()
    assert coverage.outcomes(BY_TRIGGER[Trigger.start])[-2:] == (Outcome.finished, Outcome.undone)
    assert coverage.outcomes(BY_TRIGGER[Trigger.protect])[1:] == (Outcome.failed, Outcome.finished)
    assert coverage.outcomes(BY_TRIGGER[Trigger.stop])[-2:] == (Outcome.cancelled, Outcome.finished)


@pytest.mark.parametrize(
    ("happenings", "reference", "outcome"),
    [
        ("begun step done", None, Outcome.done),
        ("begun degraded", None, Outcome.done),
        ("observed", None, Outcome.done),
        ("begun failed", "driver-failed", Outcome.failed),
        ("begun left", "driver-failed", Outcome.failed),
        ("begun failed", CancelledError.reference, Outcome.cancelled),
        ("interrupted done", None, Outcome.finished),
        ("interrupted undone", None, Outcome.undone),
        ("interrupted left", "driver-failed", None),
        ("holds", None, None),
    ],
)
def test_listener_counts_how_a_transition_ended(happenings, reference, outcome):
    """After a crash, the result of the recovery is the outcome; if the recovery fails, nothing is counted."""
    counted: Counter[Cell] = Counter()
    listener = tally.Listener(counted)
    listener.suite = SIMULATED
    for happening in happenings.split():
        listener.hear(Event(Happening[happening], "web", Trigger.stop, State.running, reference=reference))
    assert counted == ({Cell(SIMULATED, Trigger.stop, State.running, outcome): 1} if outcome else {})
