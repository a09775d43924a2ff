"""`interlock snapshot`: moments of a disk, kept, listed as a tree, and brought back."""

import json

import pytest

from interlock.fsm.states import AT_REST, State


@pytest.mark.parametrize("state", AT_REST)
def test_snapshot_is_taken_listed_restored_and_deleted(interlock, bring, state):
    """Each says what it did, and with which snapshot."""
    bring(state)
    taken = interlock("snapshot", "create", "web", "one")
    assert (taken.returncode, taken.stderr.splitlines()[-1].endswith(": one")) == (0, True)
    assert interlock("snapshot", "create", "web", "two").returncode == 0
    restored = interlock("snapshot", "restore", "web", "one", "--format", "json")
    assert json.loads(restored.stdout)["detail"] == "one"
    assert interlock("snapshot", "create", "web", "other").returncode == 0
    rows = [line.split("  2")[0].rstrip() for line in interlock("snapshot", "list", "web").stdout.splitlines()[1:]]
    assert rows == ["one", "  two", "  other *"]
    shown = json.loads(interlock("snapshot", "show", "web", "other", "--format", "json").stdout)
    assert (shown["tag"], shown["parent"], shown["current"], shown["depth"]) == ("other", "one", True, 1)
    assert interlock("snapshot", "delete", "web", "one").returncode == 0
    listed = interlock("snapshot", "list", "web", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["parent"] for line in listed] == [None, None]


def test_snapshot_without_a_tag_is_called_after_the_time(interlock, bring):
    """What it is called is said."""
    bring(State.stopped)
    said = json.loads(interlock("snapshot", "create", "web", "--format", "json").stdout)
    assert said["detail"] in interlock("snapshot", "list", "web").stdout


def test_snapshot_of_a_running_instance_is_refused_with_what_to_type(interlock, bring):
    """Its disk is being written to."""
    bring(State.running)
    refused = interlock("snapshot", "create", "web", "one")
    assert refused.returncode != 0
    assert "interlock stop web && interlock snapshot create web" in refused.stderr


@pytest.mark.parametrize("verb", ["show", "restore", "delete"])
def test_unknown_snapshot_is_not_found(interlock, bring, verb):
    """The exit code is that of what is not there, and the hint lists what is."""
    bring(State.stopped)
    refused = interlock("snapshot", verb, "web", "none")
    assert (refused.returncode, "interlock snapshot list web" in refused.stderr) == (4, True)
