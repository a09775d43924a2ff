"""Snapshots of an instance that is at rest: a tree of moments, each whole whatever becomes of the others."""

import json

import pytest

from interlock.drivers.simulated import FILE, SimulatedDriver
from interlock.errors import (
    DriverError,
    HostError,
    IllegalTransitionError,
    InvalidNameError,
    NotFoundError,
    ProtectedError,
)
from interlock.fsm import snapshots
from interlock.fsm.states import State
from interlock.fsm.table import Trigger


@pytest.fixture
def directory(home):
    return home.directory("web")


@pytest.fixture
def take(engine, bring):
    """Bring `web` to rest; return a function that takes a snapshot of it."""
    bring("web", State.stopped)
    return lambda tag: engine.fire("web", Trigger.snapshot, tag=tag)


@pytest.fixture
def run(engine):
    """Return a function that lets the guest write to its disk."""

    def run():
        engine.fire("web", Trigger.start)
        engine.fire("web", Trigger.stop)

    return run


def boots(directory):
    return json.loads((directory / FILE).read_bytes())["boots"]


def tree(directory):
    """Return each snapshot as (tag, parent), the current one as a third."""
    found = snapshots.listed(directory)
    return [(it.tag, it.parent) for it in found], next((it.tag for it in found if it.current), None)


def test_restore_brings_the_disk_back(engine, take, run, directory):
    """What was written since is gone, and the snapshot can be restored again."""
    assert take("one").detail == "one"
    for _ in range(2):
        run()
        assert boots(directory) == 2
        outcome = engine.fire("web", Trigger.restore, tag="one")
        assert (outcome.state, outcome.detail, boots(directory)) == (State.stopped, "one", 1)


def test_snapshots_are_a_tree(engine, take, run, directory):
    """Each comes from the one that was taken or restored before it; one that is discarded leaves its place."""
    for tag in ("one", "two", "three"):
        take(tag)
        run()
    engine.fire("web", Trigger.restore, tag="two")
    take("other")
    assert tree(directory) == ([("one", None), ("two", "one"), ("three", "two"), ("other", "two")], "other")
    engine.fire("web", Trigger.discard, tag="two")
    assert tree(directory) == ([("one", None), ("three", "one"), ("other", "one")], "other")
    engine.fire("web", Trigger.discard, tag="other")
    assert tree(directory) == ([("one", None), ("three", "one")], "one")
    engine.fire("web", Trigger.discard, tag="one")
    assert tree(directory) == ([("three", None)], None)


def test_reset_keeps_snapshots_and_comes_from_none(engine, take, directory):
    """The fresh disk is the image's."""
    take("one")
    engine.fire("web", Trigger.reset)
    assert tree(directory) == ([("one", None)], None)
    take("two")
    assert tree(directory) == ([("one", None), ("two", None)], "two")


def test_tag_that_is_taken_is_refused(take, engine):
    """A snapshot is never replaced, and nothing is begun that could only fail."""
    take("one")
    before = [*engine.history("web")]
    with pytest.raises(IllegalTransitionError, match='has a snapshot "one" already') as refused:
        take("one")
    assert refused.value.hint == "interlock snapshot list web"
    assert [*engine.history("web")] == before


@pytest.mark.parametrize("trigger", [Trigger.restore, Trigger.discard])
def test_unknown_tag_is_not_found(engine, take, trigger):
    """Whether or not there are others; nothing is begun."""
    take("one")
    before = [*engine.history("web")]
    with pytest.raises(NotFoundError, match='has no snapshot "two"') as missing:
        engine.fire("web", trigger, tag="two")
    assert missing.value.hint == "interlock snapshot list web"
    assert [*engine.history("web")] == before


@pytest.mark.parametrize("tag", ["", ".current", "../web", "a/b", "-f", 7])
@pytest.mark.parametrize("trigger", [Trigger.snapshot, Trigger.restore, Trigger.discard])
def test_tag_that_is_no_name_is_refused(engine, take, trigger, tag):
    """It becomes the name of a folder."""
    take("one")
    with pytest.raises(InvalidNameError, match="a snapshot cannot be called"):
        engine.fire("web", trigger, tag=tag)


@pytest.mark.parametrize("trigger", [Trigger.restore, Trigger.discard])
def test_protected_instance_loses_nothing(engine, take, trigger):
    """A snapshot can be taken all the same."""
    engine.fire("web", Trigger.protect)
    take("one")
    with pytest.raises(ProtectedError):
        engine.fire("web", trigger, tag="one")


@pytest.mark.parametrize("trigger", [Trigger.snapshot, Trigger.restore])
def test_saved_memory_keeps_its_disk(engine, take, trigger):
    """The memory fits the disk as it is; the hint lets the guest continue first."""
    take("one")
    engine.fire("web", Trigger.start)
    engine.fire("web", Trigger.suspend)
    with pytest.raises(IllegalTransitionError, match="memory") as refused:
        engine.fire("web", trigger, tag="one")
    assert (refused.value.hint or "").startswith("interlock start web && interlock stop web && interlock snapshot ")


def test_snapshot_that_fails_leaves_nothing(make_engine, take, directory):
    """Neither a snapshot nor a folder on the way to one, and what a killed process left is removed by the next."""
    take("one")
    (directory / snapshots.FOLDER / ".two.abandoned").mkdir()
    engine = make_engine(SimulatedDriver(orders={"keep": {"error": "the disk is full"}}))
    with pytest.raises(DriverError, match="the disk is full"):
        engine.fire("web", Trigger.snapshot, tag="two")
    assert sorted(path.name for path in (directory / snapshots.FOLDER).iterdir()) == [".current", "one"]


def test_driver_that_takes_no_snapshots_says_so(make_engine, take, directory):
    """Nothing is left of it."""

    class Old(SimulatedDriver):
        keep = SimulatedDriver.__mro__[1].keep

    take("one")
    with pytest.raises(HostError, match="takes no snapshots"):
        make_engine(Old(orders={})).fire("web", Trigger.snapshot, tag="two")
    assert tree(directory) == ([("one", None)], "one")


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b"\xff", b'{"parent": 7}', b'{"parent": "one"}'])
def test_record_that_cannot_be_read_hides_no_snapshot(engine, take, directory, record):
    """It is listed without its time, and can be restored and discarded."""
    take("one")
    (directory / snapshots.FOLDER / "one" / snapshots.RECORD).write_bytes(record)
    assert [(it.tag, it.created_at, it.parent) for it in snapshots.listed(directory)] == [("one", "", None)]
    engine.fire("web", Trigger.restore, tag="one")
    engine.fire("web", Trigger.discard, tag="one")
    assert snapshots.listed(directory) == []


def test_clone_has_no_snapshots_and_rename_takes_them_along(engine, take, home):
    """They are of the one instance."""
    take("one")
    engine.fire("web", Trigger.clone, new="copy")
    engine.fire("web", Trigger.rename, new="site")
    assert snapshots.listed(home.directory("copy")) == []
    assert tree(home.directory("site")) == ([("one", None)], "one")
