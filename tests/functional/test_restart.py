"""`interlock restart`: two transitions, each announced."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (State.created, [("start", "done")]),
        (State.running, [("stop", "done"), ("start", "done")]),
        (State.stopped, [("start", "done")]),
    ],
)
def test_restart_from_any_existing_state_ends_running(interlock, bring, state, history, source, expected):
    """A running instance is stopped first; any other is just started."""
    bring(source)
    before = len(history())
    assert interlock("restart", "web").returncode == 0
    assert history()[before:] == expected
    assert state() == "running"


def test_restart_whose_start_fails_leaves_it_stopped(interlock, bring, state):
    """When the second step fails, the first one stays done."""
    bring(State.running)
    assert interlock("restart", "web", orders={"start": {"error": "no"}}).returncode == 6
    assert state() == "stopped"


def test_restart_of_absent_instance_is_not_found(interlock):
    """An absent instance cannot be restarted."""
    assert interlock("restart", "web").returncode == 4
