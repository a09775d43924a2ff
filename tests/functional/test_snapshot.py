"""`interlock snapshot`: snapshots of a disk, taken, listed as a tree, and restored."""

import json

import pytest

from interlock.fsm.records import SAVED
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import Trigger


@pytest.mark.parametrize("state", AT_REST)
def test_snapshot_is_taken_listed_restored_and_deleted(interlock, bring, state):
    """Each command says what it did, and with which snapshot."""
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
    """The outcome gives the tag."""
    bring(State.stopped)
    said = json.loads(interlock("snapshot", "create", "web", "--format", "json").stdout)
    assert said["detail"] in interlock("snapshot", "list", "web").stdout


@pytest.mark.parametrize("state", [State.stopped, State.running])
def test_moment_of_a_running_instance_is_kept_and_led_back_into(interlock, bring, state, history):
    """It runs again without a boot, and the history has each transition."""
    bring(State.running)
    assert interlock("snapshot", "create", "web", "one").returncode == 0
    assert interlock("list", "web", "-q").stdout == "web\n"
    shown = json.loads(interlock("snapshot", "show", "web", "one", "--format", "json").stdout)
    assert shown["memory_bytes"] > 0
    assert "256 MiB" in interlock("snapshot", "list", "web").stdout
    if state is State.stopped:
        interlock("stop", "web")
    restored = interlock("snapshot", "restore", "web", "one", "--format", "json")
    assert json.loads(restored.stdout)["state"] == "running"
    assert "resuming the simulated guest" in restored.stderr
    assert history()[-3:] == [
        ("stop" if state is State.stopped else "kill", "done"),
        ("restore", "done"),
        ("start", "done"),
    ]


def test_moment_is_restored_without_its_memory_where_that_is_asked_for(interlock, bring):
    """The instance is then stopped."""
    bring(State.running)
    interlock("snapshot", "create", "web", "one")
    refused = interlock("snapshot", "restore", "web", "one", "--cold")
    assert (refused.returncode, "interlock stop web" in refused.stderr) == (3, True)
    interlock("stop", "web")
    restored = interlock("snapshot", "restore", "web", "one", "--cold", "--format", "json")
    assert (json.loads(restored.stdout)["state"], restored.returncode) == ("stopped", 0)
    assert interlock("start", "web").returncode == 0


@pytest.mark.parametrize("state", [State.stopped, State.running])
@pytest.mark.parametrize("verb", ["show", "restore", "delete"])
def test_unknown_snapshot_is_not_found(interlock, bring, verb, state):
    """The exit code is that of not-found, and the hint lists the existing snapshots."""
    bring(state)
    refused = interlock("snapshot", verb, "web", "none")
    assert (refused.returncode, "interlock snapshot list web" in refused.stderr) == (4, True)


def test_restore_that_fails_in_the_middle_says_so_and_is_completed_by_the_same_again(interlock, bring, vms):
    """After the failure nobody knows which snapshot the disk comes from, so the list marks no snapshot as current."""
    bring(State.stopped)
    interlock("snapshot", "create", "web", "one")
    failed = interlock("snapshot", "restore", "web", "one", orders={"put_back": {"error": "no space left"}})
    assert (failed.returncode, "no space left" in failed.stderr) == (6, True)
    assert 'its disk may already be that of the snapshot "one"' in failed.stderr
    assert "hint: interlock snapshot restore web one" in failed.stderr
    assert [it.current for it in vms.snapshots("web")] == [False]
    assert interlock("snapshot", "restore", "web", "one").returncode == 0
    assert [it.current for it in vms.snapshots("web")] == [True]


def test_restore_that_was_killed_before_its_start_is_completed_by_the_same_again(interlock, bring, vms, history):
    """The snapshot's memory is already in place, so only the start is left to do."""
    bring(State.running)
    interlock("snapshot", "create", "web", "one")
    vms.stop("web")
    vms.engine.fire("web", Trigger.restore, tag="one")  # as by a command that is killed at this point
    interlock("start", "web", orders={"start": {"error": "killed"}})  # or during its start, with the memory still there
    (vms.home.directory("web") / SAVED).touch(0o600)
    assert vms.status("web").saved
    again = interlock("snapshot", "restore", "web", "one")
    assert (again.returncode, "resuming the simulated guest" in again.stderr) == (0, True)
    assert history()[-3:] == [("restore", "done"), ("start", "failed"), ("start", "done")]
