"""Processes and threads run random commands at once on the same few instances, and some of them are killed.

INTERLOCK_STRESS_S sets the duration in seconds, INTERLOCK_STRESS_PROCESSES how many processes run at once, and
INTERLOCK_STRESS_SEED the choice of commands.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from asking import words

from interlock.api import Interlock
from interlock.errors import BusyError, CancelledError, IllegalTransitionError, ProtectedError
from interlock.fsm.journal import Phase
from interlock.fsm.states import State
from interlock.fsm.table import BY_PAIR, TABLE, Row, Trigger

STRESS_S = float(os.environ.get("INTERLOCK_STRESS_S", "20"))
SEED = int(os.environ.get("INTERLOCK_STRESS_SEED", "1"))
AT_ONCE = int(os.environ.get("INTERLOCK_STRESS_PROCESSES", "50"))
NAMES = ["a", "b", "c", "d", "e"]
CREATE = ("-t", "tiny", "--driver", "simulated")
ROWS = [row for row in TABLE if row.recorded and row.trigger is not Trigger.create]
EXPECTED = {0, 3, 4, 5, 130, -9}
"""Exit codes: done, illegal or protected, not found, busy, cancelled, killed."""
REFUSALS = {"IllegalTransitionError", "NotFoundError", "BusyError", "CancelledError"}
"""Errors that a call may raise while others use the same instances; the last one if a stop or kill came first."""


def assert_chained(lines):
    """Check that each line begins in the state that the previous one left, and that no number is missing."""
    state = State.absent
    for number, line in enumerate(lines, start=1):
        assert (number, state) == (line.seq, line.source)
        state = line.state


def assert_settled(vms, home):
    """Check that everything that is left is undamaged and consistent, and can be removed."""
    for status in vms.instances():
        assert status.damage is None
        assert_chained(vms.history(status.name))
    for name in NAMES:
        if vms.status(name).state is not State.absent:
            vms.unprotect(name)
        vms.delete(name, force=True)
    assert [path for root in (home.root, home.runtime) for path in root.rglob("*") if not path.is_dir()] == []


@pytest.mark.slow
def test_races_of_processes_that_are_killed_lose_nothing(home, vms, injected):
    """Whatever they do to each other, `list` answers, exit codes are documented ones, and journals are whole."""
    chance = random.Random(SEED)  # noqa: S311 - it hides nothing
    until = time.monotonic() + STRESS_S
    environment = {**os.environ, "INTERLOCK_SIMULATED": json.dumps({"start": {"delay_s": 0.05}})}
    running = []
    while time.monotonic() < until or running:
        while len(running) < AT_ONCE and time.monotonic() < until:
            asked = chance.choice([*ROWS, None, None, None, Trigger.create, Trigger.create])
            arguments = ["list"] if asked is None else ["create", chance.choice(NAMES), *CREATE]
            if isinstance(asked, Row):
                others = [chance.choice(NAMES)] if "new" in asked.needs else words(asked.trigger)
                arguments = [*(asked.command or asked.trigger).split(), chance.choice(NAMES), *others]
            process = subprocess.Popen(
                [sys.executable, "-m", "interlock", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running.append((process, arguments))
        process, arguments = running.pop(chance.randrange(len(running)))
        if chance.random() < 0.2 and arguments[0] != "list":
            process.kill()
            injected("one of several processes at once killed at any time")
        output, _ = process.communicate(timeout=300)
        assert process.returncode in ({0} if arguments[0] == "list" else EXPECTED), (arguments, output)
        injected("commands of several processes at once")
    assert_settled(vms, home)


def test_races_for_the_first_use_of_a_home_are_won_by_all(begin, vms, home):
    """Two processes that create the same home for the first time both succeed."""
    first = begin("create", "a", *CREATE)
    second = begin("create", "b", *CREATE)
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in (first, second)] == [0, 0]
    assert [status.name for status in vms.instances()] == ["a", "b"]
    assert_settled(vms, home)


def test_races_of_threads_and_tasks_in_one_program_lose_nothing(home, vms):
    """A program that embeds Interlock may call it from threads and from asyncio; `list` never hides what exists."""
    for name in NAMES[:2]:
        vms.create(name, "tiny", driver="simulated")
    triggers = [Trigger.start, Trigger.stop, Trigger.kill, Trigger.reset, Trigger.protect, Trigger.unprotect]

    def work(seed):
        chance = random.Random(seed)  # noqa: S311 - likewise
        mine = Interlock(home)
        for _ in range(20):
            with suppress(IllegalTransitionError, ProtectedError, BusyError, CancelledError):
                mine.engine.fire(chance.choice(NAMES[:2]), chance.choice(triggers))
            assert [status.name for status in mine.instances()] == NAMES[:2]

    async def tasks():
        await asyncio.gather(*(asyncio.to_thread(work, seed) for seed in range(3)))

    with ThreadPoolExecutor() as pool:
        threads = [pool.submit(work, seed) for seed in range(3, 6)]
        asyncio.run(tasks())
        assert [thread.result() for thread in threads] == [None] * 3
    assert_settled(vms, home)


@pytest.mark.slow
def test_crowd_of_threads_and_processes_loses_nothing(embedded, vms, home):
    """Each call ends in a documented way, and the histories hold exactly what the callers were answered."""
    calls = [tuple(call) for call in embedded("crowd.py", SEED, 3, 4, 25)]
    assert len(calls) == 3 * 4 * 25
    assert {answer for *_, answer in calls} <= REFUSALS | {"changed", "held"}
    changed = [(name, trigger, new) for name, trigger, new, answer in calls if answer == "changed"]

    for name in NAMES[:2]:  # the program never deletes these
        history = list(vms.history(name))
        assert_chained(history)
        done = [line for line in history if line.phase is Phase.done]
        assert [line for line in done if (line.trigger, line.source) not in BY_PAIR] == []
        answered = Counter(trigger for called, trigger, _ in changed if called == name)
        assert Counter(str(line.trigger) for line in done) == answered + Counter(["create"])

    existing = {status.name for status in vms.instances()}
    for name in NAMES[2:]:
        came = sum(new == name or (called, trigger) == (name, "create") for called, trigger, new in changed)
        went = sum(called == name and trigger in {"delete", "rename"} for called, trigger, _ in changed)
        assert came - went == (name in existing)

    assert_settled(vms, home)
