"""`interlock rename`: another name for an instance that is not running."""

import json
import os
import re

import pytest
from asking import COPY

from interlock.errors import NotFoundError
from interlock.fsm.journal import Journal
from interlock.fsm.states import AT_REST, State


@pytest.mark.parametrize("source", AT_REST)
def test_rename_moves_the_instance_with_its_history(interlock, bring, vms, source):
    """Only the new name exists afterwards, and it has the old name's history."""
    bring(source)
    before = [line.seq for line in vms.history("web")]
    done = interlock("rename", "web", COPY)
    assert done.returncode == 0
    assert re.search(f'renamed "web" in .* s: from "web" to "{COPY}"', done.stderr)
    assert (vms.status("web").state, vms.status(COPY).state) == (State.absent, source)
    lines = list(vms.history(COPY))
    assert [line.seq for line in lines][: len(before)] == before
    assert [(line.trigger, line.phase, line.former) for line in lines[-1:]] == [("rename", "done", "web")]
    assert interlock("start", COPY).returncode == 0


def test_rename_leaves_nothing_at_the_old_name(interlock, bring, home):
    """No directory, lock or socket is left: the name can be given to another instance."""
    bring(State.stopped)
    home.sockets("web").mkdir(parents=True, exist_ok=True)
    assert interlock("rename", "web", COPY).returncode == 0
    assert not any(os.path.lexists(path) for path in (home.directory("web"), home.lock("web"), home.sockets("web")))
    bring(State.created)
    assert interlock("list", "-q").stdout.split() == [COPY, "web"]


def test_rename_leads_paths_of_the_spec_along_and_keeps_the_rest(interlock, bring, home):
    """Paths into its own directory are rewritten; fields that a newer version wrote stay."""
    bring(State.created)
    path = home.directory("web") / "spec.json"
    spec = json.loads(path.read_text()) | {"message": f"export S={home.directory('web')}/sock/s", "of_tomorrow": [1]}
    path.write_text(json.dumps(spec))
    assert interlock("rename", "web", COPY).returncode == 0
    now = json.loads((home.directory(COPY) / "spec.json").read_text())
    assert now.pop("message") == f"export S={home.directory(COPY)}/sock/s"
    assert now == {key: value for key, value in spec.items() if key != "message"}


def test_rename_says_it_as_json(interlock, bring):
    """The outcome is the instance's, under its new name."""
    bring(State.stopped)
    said = json.loads(interlock("rename", "web", COPY, "--format", "json").stdout)
    assert (said["name"], said["trigger"], said["state"]) == (COPY, "rename", "stopped")


def test_rename_of_a_running_instance_is_refused_with_what_to_type(interlock, bring, history):
    """The hypervisor and its connection carry the instance's name."""
    bring(State.running)
    done = interlock("rename", "web", COPY)
    assert done.returncode == 3
    assert "hint: interlock stop web && interlock rename web copy" in done.stderr
    assert history()[-1] == ("start", "done")


@pytest.mark.parametrize("new", ["web", COPY, "../a"])
def test_rename_to_a_name_that_cannot_be_is_refused(interlock, bring, vms, history, new):
    """A taken name, its own name and an invalid name are refused, and nothing is begun."""
    bring(State.stopped)
    vms.clone("web", COPY)
    before = history()
    assert interlock("rename", "web", new).returncode in (2, 3)
    assert history() == before


def test_old_name_says_where_the_instance_went(interlock, bring, vms):
    """Commands and programs that come too late read the new name, even after two renames."""
    bring(State.stopped)
    vms.rename("web", "site")
    vms.rename("site", COPY)
    for command in (("start", "web"), ("stop", "site"), ("wait", "web", "--for", "running")):
        done = interlock(*command)
        assert done.returncode == 4
        assert f'any more; it was renamed to "{COPY}"' in done.stderr
    with pytest.raises(NotFoundError, match=f'renamed to "{COPY}"'):
        vms.start("web")


def test_process_that_waits_for_the_old_name_learns_the_new_one(interlock, begin, bring, home, at_work):
    """It gets the lock of a name that no longer exists; it starts nothing, and does not create the name."""
    bring(State.stopped)
    until_file = home.root / "go"
    renaming = begin("rename", "web", COPY, orders={"move": {"until": str(until_file)}})
    at_work()
    waiting = begin("wait", "web", "--for", "running")
    busy = interlock("start", "web")
    assert (busy.returncode, 'renaming "web" has been under way' in busy.stderr) == (5, True)
    until_file.touch()
    assert renaming.wait(timeout=60) == 0
    assert waiting.wait(timeout=60) == 4
    assert f'it was renamed to "{COPY}"' in waiting.stderr.read()


def test_rename_that_fails_leaves_the_old_name(interlock, bring, vms, home, history):
    """Nothing has moved, and the new name is free."""
    bring(State.stopped)
    done = interlock("rename", "web", COPY, orders={"move": {"error": "the disk is on fire"}})
    assert (done.returncode, vms.status("web").state, history()[-1]) == (6, State.stopped, ("rename", "failed"))
    assert not home.lock(COPY).exists()
    assert interlock("rename", "web", COPY).returncode == 0


def test_protected_instance_can_be_renamed_and_stays_protected(interlock, bring, vms):
    """A rename destroys nothing."""
    bring(State.stopped)
    vms.protect("web")
    assert interlock("rename", "web", COPY).returncode == 0
    assert vms.status(COPY).protected


def test_journal_that_is_damaged_hides_no_other_name(interlock, bring, vms, home):
    """A request for a missing name is answered, whatever state the other instances are in."""
    bring(State.stopped)
    vms.rename("web", COPY)
    bring(State.stopped)
    with Journal(home.directory("web")).path.open("ab") as journal:
        journal.write(b'{"former": garbage\n')
    assert interlock("start", "nothing").returncode == 4
