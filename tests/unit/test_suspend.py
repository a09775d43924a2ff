"""A saved memory is used at most once, and nothing is lost when a suspend is interrupted."""

import json

import pytest

from interlock.drivers.contract import SAVED
from interlock.drivers.simulated import FILE, SimulatedDriver
from interlock.errors import DeadlineError, DriverError, HostError, IllegalTransitionError
from interlock.fsm.journal import Journal, Line, Phase
from interlock.fsm.records import now
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host.process import this_process


@pytest.fixture
def directory(home):
    return home.directory("web")


@pytest.fixture
def suspended(engine, bring):
    """Start the instance and suspend it, so that its memory is saved."""
    bring("web", State.running)
    return engine.fire("web", Trigger.suspend)


@pytest.fixture
def cut_short(bring, directory):
    """Leave a suspend in the journal, begun by a dead process."""
    bring("web", State.running)
    journal = Journal(directory)
    actor = this_process()._replace(started_ticks=1)
    line = Line(Trigger.suspend, State.running, State.stopped, Phase.begun, actor, now())
    journal.append(line, seq=journal.last().seq + 1)


def boots(directory):
    return json.loads((directory / FILE).read_bytes())["boots"]


def test_start_after_suspend_continues_without_a_boot(engine, suspended, directory):
    """The start uses the memory and removes it."""
    assert (suspended.state, engine.status("web").saved) == (State.stopped, True)
    assert engine.fire("web", Trigger.start).state is State.running
    assert (boots(directory), engine.status("web").saved) == (1, False)


@pytest.mark.usefixtures("suspended")
def test_start_cold_boots(engine, directory):
    """The saved memory is set aside."""
    engine.fire("web", Trigger.start, cold=True)
    assert (boots(directory), engine.status("web").saved) == (2, False)


@pytest.mark.usefixtures("suspended")
def test_suspend_of_what_is_suspended_holds(engine):
    """A second suspend changes nothing, and the memory is kept."""
    assert not engine.fire("web", Trigger.suspend).changed
    assert engine.status("web").saved


@pytest.mark.usefixtures("suspended")
def test_reset_removes_the_memory(engine):
    """The memory fits only the old disk."""
    engine.fire("web", Trigger.reset)
    assert not engine.status("web").saved


def test_start_cold_of_driver_that_does_not_know_the_word_starts(make_engine, bring):
    """An older driver has no parameter `cold` and needs none, because it saves no memory."""

    class Old(SimulatedDriver):
        def start(self, site, report, deadline, *, boot=True):
            return super().start(site, report, deadline, boot=boot)

    bring("web", State.created)
    assert make_engine(Old(orders={})).fire("web", Trigger.start, cold=True).state is State.running


def test_suspend_by_driver_that_cannot_is_refused_in_words(make_engine, bring, driver, engine):
    """The guest keeps running, and the hint is something that the driver can do."""

    class Old(SimulatedDriver):
        suspend = SimulatedDriver.__mro__[1].suspend

    bring("web", State.running)
    with pytest.raises(HostError, match="cannot save a machine's memory") as refused:
        make_engine(Old(orders={})).fire("web", Trigger.suspend)
    assert refused.value.hint == "interlock stop web"
    assert engine.status("web").state is State.running
    assert driver.observe(engine.site("web")).alive


def test_suspend_that_fails_lets_the_guest_run(make_engine, bring, driver, directory):
    """The state is unchanged, and no saved memory is left behind."""
    bring("web", State.running)
    engine = make_engine(SimulatedDriver(orders={"suspend": {"error": "the disk is full"}}))
    with pytest.raises(DriverError, match="the disk is full"):
        engine.fire("web", Trigger.suspend)
    assert (engine.status("web").state, (directory / SAVED).exists()) == (State.running, False)
    assert driver.observe(engine.site("web")).alive


@pytest.mark.parametrize(
    ("trigger", "work", "asked", "hint"),
    [
        (Trigger.suspend, "suspend", {}, "interlock suspend web --timeout 20"),
        (Trigger.fork, "catch", {"new": ("one", "two")}, "interlock fork web one two --timeout 20"),
        (Trigger.snapshot, "keep", {"tag": "before"}, "interlock snapshot create web before --timeout 20"),
    ],
)
def test_deadline_of_what_saves_the_memory_hints_the_same_with_more_time(
    make_engine, bring, hints, trigger, work, asked, hint
):
    """The hint does not point to the guest's logs, which say nothing about it."""
    bring("web", State.running)
    engine = make_engine(SimulatedDriver(orders={work: {"hang": True}}))
    with pytest.raises(DeadlineError) as late:
        engine.fire("web", trigger, timeout_s=0.0, **asked)
    assert late.value.hint == hint
    hints.add(hint)


@pytest.mark.usefixtures("cut_short")
def test_suspend_cut_short_before_the_memory_is_saved_lets_the_machine_run(engine, driver):
    """The machine was paused for a moment, and the next command resumes it."""
    driver.happen(engine.site("web"), condition="paused")
    status = engine.status("web")
    assert (status.state, status.operation, status.saved) == (State.running, None, False)
    assert status.observation.condition is None


@pytest.mark.usefixtures("cut_short")
def test_suspend_cut_short_once_the_memory_is_saved_is_finished(engine, driver, directory):
    """The hypervisor may be ending already, so the only safe way is to end it."""
    (directory / SAVED).write_bytes(b"")
    status = engine.status("web")
    assert (status.state, status.operation, status.saved) == (State.stopped, None, True)
    assert not driver.observe(engine.site("web")).alive


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.usefixtures("cut_short")
def test_suspend_cut_short_over_dead_machine_is_done_or_an_exit(engine, driver, directory, saved):
    """If the memory was saved, the suspend is done; if not, the machine's exit is recorded with its reason."""
    driver.happen(engine.site("web"), alive=False, exit_reason="hypervisor was killed or crashed")
    if saved:
        (directory / SAVED).write_bytes(b"")
    status = engine.status("web")
    assert (status.state, status.operation, status.saved) == (State.stopped, None, saved)
    assert status.reason == (None if saved else "hypervisor was killed or crashed")


@pytest.mark.usefixtures("cut_short")
def test_kill_after_suspend_cut_short_needs_no_monitor(make_engine):
    """A hypervisor that does not answer cannot be resumed, but can be killed."""

    class Deaf(SimulatedDriver):
        def resume(self, _site, _report):
            raise DriverError("the monitor did not answer")

    engine = make_engine(Deaf(orders={}))
    assert engine.fire("web", Trigger.kill).state is State.stopped


@pytest.mark.usefixtures("suspended")
def test_start_over_machine_that_was_loaded_and_never_ran_uses_the_memory(engine, driver, directory):
    """The loading process died before the guest ran: its hypervisor is ended, and the memory is loaded again."""
    site = engine.site("web")
    machine = driver._get(site)
    driver.happen(site, alive=True, boot_id=machine.boot_id)
    assert engine.fire("web", Trigger.start).state is State.running
    assert (boots(directory), engine.status("web").saved) == (1, False)


@pytest.mark.usefixtures("suspended")
def test_clone_of_suspended_instance_is_refused_with_the_way(engine, directory):
    """The disk is in the middle of the guest's work, and the memory fits this disk only."""
    verdict = next(it for it in engine.verdicts("web") if it.trigger is Trigger.clone)
    with pytest.raises(IllegalTransitionError) as refused:
        engine.fire("web", Trigger.clone, new="copy")
    assert (verdict.legal, verdict.why) == (False, refused.value.message)
    assert refused.value.hint == "interlock start web && interlock stop web && interlock clone web copy"
    assert (directory / SAVED).exists()
    assert not engine.status("copy").exists


@pytest.mark.usefixtures("suspended")
def test_rename_takes_the_memory_along(engine, home):
    """The disk is the same under another name, so the memory still fits and the next start resumes."""
    engine.fire("web", Trigger.rename, new="site")
    assert engine.status("site").saved
    engine.fire("site", Trigger.start)
    assert (boots(home.directory("site")), engine.status("site").saved) == (1, False)
