"""Failed work is undone and interrupted work is settled, so that journal and world always agree."""

import errno
import os
import socket

import pytest
from asking import needs, prepare

from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import DeadlineError, DegradedError, DriverError
from interlock.fsm import instance as instance_module
from interlock.fsm.causes import as_error
from interlock.fsm.happening import Happening
from interlock.fsm.journal import Journal, Line, Phase
from interlock.fsm.port import Deadline, Draft
from interlock.fsm.records import now
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, TABLE, Trigger
from interlock.host.process import this_process

DEAD = this_process()._replace(started_ticks=1, command="interlock of the dead")
"""A process that once had our pid."""

PAIRS = [(row.trigger, source) for row in TABLE if row.recorded for source in row.sources]
PAIRS_OF_EXISTING = [(trigger, source) for trigger, source in PAIRS if source is not State.absent]


@pytest.fixture
def ask(plan):
    """Return a function that asks an engine for any trigger."""
    return lambda engine, trigger, **arguments: (
        engine.create("web", plan)
        if trigger is Trigger.create
        else engine.fire("web", trigger, **needs(trigger), **arguments)
    )


@pytest.fixture
def cut_short(home):
    """Return a function that records `trigger` as begun by a dead process, in the journal's last line."""

    def cut(trigger, source):
        directory = home.creating("web") if trigger is Trigger.create else home.directory("web")
        directory.mkdir(exist_ok=True)
        journal = Journal(directory)
        seq = journal.last().seq if journal.path.exists() else 0
        line = Line(trigger, source, BY_TRIGGER[trigger].leads_to(source), Phase.begun, DEAD, now())
        journal.append(line, seq=seq + 1)

    return cut


def files_left(home):
    """Return every file of home and runtime."""
    return [path for root in (home.root, home.runtime) for path in root.rglob("*") if not path.is_dir()]


def assert_agreed(engine, driver, home):
    """Check that the recorded state agrees with the world."""
    status = engine.status("web")
    assert status.damage is None
    if status.state is State.absent:
        assert files_left(home) == []
    else:
        assert driver.observe(engine.site("web")).alive == (status.state is State.running)
    return status


# -- work that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trigger", "source"), [pair for pair in PAIRS_OF_EXISTING if BY_TRIGGER[pair[0]].dest])
def test_fire_work_that_fails_leaves_the_source_and_is_recorded(make_engine, bring, ask, heard, trigger, source):
    """The state has not moved, the journal says `failed` with the error, which is also announced and raised."""
    bring("web", source)
    error = {"error": "the disk is on fire"}
    engine = make_engine(SimulatedDriver(orders={trigger: error}))
    with pytest.raises(DriverError, match="the disk is on fire"):
        ask(engine, trigger)
    last = list(engine.history("web"))[-1]
    assert (last.trigger, last.phase, last.state) == (trigger, Phase.failed, source)
    assert last.error == {"reference": "driver-failed", "message": error["error"], "hint": None, "details": []}
    assert engine.status("web").reason == f"{trigger} failed: {error['error']}"
    assert (heard[-1].happening, heard[-1].reference) == (Happening.failed, "driver-failed")


@pytest.mark.parametrize("culprit", ["plan", "driver"])
def test_create_that_fails_leaves_nothing(make_engine, home, plan, culprit):
    """A failed creation leaves no file, folder or lock, and the name is free."""

    def broken(report):
        report("reading")
        raise DriverError("no")

    orders = {"create": {"error": "no"}} if culprit == "driver" else {}
    with pytest.raises(DriverError, match="no"):
        make_engine(SimulatedDriver(orders)).create("web", broken if culprit == "plan" else plan)
    assert files_left(home) == []
    assert make_engine().create("web", plan).changed


def test_create_that_cannot_be_undone_is_undone_by_the_next_command(make_engine, home, plan):
    """While the driver cannot remove the machine, its spec stays, and the name is not free."""
    cut_off = {"create": {"error": "no"}, "delete": {"error": "the cluster is silent"}}
    with pytest.raises(DriverError, match="no"):
        make_engine(SimulatedDriver(cut_off)).create("web", plan)
    assert (home.creating("web") / SPEC_FILE).exists()
    with pytest.raises(DriverError, match="the cluster is silent"):
        make_engine(SimulatedDriver(cut_off)).create("web", plan)
    make_engine().create("web", plan)
    assert not home.creating("web").exists()


def test_start_that_fails_kills_the_guest(make_engine, watched, bring):
    """A guest that does not answer in time is ended: only a `running` instance has a live guest."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    engine = make_engine(driver)
    with pytest.raises(DeadlineError) as caught:
        engine.fire("web", Trigger.start, timeout_s=0.05)
    assert caught.value.hint == "interlock logs web"
    assert driver.calls == ["start", "kill"]
    assert not driver.observe(engine.site("web")).alive


def test_fire_foreign_exception_of_a_driver_is_a_driver_error(make_engine, watched, bring):
    """A driver's defect is reported as a DriverError with the exception's words, chained to the exception."""
    bring("web", State.created)

    def stumble(_trigger):
        raise ZeroDivisionError("division by zero")

    with pytest.raises(DriverError, match="ZeroDivisionError: division by zero") as caught:
        make_engine(watched(stumble)).fire("web", Trigger.reset)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_fire_interrupted_undoes_and_lets_the_interruption_pass(make_engine, watched, bring, interruption):
    """Ctrl-C in the middle of a start ends the guest, is recorded as cancelled, and still ends the program."""
    bring("web", State.created)

    def interrupt(trigger):
        if trigger == "start":
            raise interruption

    driver = watched(interrupt)
    engine = make_engine(driver)
    with pytest.raises(interruption):
        engine.fire("web", Trigger.start)
    assert driver.calls == ["start", "kill"]
    last = list(engine.history("web"))[-1]
    assert (last.phase, last.state, last.error["reference"]) == (Phase.failed, State.created, "cancelled")


# -- work that is left ---------------------------------------------------------------------------------------------


@pytest.fixture
def left(make_engine, watched, bring):
    """Return the driver of a created machine whose guest did not answer in time and was kept."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    with pytest.raises(DeadlineError):
        make_engine(driver).fire("web", Trigger.start, timeout_s=0.05, keep_on_failure=True)
    driver.hold, driver.calls = (), []
    return driver


def test_start_kept_on_failure_leaves_the_guest_and_shows_it(make_engine, left):
    """The guest stays alive; the state is still the source, and the status shows the unfinished start."""
    status = make_engine(left).status("web")
    assert (status.state, status.observation.alive) == (State.created, True)
    assert (status.operation.trigger, status.operation.interrupted) == (Trigger.start, True)
    assert left.calls == []


def test_start_after_kept_failure_finishes_it(make_engine, left):
    """The guest that was kept is waited for again, not booted again."""
    outcome = make_engine(left).fire("web", Trigger.start)
    assert (outcome.state, outcome.changed) == (State.running, True)
    assert left.calls == ["start"]


def test_stop_after_kept_failure_shuts_it_down(make_engine, left):
    """If the guest answers by now, its start is finished before it is shut down."""
    engine = make_engine(left)
    assert engine.fire("web", Trigger.stop).state is State.stopped
    assert left.calls == ["start", "stop"]


def test_kill_after_kept_failure_ends_it_at_once(make_engine, left):
    """`kill` does not wait for the guest to answer first."""
    left.hold = ("start",)
    engine = make_engine(left)
    assert engine.fire("web", Trigger.kill).state is State.created
    assert left.calls == ["start", "kill"]


def test_work_that_failed_and_could_not_be_undone_is_left_and_says_so(make_engine, bring):
    """If killing fails as well, the journal says that the start is unfinished, and why."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver({"start": {"error": "no"}, "kill": {"error": "it will not die"}}))
    with pytest.raises(DriverError, match="no"):
        engine.fire("web", Trigger.start)
    last = list(engine.history("web"))[-1]
    assert (last.phase, last.detail, last.error["message"]) == (Phase.left, "it will not die", "no")


@pytest.mark.parametrize("trigger", [Trigger.reset, Trigger.delete])
def test_fire_over_work_that_cannot_be_settled_does_nothing(make_engine, left, home, trigger):
    """No disk is deleted under a guest that could not be ended."""
    stuck = SimulatedDriver({"start": {"error": "no"}, "kill": {"error": "it will not die"}})
    engine = make_engine(stuck)
    with pytest.raises(DriverError):
        engine.fire("web", trigger)
    assert left.observe(engine.site("web")).alive
    assert home.directory("web").is_dir()


# -- work that was cut short ---------------------------------------------------------------------------------------


def test_status_after_dead_create_rolls_it_back(engine, home, cut_short):
    """The first reader removes everything that a dead process was creating."""
    home.prepare()
    cut_short(Trigger.create, State.absent)
    assert [status.name for status in engine.statuses()] == []
    assert files_left(home) == []
    assert not home.creating("web").exists()


def test_status_after_create_died_before_its_first_line_removes_the_folder(engine, home):
    """The folder of a creation that died before its first journal line is removed too."""
    home.prepare()
    home.creating("web").mkdir()
    assert list(engine.statuses()) == []
    assert not home.creating("web").exists()


def test_create_after_dead_create_starts_over(engine, plan, home, cut_short, heard):
    """A new creation takes the name, and the interruption is announced with the dead process's pid."""
    home.prepare()
    cut_short(Trigger.create, State.absent)
    assert engine.create("web", plan).changed
    assert [(event.happening, event.pid) for event in heard[:2]] == [
        (Happening.interrupted, DEAD.pid),
        (Happening.undone, None),
    ]


def test_status_after_dead_start_of_dead_guest_is_undone(engine, bring, cut_short):
    """A start whose process and guest are both dead is undone by the next reader; the state is the source."""
    bring("web", State.stopped)
    cut_short(Trigger.start, State.stopped)
    status = engine.status("web")
    assert (status.state, status.operation) == (State.stopped, None)
    assert list(engine.history("web"))[-1].phase is Phase.undone


def test_status_after_dead_start_of_live_guest_waits_for_nobody(engine, bring, driver, cut_short):
    """A reader leaves a guest that may still be booting alone, and shows the start as interrupted."""
    bring("web", State.created)
    driver.happen(engine.site("web"), alive=True, boot_id=this_process().boot_id)
    cut_short(Trigger.start, State.created)
    status = engine.status("web")
    assert (status.state, status.operation.interrupted, status.observation.alive) == (State.created, True, True)


def test_start_after_dead_start_of_live_guest_finishes_it(engine, bring, driver, cut_short):
    """The guest that the dead process booted becomes `running`, without another boot."""
    bring("web", State.created)
    driver.happen(engine.site("web"), alive=True, boot_id=this_process().boot_id)
    cut_short(Trigger.start, State.created)
    assert engine.fire("web", Trigger.start).state is State.running
    assert driver._get(engine.site("web")).boots == 0


def test_reset_after_dead_start_of_guest_that_dies_meanwhile_boots_nothing(make_engine, bring, cut_short):
    """The guest is seen alive but dead when it is waited for: recovery must not boot another."""

    class ShortLived(SimulatedDriver):
        def start(self, site, report, deadline, *, boot=True):
            self.happen(site, alive=False, exit_reason="hypervisor vanished")
            return super().start(site, report, deadline, boot=boot)

    bring("web", State.created)
    driver = ShortLived(orders={})
    engine = make_engine(driver)
    driver.happen(engine.site("web"), alive=True, boot_id=this_process().boot_id)
    cut_short(Trigger.start, State.created)
    assert engine.fire("web", Trigger.reset).changed
    assert driver._get(engine.site("web")).boots == 0


def test_reset_after_dead_start_of_silent_guest_ends_it_first(make_engine, watched, bring, cut_short, monkeypatch):
    """For another request, the guest gets a moment to answer; then the start is undone and the request done."""
    monkeypatch.setattr(instance_module, "PROBE_S", 0.05)
    bring("web", State.created)
    driver = watched(hold=("start",))
    engine = make_engine(driver)
    driver.happen(engine.site("web"), alive=True, boot_id=this_process().boot_id)
    cut_short(Trigger.start, State.created)
    assert engine.fire("web", Trigger.reset).changed
    assert driver.calls == ["start", "kill", "reset"]


@pytest.mark.parametrize(("trigger", "source"), [pair for pair in PAIRS_OF_EXISTING if pair[0] is not Trigger.start])
def test_same_trigger_after_it_was_cut_short_is_done_once(engine, bring, pause, cut_short, heard, trigger, source):
    """Interrupted work that is asked for again is repeated once, and announced once."""
    bring("web", source)
    if source is State.running:
        pause("web")
    prepare(engine, trigger)
    cut_short(trigger, source)
    before = len(heard)
    outcome = engine.fire("web", trigger, **needs(trigger))
    assert (outcome.state, outcome.changed) == (BY_TRIGGER[trigger].leads_to(source), True)
    happenings = [event.happening for event in heard[before:] if event.instance == "web"]
    assert (happenings[0], happenings.count(Happening.done)) == (Happening.interrupted, 1)


def test_status_after_dead_delete_finishes_it(engine, home, bring, cut_short):
    """The next reader finishes a deletion that was begun."""
    bring("web", State.stopped)
    cut_short(Trigger.delete, State.stopped)
    assert engine.status("web").state is State.absent
    assert files_left(home) == []


def test_start_after_dead_stop_stops_it_first(engine, bring, cut_short):
    """The earlier request is finished before the new one: the history has both transitions."""
    bring("web", State.running)
    cut_short(Trigger.stop, State.running)
    assert engine.fire("web", Trigger.start).changed
    done = [line.trigger for line in engine.history("web") if line.phase is Phase.done]
    assert done[-2:] == [Trigger.stop, Trigger.start]


def test_kill_after_dead_stop_of_deaf_guest_ends_it_at_once(make_engine, watched, bring, cut_short):
    """`kill` does not wait for the shutdown that somebody else asked for."""
    bring("web", State.running)
    cut_short(Trigger.stop, State.running)
    driver = watched(hold=("stop",))
    engine = make_engine(driver)
    assert engine.fire("web", Trigger.kill).state is State.stopped
    assert "in 0 s" in list(engine.history("web"))[-1].detail


# -- an image that goes away -----------------------------------------------------------------------------------------


def planned(spec, tmp_path, images):
    """Return a plan that takes the next of `images` each time it runs; None stands for an image deleted since."""
    contents = iter(images)

    def resolve(_report):
        path = tmp_path / "blob"
        path.unlink(missing_ok=True)
        if content := next(contents):
            path.write_bytes(content)
        return Draft(spec, {"seed": b"seed", "kernel": path})

    return resolve


def test_create_from_image_deleted_meanwhile_plans_again(engine, home, spec, tmp_path):
    """If an image is deleted after it was found and before it is linked, the plan runs once more."""
    engine.create("web", planned(spec, tmp_path, [None, b"kernel"]))

    assert (home.directory("web") / "kernel").read_bytes() == b"kernel"


def test_create_from_image_that_stays_away_leaves_nothing(engine, home, spec, tmp_path):
    """If the image is gone twice, the error names the file, and nothing of the instance is left."""
    with pytest.raises(DriverError, match="blob"):
        engine.create("web", planned(spec, tmp_path, [None, None]))

    assert files_left(home) == []


# -- a guest that runs, in which something failed -------------------------------------------------------------------


def test_fire_degraded_start_has_moved_and_says_what_failed(make_engine, bring, heard):
    """This is the only error after which the state has moved: the guest runs, and the journal says both."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver(orders={"start": {"degraded": "no"}}))
    with pytest.raises(DegradedError, match="no"):
        engine.fire("web", Trigger.start)
    last = list(engine.history("web"))[-1]
    assert (last.phase, last.state, last.error["reference"]) == (Phase.done, State.running, "degraded")
    assert (heard[-1].happening, heard[-1].detail) == (Happening.degraded, "no")


def test_fire_start_of_degraded_guest_says_so_each_time(make_engine, bring):
    """A running guest is not started again, but the error is raised until its scripts have succeeded."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver(orders={"start": {"degraded": "no"}}))
    for _ in range(2):
        with pytest.raises(DegradedError, match="no"):
            engine.fire("web", Trigger.start)
    assert [line.trigger for line in engine.history("web") if line.phase is Phase.begun] == ["create", "start"]
    assert engine.fire("web", Trigger.protect).changed
    assert engine.fire("web", Trigger.provision).changed
    assert engine.fire("web", Trigger.start).changed is False


def test_fire_stop_after_a_start_that_was_cut_short_and_is_degraded_stops_it(make_engine, bring, cut_short):
    """A failure that recovery finds in the guest does not prevent the stop, and `stop` does not raise it."""
    bring("web", State.created)
    engine = make_engine(SimulatedDriver(orders={"start": {"degraded": "no"}}))
    SimulatedDriver(orders={}).start(engine.site("web"), print, Deadline(5))
    cut_short(Trigger.start, State.created)
    assert engine.fire("web", Trigger.stop).state is State.stopped


# -- what is said --------------------------------------------------------------------------------------------------


def a_call_that_fails():
    """Raise the system's error for a process that cannot be made."""
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def raised(call):
    """Return the OSError that `call` raises."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - any of them
        call()
    return caught.value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: os.open("/nonexistent", os.O_RDONLY), "/nonexistent: No such file or directory"),
        (lambda: os.open(b"/nonexistent/\xff", os.O_RDONLY), "/nonexistent/\udcff: No such file or directory"),
        (lambda: os.link("/nonexistent", "/tmp/x"), "/nonexistent: No such file or directory"),
        (a_call_that_fails, "the system, in a_call_that_fails: Resource temporarily unavailable"),
        (lambda: os.read(-1, 1), "the system, in <lambda>: Bad file descriptor"),
        (lambda: socket.create_connection(("127.0.0.1", 1)), "the system, in create_connection: Connection refused"),
    ],
)
def test_error_of_the_system_names_the_file_or_the_call(call, message):
    """A process that cannot be made, or a refused connection, is not blamed on the disk."""
    assert as_error(raised(call)).message == message


def test_error_of_a_write_without_a_file_name_is_the_disk_where_only_a_disk_fails_so():
    """write(2) and fsync(2) name no file. Any other error without a name is the system's."""
    said = {number: as_error(OSError(number, os.strerror(number))).message for number in errno.errorcode}
    disk = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
    assert said == {number: f"the {'disk' if number in disk else 'system'}: {os.strerror(number)}" for number in said}


@pytest.mark.parametrize("trigger", [Trigger.stop, Trigger.kill])
def test_stop_whose_outcome_cannot_be_written_says_what_failed_and_is_settled_later(
    engine, driver, bring, heard, monkeypatch, trigger
):
    """The machine is down, so no message says that it runs; the next reader finds it stopped."""
    bring("web", State.running)
    append = Journal.append

    def full(journal, line, *, seq):
        if line.phase in (Phase.done, Phase.failed, Phase.left):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(journal, line, seq=seq)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(DriverError, match="the disk: No space left on device"):
            engine.fire("web", trigger)
    assert not driver.observe(engine.site("web")).alive
    assert heard[-1].happening is Happening.left
    assert "running" not in heard[-1].message
    assert engine.status("web").state is State.stopped


def test_provision_that_runs_out_leaves_the_guest_running(make_engine, bring, driver):
    """The deadline ends the scripts, not the machine, and the error does not say otherwise."""
    bring("web", State.running)
    engine = make_engine(SimulatedDriver(orders={"provision": {"hang": True}}))
    with pytest.raises(DeadlineError) as late:
        engine.fire("web", Trigger.provision, timeout_s=0.01)
    assert not [line for line in (late.value.message, *late.value.details) if "ended" in line or "left" in line]
    assert driver.observe(engine.site("web")).alive
    assert engine.status("web").state is State.running
