"""`interlock clone`: another instance with a copy of the disk."""

import json

import pytest
from asking import COPY

from interlock.fsm.states import AT_REST, State
from interlock.host.locks import Lock


@pytest.mark.parametrize("source", AT_REST)
@pytest.mark.parametrize("arguments", [(COPY,), ("--as", COPY), (COPY, "--full")])
def test_clone_makes_another_instance_and_both_remember(interlock, bring, vms, history, source, arguments):
    """The copy is created by its own `create`; the original stays in its state."""
    bring(source)
    done = interlock("clone", "web", *arguments)
    assert done.returncode == 0
    assert 'cloned "web" in ' in done.stderr
    assert [vms.status(name).state for name in ("web", COPY)] == [source, State.created]
    assert history()[-1] == ("clone", "done")
    last = list(vms.history(COPY))[-1]
    assert (last.trigger, last.source, last.detail) == ("create", "absent", 'a clone of "web"')


def test_clone_has_a_spec_of_its_own(interlock, bring, vms):
    """Only the fields that identify the instance differ."""
    bring(State.created)
    assert interlock("clone", "web", COPY).returncode == 0
    web, copy = vms.status("web").spec.to_json(), vms.status(COPY).spec.to_json()
    assert (copy["hostname"], copy["origin"]) == (COPY, "clone of web")
    assert {key for key in web if web[key] != copy[key]} == {"hostname", "instance_id", "created_at", "origin"}


def test_clone_says_it_as_json(interlock, bring):
    """The outcome is the original's, and names the copy."""
    bring(State.stopped)
    said = json.loads(interlock("clone", "web", COPY, "--format", "json").stdout)
    assert (said["name"], said["trigger"], said["state"]) == ("web", "clone", "stopped")
    assert said["detail"] == f'the copy is "{COPY}"'


def test_clone_to_a_name_that_is_taken_is_refused(interlock, bring, history):
    """Nothing is begun and nothing is recorded; the instance's own name counts as taken too."""
    bring(State.stopped)
    assert interlock("clone", "web", COPY).returncode == 0
    before = history()
    for name in (COPY, "web"):
        done = interlock("clone", "web", name)
        assert done.returncode == 3
        assert f'instance "{name}" already exists' in done.stderr
    assert history() == before


def test_clone_needs_one_name(interlock, bring):
    """No name and two names are both refused."""
    bring(State.stopped)
    assert [interlock("clone", "web", *given).returncode for given in ((), ("a", "--as", "b"), ("../a",))] == [2, 2, 2]


def test_clone_of_a_protected_instance_is_not_protected(interlock, bring, vms):
    """Copying destroys nothing, and protection applies to one instance."""
    bring(State.stopped)
    vms.protect("web")
    assert interlock("clone", "web", COPY).returncode == 0
    assert (vms.status("web").protected, vms.status(COPY).protected) == (True, False)


def test_clone_that_fails_leaves_no_copy(interlock, bring, vms, home):
    """The copy's name is free again; the original is as before, and can be cloned."""
    bring(State.stopped)
    done = interlock("clone", "web", COPY, orders={"copy": {"error": "the disk is on fire"}})
    assert (done.returncode, vms.status(COPY).state) == (6, State.absent)
    assert not home.lock(COPY).exists()
    assert vms.status("web").state is State.stopped
    assert interlock("clone", "web", COPY).returncode == 0


@pytest.mark.parametrize("verb", ["clone", "rename"])
def test_name_to_appear_that_another_process_holds_is_busy(interlock, bring, home, history, verb):
    """Two clones to each other's names would deadlock: the second lock is refused, not waited for."""
    bring(State.stopped)
    before = history()
    with Lock(home.lock(COPY)) as lock:
        assert lock.acquire()
        done = interlock(verb, "web", COPY)
    assert done.returncode == 5
    assert f'instance "{COPY}" is held by' in done.stderr
    assert history() == before
