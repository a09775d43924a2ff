"""`Interlock(host=...)`: the API, over a real sshd with another Interlock on the other side."""

import json

import pytest

from interlock import (
    CancelledError,
    DeadlineError,
    DriverError,
    HostError,
    IllegalTransitionError,
    Interlock,
    InvalidTemplateError,
    NoInterlockError,
    NotFoundError,
    SimulatedDriver,
    State,
    Trigger,
    UsageError,
    Wishes,
    aio,
)

HANGS = '{"start": {"hang": true}}'
TEMPLATE = {"images": [{"location": "build:tiny"}], "cpus": 3}


@pytest.fixture
def heard():
    """Return the list that receives the events."""
    return []


@pytest.fixture
def afar(other, heard):
    """Return the API on the other host's instances."""
    return Interlock(host=other.url, on_event=heard.append)


@pytest.fixture
def there(other):
    """Return the API on the other host's home, used directly."""
    return Interlock(other.home)


def test_class_derived_from_the_api_refuses_another_host():
    """It would act on this host's instances, which may have the same names."""

    class Mine(Interlock):
        pass

    assert Mine(host="local").status("web").state is State.absent
    with pytest.raises(UsageError, match="Mine, a class derived from Interlock, acts on this host only"):
        Mine(host="ssh://other")


def test_life_of_an_instance_returns_what_the_api_returns_here(afar, other, there, heard):
    """Outcomes, statuses and events are the same records; a dry run does nothing."""
    made = afar.create("web", TEMPLATE, Wishes(memory_bytes=512 << 20, edits=("disk=2GiB",)))
    assert (made.trigger, made.state, made.changed) == (Trigger.create, State.created, True)
    steps = Interlock(host=other.url, dry_run=True).start("web").steps
    assert [step.trigger for step in steps] == [Trigger.start]
    assert afar.start("web").state is State.running
    assert afar.status("web").spec == there.status("web").spec
    assert [status.name for status in afar.instances()] == ["web"]
    assert [str(line) for line in afar.history("web")] == [str(line) for line in there.history("web")]
    assert afar.can("web")[0].instance == "web"
    assert (afar.stop("web").changed, afar.stop("web").changed) == (True, False)
    afar.start("web")
    forked = afar.fork("web", "one", "two")
    assert (forked.instance, forked.trigger, forked.state) == ("web", Trigger.fork, State.running)
    assert [there.status(name).state for name in ("one", "two")] == [State.created] * 2
    assert afar.stop("web").changed
    assert afar.clone("web", "copy").state is State.stopped
    assert (afar.rename("copy", "twin").instance, afar.edit("twin", "cpus=5").changed) == ("twin", True)
    assert there.status("twin").spec.cpus == 5
    assert afar.migrate("twin", "node2").detail == "to node2"
    assert (afar.migrate("twin", failover=True).trigger, list(there.history("twin"))[-1].asked) == (
        Trigger.migrate,
        {"failover": True},
    )
    with pytest.raises(NotFoundError, match='there is no cluster "west"'):
        afar.nodes("west")
    assert afar.delete("twin", force=True).state is State.absent
    assert {str(event.happening) for event in heard} >= {"transition_begun", "transition_step", "transition_done"}
    assert afar.status("nobody").state is State.absent


def test_error_is_raised_as_the_class_that_it_is_there(afar, there):
    """Its hint is the command to type on this host."""
    there.create("web", "tiny", driver="simulated")
    there.start("web")
    with pytest.raises(IllegalTransitionError, match="is running") as refused:
        afar.delete("web")
    assert refused.value.hint.startswith("interlock --host ssh://other stop web")
    with pytest.raises(DeadlineError):
        afar.wait_for("web", "stopped", timeout_s=0.1)


def test_host_without_interlock_is_an_error_of_its_own(afar, other):
    """As on the command line."""
    other.program("interlock", "exit 127")
    with pytest.raises(NoInterlockError):
        afar.start("web")


def test_watch_misses_nothing_from_its_call_on(afar, there):
    """It starts listening later, and the other host's clock may differ."""
    there.create("web", "tiny", driver="simulated")
    changes = afar.watch(["web"])
    there.start("web")
    triggers = [next(changes).line.trigger for _ in range(2)]
    changes.close()
    assert triggers == [Trigger.start, Trigger.start]


def test_call_that_is_called_off_is_undone_there(afar, there, other, until):
    """The call ends after the work there has been undone."""
    there.create("web", "tiny", driver="simulated")
    other.order(HANGS)
    begun = aio.Call(afar.start, "web")
    until(lambda: (operation := there.status("web").operation) and "simulated" in operation.step)
    begun.call_off()
    with pytest.raises(CancelledError):
        begun.future.result()
    assert there.status("web").operation is None


def test_listener_that_raises_calls_the_work_off_there(other, there, until):
    """The same happens with instances of this host."""
    there.create("web", "tiny", driver="simulated")
    other.order(HANGS)

    def listen(event):
        if event.step:
            raise CancelledError("enough")

    with pytest.raises(CancelledError, match="enough"):
        Interlock(host=other.url, on_event=listen).start("web")
    until(lambda: there.status("web").operation is None)


def test_command_in_a_guest_says_all_bytes(afar):
    """The command also gets its input; a non-zero status is not an error."""
    afar.create("web", TEMPLATE)
    afar.start("web")
    done = afar.run("web", ["uname", "-r"], input=b"\x00\xff")
    assert (done.status, done.stderr) == (127, b"the simulated guest has no answer to: uname -r\n")


@pytest.mark.parametrize(
    "ask",
    [
        lambda vms: vms.images,
        lambda vms: vms.logs("web"),
        lambda vms: vms.home,
        lambda vms: vms.clusters(),
        lambda vms: vms.create("web", "tiny", Wishes(start_timeout_s=1)),
        lambda _: Interlock("/home", host="ssh://other"),
        lambda _: Interlock(host="ssh://other", driver=SimulatedDriver(orders={}, memory={})),
    ],
)
def test_what_is_about_one_host_is_refused_by_name(afar, ask):
    """The error is a UsageError, not a missing attribute."""
    with pytest.raises(UsageError):
        ask(afar)


def test_fleet_of_a_file_here_is_made_there(afar, other, there, heard, tmp_path):
    """Plans and results are the same records as there; consent is asked for here, before anything is done."""
    (tmp_path / "mine.yaml").write_text("base: template:tiny\ncpus: 3\n")
    file, mine = tmp_path / "shop.yaml", {"fleet": "shop", "instances": [{"name": "web", "template": "./mine.yaml"}]}
    file.write_text(json.dumps(mine))
    planned, shown = afar.fleet(file), []
    assert planned.name == "shop"
    assert [(step.name, step.rows) for step in planned.status()] == [("web", (Trigger.create, Trigger.start))]
    assert planned.apply(agree=shown.extend) == []
    assert (shown, list(there.instances())) == (planned.status(), [])
    assert [result.step for result in Interlock(host=other.url, dry_run=True).fleet(file).apply()] == shown
    assert [result.done for result in planned.apply()] == [True]
    assert (there.status("web").spec.cpus, there.status("web").state) == (3, State.running)
    assert {event.trigger for event in heard} == {Trigger.create, Trigger.start}
    assert {name: [one.name for one in seen] for name, seen in afar.fleets().items()} == {"shop": ["web"]}

    mine["instances"][0]["cpus"] = 5
    grown = afar.fleet(
        mine | {"instances": [dict(mine["instances"][0], template=(tmp_path / "mine.yaml").read_text())]}
    )
    assert (grown.status()[0].edits, grown.status()[0].consent) == (("cpus=5",), True)
    with pytest.raises(UsageError, match="the plan deletes or restarts web"):
        grown.apply()
    assert [result.done for result in grown.apply(agree=bool)] == [True]
    assert there.status("web").spec.cpus == 5

    emptied = afar.fleet({"fleet": "shop", "instances": []})
    (extra,) = emptied.status()
    assert (extra.extra, extra.rows, emptied.status(prune=True)[0].deletes) == (True, (), True)
    assert [result.done for result in emptied.apply(prune=True, agree=bool)] == [True]
    assert list(there.instances()) == []


def test_fleet_that_fails_there_returns_each_error_with_its_instance(afar, other, there):
    """What succeeded stays; a file with a mistake is refused here, and one that the host refuses, there."""
    other.order('{"start": {"error": "no power"}}')
    fleet = {"fleet": "shop", "instances": [{"name": "web", "count": 2, "template": "tiny", "state": "running"}]}
    fleet["instances"].append({"name": "db", "template": "tiny", "state": "stopped"})
    web_1, web_2, db = afar.fleet(fleet).apply()
    assert [type(result.error) for result in (web_1, web_2)] == [DriverError] * 2
    assert "no power" in web_1.error.message
    assert (db.done, there.status("db").state) == (True, State.created)
    fleet["instances"][0]["driver"] = "none"
    with pytest.raises(HostError, match='there is no driver "none"'):
        afar.fleet(fleet | {"fleet": "other", "instances": [dict(fleet["instances"][0], name="x")]}).apply()
    with pytest.raises(InvalidTemplateError) as caught:
        afar.fleet({"fleet": "shop", "instances": [{"name": "web", "template": "./none.yaml"}]})
    assert "instances[0].template" in caught.value.details[0]


@pytest.mark.slow
def test_snapshots_are_the_same_records(afar, there):
    """They are sorted, the oldest first."""
    afar.create("web", TEMPLATE)
    for tag in ("one", "two"):
        assert afar.snapshot("web", tag).detail == tag
    assert afar.snapshots("web") == there.snapshots("web")
    afar.restore("web", "one")
    afar.discard("web", "two")
    assert [snapshot.tag for snapshot in there.snapshots("web")] == ["one"]
