"""Fixtures of the functional tests: the real program in its own process, with simulated machines."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import terminals
from forked import Forked
from promised import check_printed

from interlock import Interlock, State, Trigger
from interlock.fsm.journal import Phase

PROGRAM = [sys.executable, "-m", "interlock"]
TIMEOUT_S = 300
Run = Callable[..., "subprocess.CompletedProcess[str]"]

UNENDED = (Phase.begun, Phase.step)

PATHS: dict[State, tuple[Trigger, ...]] = {
    State.absent: (),
    State.created: (),
    State.running: (Trigger.start,),
    State.stopped: (Trigger.start, Trigger.stop),
}
"""The triggers that bring a created instance into each state."""


@pytest.fixture(scope="session")
def forked() -> Iterator[Forked]:
    """Yield a Python that has imported the program and forks to run it."""
    with Forked() as python:
        yield python


@pytest.fixture
def interlock(tmp_path: Path, hints: set[str], forked: Forked) -> Run:
    """Return a function that runs the program to its end: `interlock("start", "web")`; the driver gets `orders`.

    Each run is a fork of a Python that has imported the program; with other options of `subprocess.run`, a new Python.
    Each hint that the program prints must parse, and each record that it prints must match the contract.
    """

    def run(
        *arguments: str,
        orders: dict[str, Any] | None = None,
        env: Mapping[str, str] = os.environ,
        cwd: Path = tmp_path,
        **options: Any,
    ) -> "subprocess.CompletedProcess[str]":
        env = {"INTERLOCK_SIMULATED": json.dumps(orders or {}), **env}
        if options:
            given = options if "input" in options else {"stdin": subprocess.DEVNULL, **options}
            done = subprocess.run(
                [*PROGRAM, *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
                env=env,
                cwd=cwd,
                **given,
            )
        else:
            done = forked.run(arguments, cwd, env, TIMEOUT_S)
        hints.update(re.findall(r"^hint: (.*)$", str(done.stderr), re.MULTILINE))
        check_printed(arguments, done.stdout)
        return done

    return run


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts the program and leaves it running; the test ends by killing what still runs."""
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
def on_terminal() -> Callable[..., tuple[int, str]]:
    """Return a function that runs the program on its own terminal: `on_terminal("start", "web")`.

    It returns the exit code and the text that the terminal received.
    """

    def run(*arguments: str, typed: bytes = b"") -> tuple[int, str]:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "INTERLOCK_SIMULATED": "{}"}
        environment.pop("INTERLOCK_LOG_FORMAT")
        return terminals.on_terminal([*PROGRAM, *arguments], environment, typed)

    return run


@pytest.fixture
def vms() -> Interlock:
    """Return the API on the same home, for setup and checks that are not what a test of the program is about."""
    return Interlock()


@pytest.fixture
def bring(vms: Interlock) -> Callable[[State], None]:
    """Return a function that brings the instance `web` into a state."""

    def bring_to(state: State) -> None:
        if state is not State.absent:
            vms.create("web", "tiny", driver="simulated")
        for trigger in PATHS[state]:
            vms.engine.fire("web", trigger)

    return bring_to


@pytest.fixture
def state(vms: Interlock) -> Callable[[], str]:
    """Return a function that returns the state of the instance `web`."""
    return lambda: str(vms.status("web").state)


@pytest.fixture
def history(vms: Interlock) -> Callable[[], list[tuple[str, str]]]:
    """Return a function that returns the finished transitions of `web`: (trigger, phase)."""
    return lambda: [(str(line.trigger), str(line.phase)) for line in vms.history("web") if line.phase not in UNENDED]


@pytest.fixture
def at_work(vms: Interlock, until: Callable[[Callable[[], object]], None]) -> Callable[[], None]:
    """Return a function that waits until another process is in the middle of its driver's work on `web`."""

    def wait() -> None:
        until(lambda: (operation := vms.status("web").operation) and "simulated" in operation.step)

    return wait
