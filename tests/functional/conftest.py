"""Fixtures of the functional tests: the real program, as a process of its own, with simulated machines."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import Interlock, State, Trigger
from interlock.fsm import instance as instance_module
from interlock.fsm.events import Event, Happening
from interlock.fsm.journal import Phase

PROGRAM = [sys.executable, "-m", "interlock"]
TIMEOUT_S = 60
Run = Callable[..., "subprocess.CompletedProcess[str]"]

UNENDED = (Phase.begun, Phase.step)

PATHS: dict[State, tuple[Trigger, ...]] = {
    State.absent: (),
    State.created: (),
    State.running: (Trigger.start,),
    State.stopped: (Trigger.start, Trigger.stop),
}
"""What to ask of a created instance to bring it into each state."""


@pytest.fixture
def interlock(tmp_path: Path) -> Run:
    """Return what runs the program to its end: `interlock("start", "web")`; `orders` are the simulated driver's."""

    def run(
        *arguments: str, orders: dict[str, Any] | None = None, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        given: dict[str, Any] = {
            "cwd": tmp_path,
            "env": {**os.environ, "INTERLOCK_SIMULATED": json.dumps(orders or {})},
            "stdin": subprocess.DEVNULL,
        }
        given.update(options)
        if "input" in given:
            del given["stdin"]
        return subprocess.run(
            [*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S, **given
        )

    return run


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return what starts the program and leaves it running; whatever still runs at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def popen(*arguments: str, orders: dict[str, Any] | None = None, **options: Any) -> "subprocess.Popen[str]":
        environment = {**os.environ, "INTERLOCK_SIMULATED": json.dumps(orders or {})}
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*PROGRAM, *arguments], cwd=tmp_path, env=environment, text=True, **{**given, **options}
        )
        begun.append(process)
        return process

    yield popen
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def vms() -> Interlock:
    """Return the API on the same home: what brings about and looks at what a test of the program is not about."""
    return Interlock()


@pytest.fixture
def bring(vms: Interlock) -> Callable[[State], None]:
    """Return what brings the instance `web` into a state."""

    def bring_to(state: State) -> None:
        if state is not State.absent:
            vms.create("web", "tiny", driver="simulated")
        for trigger in PATHS[state]:
            vms.engine.fire("web", trigger)

    return bring_to


@pytest.fixture
def state(vms: Interlock) -> Callable[[], str]:
    """Return what tells the state of the instance `web`."""
    return lambda: str(vms.status("web").state)


@pytest.fixture
def history(vms: Interlock) -> Callable[[], list[tuple[str, str]]]:
    """Return what tells the transitions of `web` that came to an end: (trigger, phase)."""
    return lambda: [(str(line.trigger), str(line.phase)) for line in vms.history("web") if line.phase not in UNENDED]


@pytest.fixture
def at_work(vms: Interlock, until: Callable[[Callable[[], object]], None]) -> Callable[[], None]:
    """Return what waits until another process is in the middle of its driver's work on `web`."""

    def wait() -> None:
        until(lambda: (operation := vms.status("web").operation) and "simulated" in operation.step)

    return wait


INJECTED: Counter[str] = Counter()
"""Faults that were injected, by kind: the table of docs/guarantees.md."""


@pytest.fixture
def injected() -> Callable[[str], None]:
    """Return what counts a fault that was injected, once what must hold after it was found to hold."""
    return lambda fault: INJECTED.update([fault])


TAKEN: set[tuple[str, Trigger, State]] = set()
"""(happening, trigger, source) of every event that an engine of this process announced: what the tests have taken."""


@pytest.fixture(autouse=True, scope="session")
def taken() -> Iterator[set[tuple[str, Trigger, State]]]:
    """Record every event of every instance; what subprocesses did is not counted."""

    def recorded(happening: Happening, name: str, trigger: Trigger, source: State, **facts: Any) -> Event:
        TAKEN.add((happening, trigger, source))
        return Event(happening, name, trigger, source, **facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_module, "Event", recorded)
        yield TAKEN


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the test of what was taken come last, whatever order was drawn."""
    items.sort(key=lambda item: "test_coverage.py" in item.nodeid)


RESULTS = Path(__file__).parents[1] / "guarantees.jsonl"
GUARANTEES = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def pytest_sessionfinish(exitstatus: int) -> None:
    """Write what was injected into tests/guarantees.jsonl and docs/guarantees.md, if asked to and nothing failed.

    Other suites may put lines of their own into the file: {"suite", "fault", "injections", "outcome"}.
    """
    if exitstatus or not os.environ.get("INTERLOCK_WRITE_GUARANTEES"):
        return
    kept = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    kept = [record for record in kept if record["suite"] != "simulated"]
    ours = [
        {"suite": "simulated", "fault": fault, "injections": count, "outcome": "all as promised"}
        for fault, count in sorted(INJECTED.items())
    ]
    RESULTS.write_text("".join(json.dumps(record) + "\n" for record in ours + kept))
    columns = ("suite", "fault", "injections", "outcome")
    rows = [f"| {' | '.join(str(record[column]) for column in columns)} |\n" for record in ours + kept]
    before, rest = GUARANTEES.read_text().split(BEGIN)
    table = f"| {' | '.join(columns)} |\n|---|---|---|---|\n{''.join(rows)}"
    GUARANTEES.write_text(f"{before}{BEGIN}{table}{END}{rest.split(END)[1]}")
