"""Snapshots form a tree, and each stays complete whatever happens to the others."""

import json

import pytest

from interlock.api import Interlock
from interlock.drivers.contract import SAVED
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
from interlock.fsm.journal import Journal, Line, Phase
from interlock.fsm.records import now
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import BY_TRIGGER, Trigger
from interlock.host.process import this_process


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
    """Return a function that starts and stops the guest, which writes to its disk."""

    def run():
        engine.fire("web", Trigger.start)
        engine.fire("web", Trigger.stop)

    return run


def boots(directory):
    return json.loads((directory / FILE).read_bytes())["boots"]


def tree(directory):
    """Return a list of (tag, parent) for all snapshots, and the tag of the current one."""
    found = snapshots.listed(directory)
    return [(it.tag, it.parent) for it in found], next((it.tag for it in found if it.current), None)


def test_restore_brings_the_disk_back(engine, take, run, directory):
    """Later writes are gone, and the snapshot can be restored again."""
    assert take("one").detail == "one"
    for _ in range(2):
        run()
        assert boots(directory) == 2
        outcome = engine.fire("web", Trigger.restore, tag="one")
        assert (outcome.state, outcome.detail, boots(directory)) == (State.stopped, "one", 1)


@pytest.fixture
def moment(engine, bring):
    """Start `web`, and take the snapshot `moment`, which includes its memory."""
    bring("web", State.running)
    return engine.fire("web", Trigger.snapshot, tag="moment")


def boot_again(engine):
    """Kill the machine of `web`, and start it with another boot."""
    engine.fire("web", Trigger.kill)
    engine.fire("web", Trigger.start)


def test_snapshot_of_a_running_instance_keeps_its_memory(engine, moment, directory, driver):
    """The guest keeps running."""
    assert (moment.state, moment.detail) == (State.running, "moment")
    assert driver.observe(engine.site("web")).alive
    (found,) = snapshots.listed(directory)
    assert found.memory_bytes == engine.site("web").spec.memory_bytes


@pytest.mark.parametrize("way", [(Trigger.stop,), (Trigger.stop, Trigger.reset)], ids="-".join)
@pytest.mark.usefixtures("moment")
def test_restore_leads_back_into_the_moment(engine, directory, driver, way):
    """From either state, the next start resumes without a boot, and the snapshot can be restored again."""
    boot_again(engine)
    for trigger in way:
        engine.fire("web", trigger)
    for _ in range(2):
        engine.fire("web", Trigger.restore, tag="moment")
        assert (engine.status("web").state in AT_REST, engine.status("web").saved) == (True, True)
        assert not driver.observe(engine.site("web")).alive
        engine.fire("web", Trigger.start)
        assert (boots(directory), engine.status("web").saved) == (1, False)
        engine.fire("web", Trigger.kill)
    assert tree(directory) == ([("moment", None)], "moment")


@pytest.mark.usefixtures("moment")
def test_restore_cold_brings_the_disk_back_alone(engine, directory):
    """With `cold`, a snapshot can be restored even if its memory does not fit."""
    boot_again(engine)
    engine.fire("web", Trigger.kill)
    assert engine.fire("web", Trigger.restore, tag="moment", cold=True).state is State.stopped
    assert (boots(directory), engine.status("web").saved) == (1, False)


@pytest.mark.usefixtures("moment")
def test_snapshot_that_cannot_be_restored_ends_no_machine(engine, directory, driver):
    """The snapshot is checked before anything is touched."""
    boot_again(engine)
    failing = SimulatedDriver(orders={"examine": {"error": "the memory does not fit"}})
    with pytest.raises(DriverError, match="does not fit"):
        Interlock(engine.home, driver=failing).restore("web", "moment")
    assert engine.status("web").state is State.running
    assert driver.observe(engine.site("web")).alive
    assert (boots(directory), tree(directory)) == (2, ([("moment", None)], "moment"))


@pytest.mark.usefixtures("moment")
def test_protected_instance_is_not_ended_for_a_restore(engine, driver):
    """The work of its guest since the snapshot would be lost."""
    engine.fire("web", Trigger.protect)
    with pytest.raises(ProtectedError):
        Interlock(engine.home, driver=driver).restore("web", "moment")
    assert engine.status("web").state is State.running


@pytest.mark.usefixtures("moment")
def test_restore_of_a_disk_alone_ends_no_machine(engine, driver):
    """Only a snapshot with memory can be restored over a running machine."""
    with pytest.raises(IllegalTransitionError, match="legal from created and stopped"):
        Interlock(engine.home, driver=driver).restore("web", "moment", cold=True)
    assert engine.status("web").state is State.running


def test_snapshot_that_fails_while_the_guest_runs_lets_it_run(make_engine, bring, driver, engine, directory):
    """No snapshot is left behind."""
    bring("web", State.running)
    failing = make_engine(SimulatedDriver(orders={"keep": {"error": "the disk is full"}}))
    with pytest.raises(DriverError, match="the disk is full"):
        failing.fire("web", Trigger.snapshot, tag="one")
    assert (engine.status("web").state, engine.status("web").operation) == (State.running, None)
    assert driver.observe(engine.site("web")).alive
    assert snapshots.listed(directory) == []


def cut_short(directory, trigger, **asked):
    """Leave `trigger` in the journal of the instance in `directory`, begun by a dead process."""
    journal = Journal(directory)
    last = journal.last()
    actor = this_process()._replace(started_ticks=1)
    dest = BY_TRIGGER[trigger].leads_to(last.state)
    line = Line(trigger, last.state, dest, Phase.begun, actor, now(), asked=asked or None)
    journal.append(line, seq=last.seq + 1)


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.usefixtures("moment")
def test_restore_that_was_cut_short_is_finished_with_what_it_was_asked_for(engine, directory, cold):
    """The disk, the memory and the current mark are those of the snapshot."""
    boot_again(engine)
    engine.fire("web", Trigger.snapshot, tag="later")
    engine.fire("web", Trigger.kill)
    cut_short(directory, Trigger.restore, tag="moment", **({"cold": True} if cold else {}))
    status = engine.status("web")
    assert (status.state, status.operation, status.saved) == (State.stopped, None, not cold)
    assert (boots(directory), tree(directory)[1]) == (1, "moment")


@pytest.mark.usefixtures("moment")
def test_another_restore_takes_the_place_of_one_that_was_cut_short(engine, directory):
    """The memory that the interrupted restore left does not make the next one refuse."""
    boot_again(engine)
    engine.fire("web", Trigger.snapshot, tag="later")
    engine.fire("web", Trigger.kill)
    cut_short(directory, Trigger.restore, tag="moment")
    (directory / SAVED).write_bytes(b"")
    engine.fire("web", Trigger.restore, tag="later")
    assert (boots(directory), tree(directory)[1], engine.status("web").saved) == (2, "later", True)


@pytest.mark.parametrize("state", [State.created, State.stopped])
def test_snapshot_that_was_cut_short_at_rest_is_given_up(engine, bring, directory, state):
    """The instance keeps the state from which the snapshot was begun."""
    bring("web", state)
    cut_short(directory, Trigger.snapshot, tag="one")
    status = engine.status("web")
    assert (status.state, status.operation) == (state, None)


def test_snapshots_are_a_tree(engine, take, run, directory):
    """A snapshot's parent is the one taken or restored last; children of a discarded snapshot get its parent."""
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
    """The fresh disk comes from the image, so the next snapshot has no parent."""
    take("one")
    engine.fire("web", Trigger.reset)
    assert tree(directory) == ([("one", None)], None)
    take("two")
    assert tree(directory) == ([("one", None), ("two", None)], "two")


def test_tag_that_is_taken_is_refused(take, engine):
    """A snapshot is never replaced, and the refusal comes before anything is begun."""
    take("one")
    before = [*engine.history("web")]
    with pytest.raises(IllegalTransitionError, match='already has a snapshot "one"') as refused:
        take("one")
    assert refused.value.hint == "interlock snapshot list web"
    assert [*engine.history("web")] == before


@pytest.mark.parametrize("trigger", [Trigger.restore, Trigger.discard])
def test_unknown_tag_is_not_found(engine, take, trigger):
    """The refusal comes before anything is begun."""
    take("one")
    before = [*engine.history("web")]
    with pytest.raises(NotFoundError, match='has no snapshot "two"') as missing:
        engine.fire("web", trigger, tag="two")
    assert missing.value.hint == "interlock snapshot list web"
    assert [*engine.history("web")] == before


@pytest.mark.parametrize("tag", ["", ".current", "../web", "a/b", "-f", 7])
@pytest.mark.parametrize("trigger", [Trigger.snapshot, Trigger.restore, Trigger.discard])
def test_tag_that_is_no_name_is_refused(engine, take, trigger, tag):
    """A tag becomes the name of a folder."""
    take("one")
    with pytest.raises(InvalidNameError, match="a snapshot cannot be called"):
        engine.fire("web", trigger, tag=tag)


@pytest.mark.parametrize("trigger", [Trigger.restore, Trigger.discard])
def test_protected_instance_loses_nothing(engine, take, trigger):
    """Taking a snapshot is allowed; restoring and discarding are not."""
    engine.fire("web", Trigger.protect)
    take("one")
    with pytest.raises(ProtectedError):
        engine.fire("web", trigger, tag="one")


@pytest.mark.parametrize("trigger", [Trigger.snapshot, Trigger.restore])
def test_saved_memory_keeps_its_disk(engine, take, trigger):
    """The memory fits only the disk as it is; the hint starts the guest first."""
    take("one")
    engine.fire("web", Trigger.start)
    engine.fire("web", Trigger.suspend)
    with pytest.raises(IllegalTransitionError, match="memory") as refused:
        engine.fire("web", trigger, tag="one")
    assert (refused.value.hint or "").startswith("interlock start web && interlock ")


def test_snapshot_that_fails_leaves_nothing(make_engine, take, directory):
    """No snapshot and no temporary folder is left, not even one of a process that was killed earlier."""
    take("one")
    (directory / snapshots.FOLDER / ".two.abandoned").mkdir()
    engine = make_engine(SimulatedDriver(orders={"keep": {"error": "the disk is full"}}))
    with pytest.raises(DriverError, match="the disk is full"):
        engine.fire("web", Trigger.snapshot, tag="two")
    assert sorted(path.name for path in (directory / snapshots.FOLDER).iterdir()) == [".current", "one"]


def test_driver_that_takes_no_snapshots_says_so(make_engine, take, directory):
    """The failed attempt leaves nothing behind."""

    class Old(SimulatedDriver):
        keep = SimulatedDriver.__mro__[1].keep

    take("one")
    with pytest.raises(HostError, match="takes no snapshots"):
        make_engine(Old(orders={})).fire("web", Trigger.snapshot, tag="two")
    assert tree(directory) == ([("one", None)], "one")


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b"\xff", b'{"line": 7}', b'{"line": ["one", 7]}'])
def test_record_that_cannot_be_read_hides_no_snapshot(engine, take, directory, record):
    """The snapshot is listed without its time, and can be restored and discarded."""
    take("one")
    (directory / snapshots.FOLDER / "one" / snapshots.RECORD).write_bytes(record)
    assert [(it.tag, it.created_at, it.parent) for it in snapshots.listed(directory)] == [("one", "", None)]
    engine.fire("web", Trigger.restore, tag="one")
    engine.fire("web", Trigger.discard, tag="one")
    assert snapshots.listed(directory) == []


def test_clone_has_no_snapshots_and_rename_takes_them_along(engine, take, home):
    """Snapshots belong to one instance."""
    take("one")
    engine.fire("web", Trigger.clone, new="copy")
    engine.fire("web", Trigger.rename, new="site")
    assert snapshots.listed(home.directory("copy")) == []
    assert tree(home.directory("site")) == ([("one", None)], "one")
