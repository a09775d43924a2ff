"""`interlock provision` runs the scripts again; a guest whose script failed keeps running."""

import json

import pytest

from interlock.fsm.states import State

BROKEN = {"degraded": "script 001-system ended with status 3"}


def test_start_of_guest_in_which_a_script_fails_ends_with_6_and_runs(interlock, bring, state, history):
    """The guest answers, so the instance runs; exit code, error and `list` say what failed."""
    bring(State.created)
    done = interlock("--log-format", "human", "start", "web", orders={"start": BROKEN})
    assert (done.returncode, state(), history()[-1]) == (6, "running", ("start", "done"))
    assert "degraded: script 001-system ended with status 3\nerror: degraded\n" in done.stderr
    assert "running · degraded: script 001-system ended with status 3" in interlock("list").stdout


@pytest.mark.parametrize("command", [["start"], ["up"], ["up", "--template", "tiny"]])
def test_start_of_degraded_guest_that_runs_ends_with_6(interlock, bring, command):
    """A command that starts a degraded instance exits with 6, so that a script notices."""
    bring(State.created)
    interlock("start", "web", orders={"start": BROKEN})
    done = interlock("--log-format", "human", command[0], "web", *command[1:])
    assert (done.returncode, "error: degraded\nscript 001-system ended" in done.stderr) == (6, True)


def test_provision_of_degraded_guest_mends_it(interlock, bring, history):
    """When all scripts succeed, the instance is no longer degraded."""
    bring(State.created)
    interlock("start", "web", orders={"start": BROKEN})
    assert interlock("provision", "web").returncode == 0
    assert history()[-1] == ("provision", "done")
    assert "degraded" not in interlock("list").stdout


def test_provision_that_fails_again_ends_with_6(interlock, bring, state):
    """The error carries the driver's message, in JSON too."""
    bring(State.running)
    done = interlock("--log-format", "json", "provision", "web", orders={"provision": BROKEN})
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, state()) == (6, "running")
    assert [line["event"] for line in said[-2:]] == ["transition_degraded", "error"]
    assert (said[-1]["reference"], said[-1]["message"]) == ("degraded", BROKEN["degraded"])


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_provision_of_instance_that_is_down_is_refused(interlock, bring, source):
    """`provision` needs a running guest, and the hint starts it."""
    bring(source)
    done = interlock("provision", "web")
    assert (done.returncode, "interlock start web && interlock provision web" in done.stderr) == (3, True)


def test_stop_calls_a_provision_off(interlock, begin, bring, at_work, state, history):
    """`stop` cancels a running `provision`."""
    bring(State.running)
    provisioning = begin("provision", "web", orders={"provision": {"hang": True}})
    at_work()
    assert interlock("stop", "web").returncode == 0
    assert (provisioning.wait(30), state()) == (130, "stopped")
    assert history()[-2:] == [("provision", "failed"), ("stop", "done")]
