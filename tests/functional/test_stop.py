"""`interlock stop`: asks the guest to shut down, ends it by force after a deadline, and says which happened."""

import json

import pytest

from interlock.fsm.states import State


def test_stop_of_running_instance_says_how_it_ended(interlock, bring, state):
    """The outcome says whether the guest shut down or was ended."""
    bring(State.running)
    outcome = json.loads(interlock("stop", "web", "--format", "json").stdout)
    assert (outcome["state"], outcome["detail"]) == ("stopped", "guest shut down")
    assert state() == "stopped"


def test_stop_of_deaf_guest_ends_it_at_the_deadline(interlock, bring):
    """A guest that ignores the request is ended at the deadline."""
    bring(State.running)
    done = interlock("stop", "web", "--timeout", "0.1", "--format", "json", orders={"stop": {"hang": True}})
    assert json.loads(done.stdout)["detail"] == "ended by force: the guest did not shut down in 0.1 s"


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_stop_of_instance_that_is_down_changes_nothing(interlock, bring, history, source):
    """`stop` of an instance that is down succeeds."""
    bring(source)
    before = history()
    assert interlock("stop", "web").returncode == 0
    assert history() == before


def test_stop_with_force_is_the_transition_kill(interlock, bring, history):
    """`stop --force` is the row `kill`, and the history says so."""
    bring(State.running)
    assert interlock("stop", "web", "--force", orders={"stop": {"hang": True}}).returncode == 0
    assert history()[-1] == ("kill", "done")


def test_stop_of_guest_that_panicked_finds_it_stopped(interlock, bring, home, history):
    """An unexpected exit is recorded before the request is judged."""
    bring(State.running)
    record = home.directory("web") / "machine.json"
    machine = {**json.loads(record.read_text()), "alive": False, "exit_reason": "guest panicked"}
    record.write_text(json.dumps(machine))
    assert interlock("stop", "web").returncode == 0
    assert history()[-1] == ("exited", "done")
