"""The model of the protocol: Spin finds no error in it, and finds the errors that are put in on purpose."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from interlock.diagrams.promela import promela
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, TABLE, Recovery, Row, Trigger

LIMIT_S = 900
DEPTH = "50000"
Search = Callable[..., "tuple[str, list[str]]"]

takes_seconds = pytest.mark.slow  # mostly gcc's, which compiles a program for each model


def changed(trigger: Trigger, **columns: Any) -> list[Row]:
    """Return the table with other values in the row of `trigger`."""
    return [row._replace(**columns) if row.trigger is trigger else row for row in TABLE]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Return a function that has Spin search a model: it returns the summary and the trace of the first violation."""

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=LIMIT_S)
        return done.stdout

    def found(rows: Sequence[Row] = TABLE, *defines: str) -> tuple[str, list[str]]:
        (tmp_path / "protocol.pml").write_text(promela(rows=rows), encoding="utf-8")
        run("spin", "-a", *defines, "protocol.pml")
        run("gcc", "-O0", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
        summary = run("./pan", "-n", f"-m{DEPTH}")
        trace = []
        if (tmp_path / "protocol.pml.trail").exists():
            said = run("spin", "-T", "-t", *defines, "protocol.pml").splitlines()
            trace = [line for line in said if line.startswith(("process ", "violated: ", "the "))]
        return summary, trace

    return found


@takes_seconds
def test_protocol_of_the_table_holds_in_every_run(search: Search) -> None:
    """With two managers, two faults and a last delete --force, no run violates an invariant or gets stuck."""
    summary, trace = search()

    assert trace == []
    assert "errors: 0" in summary
    assert "Search not completed" not in summary
    assert "max search depth too small" not in summary


@takes_seconds
def test_protocol_without_a_way_out_of_an_operation_is_found(search: Search) -> None:
    """A stop without a crash rule stays in flight when its process dies."""
    _, trace = search(changed(Trigger.stop, on_crash=None))

    assert trace[-1] == "violated: an operation stays in flight for ever"


@takes_seconds
def test_protocol_that_repeats_what_is_unsafe_to_repeat_is_found(search: Search) -> None:
    """A creation that recovery repeats has no plan, because its caller is gone."""
    _, trace = search(changed(Trigger.create, on_crash=Recovery.redo))

    assert trace[-1] == "violated: a transition that needs a plan was carried out without one"


@takes_seconds
def test_protocol_with_a_start_from_absent_is_found(search: Search) -> None:
    """Starting an absent instance is the mistake that Interlock exists to exclude."""
    row = BY_TRIGGER[Trigger.start]
    _, trace = search(changed(Trigger.start, sources=(State.absent, *row.sources)))

    assert trace[-2:] == ["process 1: starting", "violated: a hypervisor was started without a disk"]


@takes_seconds
def test_protocol_that_recovers_without_observing_is_found(search: Search) -> None:
    """An engine that assumes a machine's death without looking records the exit of a live one."""
    _, trace = search(TABLE, "-DRECOVER_BLINDLY")

    assert trace[-1] == "violated: an instance that is at rest has a living hypervisor"


@takes_seconds
def test_protocol_that_unlocks_before_the_outcome_is_found(search: Search) -> None:
    """Two processes work on one instance, and one writes the outcome of an operation that the other has settled."""
    _, trace = search(TABLE, "-DUNLOCK_EARLY")

    assert trace[-1] == "violated: an outcome was written to the operation of another"


@takes_seconds
def test_protocol_that_keeps_a_memory_while_its_machine_runs_is_found(search: Search) -> None:
    """After a power cut, a start would load the memory again, over a disk that was written since."""
    _, trace = search(TABLE, "-DUSE_TWICE")

    assert trace[-1] == "violated: a machine runs whose memory could be used again"


@pytest.mark.parametrize("state", [None, *State])
def test_promela_is_accepted_by_spin(tmp_path: Path, state: State | None) -> None:
    """Spin accepts the model for every initial state, without a warning."""
    (tmp_path / "protocol.pml").write_text(promela(state), encoding="utf-8")
    done = subprocess.run(["spin", "-a", "protocol.pml"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promela_begins_in_the_state_of_the_instance() -> None:
    """The model for an instance begins where the instance is; without one, where every instance begins."""
    assert "#define BEGIN running" in promela(State.running)
    assert "#define BEGIN absent" in promela()
