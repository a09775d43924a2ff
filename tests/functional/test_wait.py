"""`interlock wait`: waits until an instance meets a condition, whichever process brings that about."""

import json

import pytest

from interlock import Trigger
from interlock.fsm.states import State


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        (State.absent, "absent"),
        (State.created, "created"),
        (State.running, "running"),
        (State.running, "ready"),
        (State.stopped, "stopped"),
    ],
)
def test_wait_for_what_is_so_already_succeeds_at_once(interlock, bring, state, condition):
    """Nothing needs to happen; programs get the record."""
    bring(state)
    done = interlock("wait", "web", "--for", condition, "--timeout", "0", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, str(state))


def test_wait_ends_when_another_process_brings_it_about(begin, bring, at_work, interlock):
    """A start in progress is not yet running."""
    bring(State.created)
    starter = begin("start", "web", orders={"start": {"hang": True}})
    at_work()
    assert interlock("wait", "web", "--for", "running", "--timeout", "0").returncode == 7
    waiter = begin("wait", "web", "--for", "created")
    assert waiter.poll() is None
    starter.terminate()
    assert waiter.wait(timeout=300) == 0


def test_wait_tells_degraded_from_ready(interlock, bring):
    """A guest in which something failed is running, but not ready."""
    bring(State.created)
    interlock("start", "web", orders={"start": {"degraded": "script 001 failed"}})
    assert interlock("wait", "web", "--for", "degraded", "--timeout", "0").returncode == 0
    assert interlock("wait", "web", "--for", "running", "--timeout", "0").returncode == 0
    done = interlock("wait", "web", "--timeout", "0")
    assert (done.returncode, '"web" is not ready after 0 s; it is running' in done.stderr) == (7, True)


def test_wait_for_what_is_absent_fails_at_once(interlock):
    """Nobody is creating it: a mistyped name is not waited for."""
    done = interlock("wait", "web", "--for", "stopped")
    assert (done.returncode, 'there is no instance "web"' in done.stderr) == (4, True)


def test_wait_for_an_instance_that_is_deleted_meanwhile_fails(begin, bring, vms):
    """A deleted instance will not become ready."""
    bring(State.created)
    waiter = begin("wait", "web")
    vms.engine.fire("web", Trigger.delete)
    assert waiter.wait(timeout=300) == 4
