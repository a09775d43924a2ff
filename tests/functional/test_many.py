"""Commands that take several instances: how they are chosen, that they run at once, and the exit code."""

import json
import signal

import pytest

from interlock import Trigger
from interlock.fsm.states import State


@pytest.fixture
def three(vms):
    """Make the instances a, b and c, of which b runs."""
    for name in ("a", "b", "c"):
        vms.create(name, "tiny", driver="simulated")
    vms.start("b")


@pytest.fixture
def states(vms):
    """Return a function that returns name → state of all instances."""
    return lambda: {status.name: str(status.state) for status in vms.instances()}


@pytest.mark.usefixtures("three")
def test_start_of_several_starts_each_and_prints_each(interlock, states):
    """Each result is printed as it comes, including that of the instance that already runs."""
    done = interlock("start", "a", "b", "c", "--format", "json")
    outcomes = {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert {name: record["changed"] for name, record in outcomes.items()} == {"a": True, "b": False, "c": True}
    assert (done.returncode, states()) == (0, dict.fromkeys("abc", "running"))


@pytest.mark.usefixtures("three")
def test_failure_of_one_stops_no_other_and_gives_the_exit_code(interlock, vms, states):
    """Each failure names its instance; the exit code is that of the first in the order of the arguments."""
    vms.engine.fire("c", Trigger.start)
    vms.engine.fire("c", Trigger.protect)
    done = interlock("--log-format", "json", "reset", "a", "b", "nope", "c")
    errors = {
        record["instance"]: record["reference"]
        for record in map(json.loads, done.stderr.splitlines())
        if record["event"] == "error"
    }
    assert errors == {"b": "illegal-transition", "nope": "not-found", "c": "illegal-transition"}
    assert done.returncode == 3
    assert states() == {"a": "created", "b": "running", "c": "running"}
    assert interlock("reset", "nope", "b").returncode == 4


@pytest.mark.usefixtures("three")
def test_one_that_hangs_holds_up_no_other(interlock, vms, states):
    """They are worked on at the same time: the guest that does not answer is killed at its deadline."""
    vms.start("a")
    done = interlock("stop", "--all", "--timeout", "0.2", "--format", "json", orders={"stop": {"hang": True}})
    assert done.returncode == 0
    assert states() == {"a": "stopped", "b": "stopped", "c": "created"}
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.usefixtures("three")
def test_filter_chooses_by_what_list_prints(interlock, states):
    """A pattern can match any key of the record; several conditions must all hold."""
    assert interlock("start", "--filter", "state=created", "--filter", "name=[bc]").returncode == 0
    assert states() == {"a": "created", "b": "running", "c": "running"}
    assert interlock("kill", "--filter", "protected=false", "--filter", "reason=null").returncode == 0
    assert states() == {"a": "created", "b": "stopped", "c": "stopped"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the instances, or choose them with --all or --filter"),
        (("a", "--all"), "but not both"),
        (("a", "--filter", "state=running"), "but not both"),
        (("--filter", "colour=red"), "expected KEY=PATTERN, where KEY is one of accelerator, alive, arch"),
        (("--filter", "state"), "expected KEY=PATTERN"),
    ],
)
def test_mistake_in_the_choice_touches_nothing(interlock, vms, arguments, words):
    """A choice that is not clear is a usage error."""
    vms.create("a", "tiny", driver="simulated")
    done = interlock("start", *arguments)
    assert (done.returncode, words in done.stderr.replace("\n", " ")) == (2, True)
    assert vms.status("a").state is State.created


def test_all_of_nothing_succeeds_and_says_so(interlock):
    """A cleanup script need not know whether any instance exists."""
    done = interlock("delete", "--all", "--force")
    assert (done.returncode, "no instance exists: nothing to delete" in done.stderr) == (0, True)


@pytest.mark.usefixtures("three")
def test_signal_calls_all_of_them_off_once(begin, vms, until, states):
    """Each start is undone, and the program says once that it was interrupted."""
    process = begin("start", "a", "c", orders={"start": {"hang": True}})
    until(lambda: all((op := vms.status(name).operation) and "simulated" in op.step for name in ("a", "c")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.count("error: ") == 1
    assert said.count(" failed after ") == 2
    assert states() == {"a": "created", "b": "running", "c": "created"}


def test_name_given_twice_is_asked_once(interlock, vms):
    """`start web web` is `start web`."""
    vms.create("web", "tiny", driver="simulated")
    done = interlock("start", "web", "web", "--format", "json")
    assert [json.loads(line)["changed"] for line in done.stdout.splitlines()] == [True]
