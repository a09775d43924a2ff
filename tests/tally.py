"""Collects from all workers of a test run which faults were injected and which transitions were taken.

A pytest plugin. Each worker of pytest-xdist runs a part of the tests and hands over its tally when it ends; without
workers there is one process. The main process then checks and writes:

- An outcome that the table allows but no functional test saw fails the run, because it may not work.
- With INTERLOCK_WRITE_GUARANTEES=1, tests/guarantees.jsonl and the table of docs/guarantees.md say how often each fault
  was injected, tests/transitions.jsonl and docs/coverage.svg how often each row was taken, and how it ended.

Both apply only to suites that ran completely and passed, because a part of a suite proves nothing about the rest.
Transitions in subprocesses are not counted.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from interlock.diagrams import coverage
from interlock.diagrams.coverage import REAL, SIMULATED, Cell, Outcome
from interlock.errors import CancelledError
from interlock.fsm.events import Event
from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger

TESTS = Path(__file__).parent
RESULTS = TESTS / "guarantees.jsonl"
GUARANTEES = TESTS.parent / "docs" / "guarantees.md"
TRANSITIONS = TESTS / "transitions.jsonl"
PICTURE = TESTS.parent / "docs" / "coverage.svg"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"

SUITES = {"functional": SIMULATED, "unit": "unit", "vm": REAL}
"""The folders of tests → their names in docs/guarantees.md, in its order."""

INJECTED: Counter[tuple[str, str]] = Counter()
"""The faults that were injected, by suite and kind."""

TAKEN: Counter[Cell] = Counter()
"""The transitions that engines announced in the test processes, and how they ended."""

WHOLE: set[str] = set()
"""The suites of which every test was collected."""

CUT: set[str] = set()
"""The suites of which some tests were deselected."""


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that counts an injected fault; call it once the checks after the fault have passed."""
    suite = _suite(request.path)
    return lambda fault: INJECTED.update([(suite, fault)])


class Listener:
    """Counts in `taken` the outcome of each transition that is announced in this process."""

    def __init__(self, taken: Counter[Cell]) -> None:
        self.suite = ""
        """The suite of the running test."""
        self._taken = taken
        self._cut_short: set[tuple[str, Trigger]] = set()

    def hear(self, event: Event) -> None:
        """Count `event` if it is an outcome. After a crash, the result of the recovery is the outcome."""
        key = (event.instance, event.trigger)
        match event.happening:
            case Happening.interrupted:
                self._cut_short.add(key)
                return
            case Happening.done | Happening.degraded | Happening.observed:
                outcome = Outcome.finished if key in self._cut_short else Outcome.done
            case Happening.undone:
                outcome = Outcome.undone
            case Happening.failed | Happening.left if key not in self._cut_short:
                called_off = event.reference == CancelledError.reference
                outcome = Outcome.cancelled if called_off else Outcome.failed
            case _:
                return
        self._cut_short.discard(key)
        self._taken[Cell(self.suite, event.trigger, event.source, outcome)] += 1


LISTENER = Listener(TAKEN)


@pytest.fixture(autouse=True, scope="session")
def listening() -> Iterator[None]:
    """Pass every event of every instance in this process to the listener."""

    make = Event.__new__

    def announced(kind: type[Event], *arguments: Any, **facts: Any) -> Event:
        event = make(kind, *arguments, **facts)
        LISTENER.hear(event)
        return event

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Event, "__new__", announced)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    LISTENER.suite = _suite(item.path)


def untaken(taken: Mapping[Cell, int]) -> list[str]:
    """Return the outcomes that the table allows and no functional test saw, in words."""
    return [
        f"{cell.trigger} from {cell.source}: {cell.outcome}"
        for cell in coverage.cells(SIMULATED)
        if not taken.get(cell)
    ]


def write(injected: Counter[tuple[str, str]], whole: AbstractSet[str], results: Path, guarantees: Path) -> None:
    """Write the injected faults of each suite in `whole`; those of other suites are kept."""
    lines = results.read_text().splitlines() if results.exists() else []
    records = [record for record in map(json.loads, lines) if record["suite"] not in whole]
    records += [
        {"suite": suite, "fault": fault, "injections": count, "outcome": "all as promised"}
        for (suite, fault), count in injected.items()
        if suite in whole
    ]
    order = list(SUITES.values())
    records.sort(key=lambda record: (order.index(record["suite"]), record["fault"]))
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = ("suite", "fault", "injections", "outcome")
    rows = [f"| {' | '.join(str(record[column]) for column in columns)} |\n" for record in records]
    before, rest = guarantees.read_text().split(BEGIN)
    table = f"| {' | '.join(columns)} |\n|---|---|---|---|\n{''.join(rows)}"
    guarantees.write_text(f"{before}{BEGIN}{table}{END}{rest.split(END)[1]}")


def draw(taken: Mapping[Cell, int], whole: AbstractSet[str], transitions: Path, picture: Path) -> None:
    """Write the transitions of each suite in `whole`, and the picture; the transitions of other suites are kept."""
    lines = transitions.read_text().splitlines() if transitions.exists() else []
    kept = {cell: count for cell, count in coverage.loads(lines).items() if cell.suite not in whole}
    counts = {**kept, **{cell: count for cell, count in taken.items() if cell.suite in whole}}
    transitions.write_text(coverage.dumps(counts))
    picture.write_text(coverage.svg(counts))


def pytest_deselected(items: list[pytest.Item]) -> None:
    CUT.update(_suite(item.path) for item in items)


def pytest_collection_finish(session: pytest.Session) -> None:
    collected = {item.path for item in session.items}
    for folder, suite in SUITES.items():
        files = {*TESTS.glob(f"{folder}/test_*.py")}
        if files and files <= collected and suite not in CUT:
            WHOLE.add(suite)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the tally of a worker that ended. A worker that died has no tally, and the test that it ran has failed."""
    tally = getattr(node, "workeroutput", {}).get("tally", {"whole": [], "injected": [], "taken": []})
    WHOLE.update(tally["whole"])
    for suite, fault, count in tally["injected"]:
        INJECTED[suite, fault] += count
    for suite, trigger, source, outcome, count in tally["taken"]:
        TAKEN[Cell(suite, Trigger(trigger), State(source), Outcome(outcome))] += count


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Hand over the tally if this is a worker; otherwise check the tallies and write the results."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = {
            "whole": sorted(WHOLE),
            "injected": [[*kind, count] for kind, count in INJECTED.items()],
            "taken": [[*map(str, cell), count] for cell, count in TAKEN.items()],
        }
    elif exitstatus == pytest.ExitCode.OK:
        if _missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif os.environ.get("INTERLOCK_WRITE_GUARANTEES"):
            write(INJECTED, WHOLE, RESULTS, GUARANTEES)
            draw(TAKEN, WHOLE, TRANSITIONS, PICTURE)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and (missing := _missing()):
        terminalreporter.section("outcomes that no functional test saw", red=True)
        terminalreporter.write("".join(f"{words}\n" for words in missing))


def _missing() -> list[str]:
    return untaken(TAKEN) if SUITES["functional"] in WHOLE else []


def _suite(path: Path) -> str:
    return SUITES.get(path.relative_to(TESTS).parts[0], SIMULATED)  # the other folders, such as limactl
