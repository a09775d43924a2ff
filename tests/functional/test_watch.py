"""`interlock watch`: everything that any process does to instances, without gaps."""

import json
import signal

import pytest

from interlock import Trigger
from interlock.fsm.records import now
from interlock.fsm.states import State


@pytest.fixture
def watcher(begin):
    """Return a function that begins to watch and returns two functions, `read` and `end`.

    `read` waits until the watcher has reported enough; `end` also ends the watcher and returns what it reported. With
    `since`, an earlier time, and `known`, the function returns once the watcher has reported everything up to `known`.
    """

    def watch(*arguments, since=None, known=None):
        process = begin("watch", *arguments, "--since", since or now(), "--format", "json")
        seen = []

        def read(enough):
            while not (seen and enough(seen)):
                seen.append(json.loads(process.stdout.readline()))

        def end(enough):
            read(enough)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=300)
            assert (process.returncode, said) == (130, "")
            return seen

        if known:
            read(known)
            seen.clear()
        return read, end

    return watch


def last_is(trigger, phase="done"):
    """Return a condition: the last record is the end of `trigger`."""
    return lambda seen: (seen[-1].get("trigger"), seen[-1].get("phase")) == (trigger, phase)


def events(records):
    """Return the events in short: (trigger, event), without steps."""
    return [(it.get("trigger"), it["event"]) for it in records if it["event"] != "transition_step"]


LIFE = [
    ("create", "transition_begun"),
    ("create", "transition_done"),
    ("start", "transition_begun"),
    ("start", "transition_done"),
    ("kill", "transition_begun"),
    ("kill", "transition_done"),
    ("delete", "transition_begun"),
    ("delete", "transition_done"),
]


def test_watch_sees_a_whole_life_twice(watcher, interlock, vms):
    """It sees every line, even the last one, which a deletion removes, and the next instance of the same name."""
    began = now()
    vms.create("other", "tiny", driver="simulated")
    wait, end = watcher(since=began, known=last_is("create"))  # otherwise a life may end before the watcher is ready
    for number in (1, 2):
        interlock("create", "web", "--template", "tiny", "--driver", "simulated")
        # Without this wait the watcher may miss the whole life.
        wait(lambda seen, number=number: events(seen).count(("create", "transition_done")) == number)
        interlock("start", "web")
        interlock("delete", "web", "--force")
    seen = end(lambda seen: events(seen).count(("delete", "transition_done")) == 2)
    assert events(seen) == [*LIFE, *LIFE]
    assert [record["seq"] for record in seen].count(1) == 2


def test_watch_since_a_line_begins_after_it(begin, bring, vms):
    """A watcher that was away gives the number of the last line that it saw, and misses nothing."""
    bring(State.running)
    vms.engine.fire("web", Trigger.kill)
    lines = list(vms.history("web"))
    process = begin("watch", "web", "--since", "3", "--format", "json")
    seen = [json.loads(process.stdout.readline()) for _ in lines[3:]]
    assert [record["seq"] for record in seen] == [line.seq for line in lines[3:]]


def test_watch_since_a_time_merges_the_instances(begin, vms):
    """The lines of several instances come in the order of their times."""
    for name in ("a", "b"):
        vms.create(name, "tiny", driver="simulated")
    for name in ("a", "b", "a"):
        vms.protect(name)
    count = sum(len(list(vms.history(name))) for name in ("a", "b"))
    process = begin("watch", "--since", "1h", "--format", "json")
    seen = [json.loads(process.stdout.readline()) for _ in range(count)]
    times = [record["time"] for record in seen]
    assert times == sorted(times)
    assert {record["name"] for record in seen} == {"a", "b"}


def test_watch_tells_a_change_of_condition_and_an_exit(watcher, bring, home):
    """Changes without a transition are reported too: a pause, and a machine that went down."""
    bring(State.running)
    _, end = watcher("web")
    record = home.directory("web") / "machine.json"
    machine = json.loads(record.read_text())
    record.write_text(json.dumps({**machine, "condition": "paused: the host's disk is full"}))
    seen = end(lambda seen: seen[-1]["event"] == "condition_changed")
    assert seen[-1]["condition"] == "paused: the host's disk is full"
    assert seen[-1]["message"] == '"web" is paused: the host\'s disk is full'
    _, end = watcher("web")
    record.write_text(json.dumps({**machine, "alive": False, "exit_reason": "guest panicked"}))
    seen = end(last_is("exited"))
    assert (seen[-1]["event"], seen[-1]["message"]) == ("transition_observed", '"web" exited: guest panicked')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "3"), "is only valid for a single instance"),
        (("web", "--since", "yesterday"), "expected a line's number, 10m, 2h"),
    ],
)
def test_watch_refuses_an_invalid_moment(interlock, arguments, words):
    """The error names the mistake."""
    done = interlock("watch", *arguments)
    assert (done.returncode, words in done.stderr.replace("\n", " ")) == (2, True)


@pytest.mark.parametrize("watched", [(), ("web",)])
def test_watch_follows_an_instance_that_is_renamed(watcher, interlock, bring, watched):
    """Each line is reported once, since the rename under the new name; a new instance with the old name is seen too."""
    began = now()
    bring(State.stopped)
    _, end = watcher(*watched, since=began, known=last_is("stop"))  # a later watcher finds no `web`
    interlock("rename", "web", "site")
    interlock("start", "site")
    interlock("create", "web", "--template", "tiny", "--driver", "simulated")
    interlock("protect", "web")
    seen = end(last_is("protect"))
    assert [(it["name"], it["trigger"]) for it in seen if it.get("phase") == "done"] == [
        ("site", "rename"),
        ("site", "start"),
        ("web", "create"),
        ("web", "protect"),
    ]
    assert len({(it["name"], it["trigger"], it["seq"]) for it in seen if "seq" in it}) == len(
        [it for it in seen if "seq" in it]
    )
    assert next(it for it in seen if it.get("phase") == "done")["former"] == "web"
