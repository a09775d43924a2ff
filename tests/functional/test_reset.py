"""`interlock reset`: a fresh disk, and the first boot lies ahead again."""

import json

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_reset_of_instance_that_is_down_gives_a_fresh_disk(interlock, bring, home, state, source):
    """Afterwards it has never booted."""
    bring(source)
    assert interlock("reset", "web").returncode == 0
    assert state() == "created"
    assert json.loads((home.directory("web") / "machine.json").read_text())["boots"] == 0


def test_reset_of_running_instance_is_refused(interlock, bring, state):
    """No disk is thrown away under a guest; the hint is the way there."""
    bring(State.running)
    refused = interlock("reset", "web")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        3,
        "hint: interlock stop web && interlock reset web",
    )
    assert state() == "running"
