"""`interlock kill`: ends the hypervisor at once."""

import pytest

from interlock.fsm.states import State


def test_kill_of_running_instance_stops_it(interlock, bring, state, history):
    """The guest is not asked to shut down."""
    bring(State.running)
    assert interlock("kill", "web", orders={"stop": {"hang": True}}).returncode == 0
    assert state() == "stopped"
    assert history()[-1] == ("kill", "done")


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_kill_of_instance_that_is_down_changes_nothing(interlock, bring, history, source):
    """Killing an instance that is down succeeds."""
    bring(source)
    before = history()
    assert interlock("kill", "web").returncode == 0
    assert history() == before


def test_kill_calls_off_a_start_that_hangs(interlock, begin, bring, at_work, state):
    """`kill` cancels a running start, and the start says so."""
    bring(State.created)
    process = begin("start", "web", orders={"start": {"hang": True}})
    at_work()
    assert interlock("kill", "web").returncode == 0
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "was cancelled by kill (pid " in stderr) == (130, True)
    assert state() == "created"
