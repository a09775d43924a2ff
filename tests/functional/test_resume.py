"""`interlock resume`: lets a paused guest continue."""

import json

import pytest

from interlock.drivers.simulated import SimulatedDriver
from interlock.fsm.states import State


def test_resume_of_paused_guest_lets_it_go_on(interlock, bring, vms, history):
    """`list` no longer shows it as paused, and the history has the resume."""
    bring(State.running)
    SimulatedDriver().happen(vms.engine.site("web"), condition="paused: the host's disk is full")
    assert "running · paused: the host's disk is full" in interlock("list").stdout
    assert interlock("resume", "web").returncode == 0
    assert "paused" not in interlock("list").stdout
    assert history()[-1] == ("resume", "done")


@pytest.mark.parametrize("condition", [None, "degraded: script 1 failed"])
def test_resume_of_guest_that_is_not_paused_holds_and_says_so(interlock, bring, vms, history, condition):
    """Nothing was resumed, and neither the message, the history nor `can` says otherwise."""
    bring(State.running)
    SimulatedDriver().happen(vms.engine.site("web"), condition=condition)
    before = history()
    done = interlock("resume", "web", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, False)
    assert "nothing to resume" in done.stderr
    assert history() == before
    assert "already" in interlock("can", "web", "resume").stdout


def test_start_of_paused_guest_holds_and_resumes_nothing(interlock, bring, vms, history):
    """`start` of a paused instance does nothing: only `resume` lets the guest continue."""
    bring(State.running)
    SimulatedDriver().happen(vms.engine.site("web"), condition="paused: the host's disk is full")
    before = history()
    assert interlock("start", "web").returncode == 0
    assert "paused" in interlock("list").stdout
    assert history() == before


def test_resume_of_instance_that_is_down_is_refused(interlock, bring, state):
    """A stopped instance cannot be resumed; the hint starts it."""
    bring(State.stopped)
    done = interlock("resume", "web")
    assert (done.returncode, state()) == (3, "stopped")
    assert "interlock start web && interlock resume web" in done.stderr
