"""`interlock fork`: copies of a running instance that continue from its present state."""

import json

import pytest
from asking import COPY

from interlock.drivers.contract import FORKED, SAVED
from interlock.drivers.simulated import FILE, SimulatedDriver
from interlock.errors import DriverError
from interlock.fsm.states import State
from interlock.host.locks import Lock

NAMES = ("one", "two", "three")


def boots(home, name):
    """Return how often the machine of `name` has booted with its present disk."""
    return json.loads((home.directory(name) / FILE).read_bytes())["boots"]


@pytest.mark.parametrize("arguments", [NAMES, ("--as", *NAMES), ("two", "three", "--as", "one")])
def test_fork_makes_copies_that_run_without_a_boot(interlock, bring, vms, home, history, arguments):
    """Each copy continues from the memory of the original, which keeps running; every history records it."""
    bring(State.running)
    done = interlock("fork", "web", *arguments)
    assert done.returncode == 0
    assert 'forked "web" in ' in done.stderr
    assert [vms.status(name).state for name in ("web", *NAMES)] == [State.running] * 4
    assert [boots(home, name) for name in ("web", *NAMES)] == [1] * 4
    assert history()[-1] == ("fork", "done")
    created, *_, started = vms.history("two")
    assert (created.trigger, started.trigger) == ("create", "start")
    assert 'a fork of "web"' in [line.detail for line in vms.history("two")]
    assert not (home.directory("web") / FORKED).exists()
    assert not any((home.directory(name) / SAVED).exists() for name in ("web", *NAMES))


def test_fork_no_start_makes_copies_that_start_later_from_the_same_moment(interlock, bring, vms, home):
    """For programs that start the copies one by one or on demand."""
    bring(State.running)
    done = interlock("fork", "web", *NAMES, "--no-start", "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert [vms.status(name).state for name in ("web", *NAMES)] == [State.running, *([State.created] * 3)]
    assert interlock("start", *NAMES).returncode == 0
    assert [boots(home, name) for name in NAMES] == [1] * 3


def test_fork_has_a_spec_of_its_own(interlock, bring, vms):
    """Only the fields that identify the instance differ."""
    bring(State.running)
    assert interlock("fork", "web", COPY).returncode == 0
    web, copy = vms.status("web").spec.to_json(), vms.status(COPY).spec.to_json()
    assert (copy["hostname"], copy["origin"]) == (COPY, "fork of web")
    assert {key for key in web if web[key] != copy[key]} == {"hostname", "instance_id", "created_at", "origin"}


def test_fork_says_it_as_json(interlock, bring):
    """The first outcome is the original's, and names the copies; then comes the start of each."""
    bring(State.running)
    said = [json.loads(line) for line in interlock("fork", "web", *NAMES, "--format", "json").stdout.splitlines()]
    assert (said[0]["name"], said[0]["trigger"], said[0]["state"]) == ("web", "fork", "running")
    assert said[0]["detail"] == 'the copies are "one", "two", "three"'
    assert {(one["name"], one["trigger"], one["state"]) for one in said[1:]} == {
        (name, "start", "running") for name in NAMES
    }


@pytest.mark.parametrize("names", [(COPY, "web"), (COPY, "taken")])
def test_fork_to_a_name_that_is_taken_is_refused(interlock, bring, vms, history, names):
    """No copy is begun; the instance's own name counts as taken too."""
    bring(State.running)
    vms.create("taken", "tiny", driver="simulated") if "taken" in names else None
    before = history()
    done = interlock("fork", "web", *names)
    assert done.returncode == 3
    assert f'instance "{names[1]}" already exists' in done.stderr
    assert history() == before
    assert vms.status(COPY).state is State.absent


def test_fork_needs_names_that_differ(interlock, bring):
    """At least one name, and no name twice."""
    bring(State.running)
    assert [interlock("fork", "web", *given).returncode for given in ((), ("a", "--as", "a"), ("../a",))] == [2, 2, 2]


def test_fork_to_a_name_that_another_process_holds_is_busy(interlock, bring, home, history):
    """As with clone, the other process's lock is not waited for; the locks of the other names are released."""
    bring(State.running)
    before = history()
    with Lock(home.lock("two")) as lock:
        assert lock.acquire()
        done = interlock("fork", "web", *NAMES)
    assert done.returncode == 5
    assert 'instance "two" is held by' in done.stderr
    assert history() == before
    assert interlock("fork", "web", *NAMES).returncode == 0


def test_fork_that_cannot_catch_the_memory_leaves_no_copy_and_the_original_runs(interlock, bring, vms, home):
    """The names are free again, and the captured memory is deleted."""
    bring(State.running)
    done = interlock("fork", "web", *NAMES, orders={"catch": {"error": "the memory is on fire"}})
    assert (done.returncode, [vms.status(name).state for name in NAMES]) == (6, [State.absent] * 3)
    assert "the memory is on fire" in done.stderr
    assert (vms.status("web").state, vms.status("web").operation) == (State.running, None)
    assert not (home.directory("web") / FORKED).exists()


def test_fork_that_fails_at_a_copy_says_which_there_are(bring, vms, monkeypatch):
    """The copies made before the failure stay: somebody may already use them."""
    bring(State.running)
    adopt = SimulatedDriver.adopt

    def adopt_two(driver, site, original, report):
        if site.name == "three":
            raise DriverError("no room")
        adopt(driver, site, original, report)

    monkeypatch.setattr(SimulatedDriver, "adopt", adopt_two)
    with pytest.raises(DriverError, match="no room") as failed:
        vms.fork("web", *NAMES)
    assert failed.value.details == ('the copies are "one", "two"',)
    assert [vms.status(name).state for name in NAMES] == [State.created, State.created, State.absent]


def test_copy_that_does_not_start_is_ended_and_stops_no_other(interlock, bring, vms):
    """A copy that could not take its identity is not shown as running; the exit code reports the failure."""
    bring(State.running)
    done = interlock("fork", "web", *NAMES, orders={"start": {"error": "the guest did not take its new identity"}})
    assert done.returncode == 6
    assert [vms.status(name).state for name in ("web", *NAMES)] == [State.running, *([State.created] * 3)]
    assert done.stderr.count("the guest did not take its new identity") >= 3


def test_fork_of_a_protected_instance_is_not_protected(interlock, bring, vms):
    """Copying destroys nothing, and protection applies to one instance."""
    bring(State.running)
    vms.protect("web")
    assert interlock("fork", "web", COPY).returncode == 0
    assert (vms.status("web").protected, vms.status(COPY).protected) == (True, False)
