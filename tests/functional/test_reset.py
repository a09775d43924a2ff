"""`interlock reset`: makes a fresh disk, so that the next boot is a first boot."""

import json

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_reset_of_instance_that_is_down_gives_a_fresh_disk(interlock, bring, home, state, source):
    """After a reset the instance is `created`."""
    bring(source)
    assert interlock("reset", "web").returncode == 0
    assert state() == "created"
    assert json.loads((home.directory("web") / "machine.json").read_text())["boots"] == 0


def test_reset_of_running_instance_is_refused(interlock, bring, state):
    """`reset` of a running instance is refused; the hint stops it first."""
    bring(State.running)
    refused = interlock("reset", "web")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        3,
        "hint: interlock stop web && interlock reset web",
    )
    assert state() == "running"
