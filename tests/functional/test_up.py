"""`interlock up`: created if it is absent, then started: two transitions, each announced."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("source", State)
def test_up_from_any_state_ends_running(interlock, bring, state, source):
    """`up` wants one thing, whatever there is."""
    bring(source)
    assert interlock("up", "web", "-t", "tiny", "--driver", "simulated").returncode == 0
    assert state() == "running"


def test_up_of_absent_instance_announces_both_transitions(interlock, history):
    """Two rows of the table, not a third thing."""
    done = interlock("--log-format", "human", "up", "web", "-t", "tiny", "--driver", "simulated")
    said = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in said] == ["creating", "created", "starting", "started"]
    assert history() == [("create", "done"), ("start", "done")]


def test_up_of_existing_instance_needs_no_template(interlock, bring, state):
    """What exists is started as it is."""
    bring(State.stopped)
    assert interlock("up", "web").returncode == 0
    assert state() == "running"


def test_up_of_absent_instance_without_template_is_not_found(interlock):
    """Nothing is guessed."""
    assert interlock("up", "web").returncode == 4


def test_up_whose_start_fails_leaves_it_created(interlock, state):
    """What was created stays; the next `up` only starts."""
    failed = interlock("up", "web", "-t", "tiny", "--driver", "simulated", orders={"start": {"error": "no"}})
    assert failed.returncode == 6
    assert state() == "created"
