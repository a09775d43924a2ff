"""What a whole run did, gathered from all its workers: the faults that were injected, and the transitions taken.

A plugin of pytest. Each worker of pytest-xdist runs a part of the tests and hands its tally over when it ends; without
workers there is one process. The process that answers for the run then judges and writes:

- A row of the table, or an end of a recovery, that no functional test took fails the run: nobody knows that it works.
- With INTERLOCK_WRITE_GUARANTEES=1, tests/guarantees.jsonl and the table of docs/guarantees.md say how often each fault
  was injected.

Both are about suites that ran whole and passed: a part of a suite proves nothing about the rest.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import TABLE, Recovery, Trigger

TESTS = Path(__file__).parent
RESULTS = TESTS / "guarantees.jsonl"
GUARANTEES = TESTS.parent / "docs" / "guarantees.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"

SUITES = {"functional": "simulated", "unit": "unit", "vm": "qemu"}
"""The folders of tests, and what docs/guarantees.md calls them, in its order."""

ENDS = {
    Recovery.roll_back: (Happening.undone,),
    Recovery.probe: (Happening.done, Happening.undone),
    Recovery.redo: (Happening.done,),
    Recovery.abandon: (Happening.undone,),
}
"""How an operation that was cut short can end, by its rule."""

Taken = tuple[Happening, Trigger, State]
"""An event that an engine announced: what happened, to which trigger, from which source."""

INJECTED: Counter[tuple[str, str]] = Counter()
"""The faults that were injected, by suite and kind."""

TAKEN: set[Taken] = set()
"""What the engines in the processes of the functional tests announced."""

WHOLE: set[str] = set()
"""The suites that were asked for to the last test."""

CUT: set[str] = set()
"""The suites of which a part was left out."""


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that counts a fault that was injected, once what must hold after it was found to hold."""
    suite = _suite(request.path)
    return lambda fault: INJECTED.update([(suite, fault)])


def untaken(taken: AbstractSet[Taken]) -> list[str]:
    """Return what the table has and `taken` lacks, in words: rows, and ends of recoveries, from each source."""
    rows = {
        (Happening.observed if row.observed else Happening.done, row.trigger, source)
        for row in TABLE
        for source in row.sources
    }
    recoveries = {
        (happening, row.trigger, source)
        for row in TABLE
        if row.on_crash
        for source in row.sources
        for happening in (Happening.interrupted, *ENDS[row.on_crash])
    }
    return [
        f"{trigger} from {source}: {happening}" for happening, trigger, source in sorted((rows | recoveries) - taken)
    ]


def write(injected: Counter[tuple[str, str]], whole: AbstractSet[str], results: Path, guarantees: Path) -> None:
    """Write what was injected in each suite that ran `whole`; what an earlier run did in the others is kept."""
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
    """Add the tally of a worker that ended. One that died has none, and the test that it ran has failed."""
    tally = getattr(node, "workeroutput", {}).get("tally", {"whole": [], "injected": [], "taken": []})
    WHOLE.update(tally["whole"])
    for suite, fault, count in tally["injected"]:
        INJECTED[suite, fault] += count
    TAKEN.update((Happening(happening), Trigger(trigger), State(state)) for happening, trigger, state in tally["taken"])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Hand the tally over, in a worker; elsewhere judge and write."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = {
            "whole": sorted(WHOLE),
            "injected": [[*kind, count] for kind, count in INJECTED.items()],
            "taken": [[str(word) for word in event] for event in TAKEN],
        }
    elif exitstatus == pytest.ExitCode.OK:
        if _missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif os.environ.get("INTERLOCK_WRITE_GUARANTEES"):
            write(INJECTED, WHOLE, RESULTS, GUARANTEES)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and (missing := _missing()):
        terminalreporter.section("transitions that no functional test took", red=True)
        terminalreporter.write("".join(f"{words}\n" for words in missing))


def _missing() -> list[str]:
    return untaken(TAKEN) if SUITES["functional"] in WHOLE else []


def _suite(path: Path) -> str:
    return SUITES[path.relative_to(TESTS).parts[0]]
