"""What the engine does with a request, in every state, and with several requests at once."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from asking import name_after, needs, prepare

from interlock.errors import (
    BusyError,
    CancelledError,
    DamagedError,
    DeadlineError,
    DriverError,
    IllegalTransitionError,
    InvalidNameError,
    NotFoundError,
    ProtectedError,
    UsageError,
)
from interlock.fsm import engine as engine_module
from interlock.fsm import restarts
from interlock.fsm.engine import Engine
from interlock.fsm.happening import Happening
from interlock.fsm.journal import FILE, Journal, Phase
from interlock.fsm.machine import MACHINE
from interlock.fsm.port import Draft
from interlock.fsm.rehearsal import Rehearsal
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import EXISTING, State
from interlock.fsm.table import TABLE, By, Trigger
from interlock.host.files import remove_tree
from interlock.host.locks import Lock
from interlock.host.process import boot_id, this_process

REQUESTABLE = tuple(row.trigger for row in TABLE if row.by in {By.driver, By.engine})
DEADLINE_S = 30.0


@pytest.fixture
def request_by(engine, plan):
    """Return a function that asks an engine for any trigger."""

    def ask(trigger, by=engine, name="web"):
        return by.create(name, plan) if trigger is Trigger.create else by.fire(name, trigger, **needs(trigger))

    return ask


@pytest.fixture
def threads():
    """Return a pool whose work must end before the test does."""
    with ThreadPoolExecutor() as pool:
        yield pool


def journal_bytes(home, name="web"):
    """Return the journal's bytes on disk; None if there is no journal."""
    path = home.directory(name) / FILE
    return path.read_bytes() if path.exists() else None


# -- the grid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", REQUESTABLE)
def test_request_in_state_does_what_the_reviewed_matrix_says(
    engine, home, bring, pause, request_by, matrix, trigger, state
):
    """Each trigger in each state leads where the matrix says; a refused one does not change the journal."""
    bring("web", state)
    if state is State.running:
        pause("web")
    prepare(engine, trigger)
    before = journal_bytes(home)
    match matrix[trigger, state].split():
        case ["→", dest]:
            outcome = request_by(trigger)
            assert (outcome.state, outcome.changed) == (State(dest), True)
            assert engine.status(name_after(trigger)).state is State(dest)
            return
        case ["holds"]:
            outcome = request_by(trigger)
            assert (outcome.state, outcome.changed) == (state, False)
        case ["refused"]:
            with pytest.raises(IllegalTransitionError):
                request_by(trigger)
        case ["not-found"]:
            with pytest.raises(NotFoundError):
                request_by(trigger)
    assert engine.status("web").state is state
    assert journal_bytes(home) == before


@pytest.mark.parametrize("state", EXISTING)
def test_fire_observed_trigger_is_a_usage_error(engine, home, bring, state):
    """An observed trigger, such as a guest's own poweroff, cannot be asked for."""
    bring("web", state)
    before = journal_bytes(home)
    with pytest.raises(UsageError):
        engine.fire("web", Trigger.exited)
    assert journal_bytes(home) == before


@pytest.mark.parametrize("trigger", [Trigger.shell, Trigger.copy])
@pytest.mark.parametrize("state", State)
def test_admit_in_state_does_what_the_reviewed_matrix_says(engine, home, bring, matrix, state, trigger):
    """Triggers that the caller carries out are allowed where the matrix says, and leave no line and no lock."""
    bring("web", state)
    before = journal_bytes(home)
    match matrix[trigger, state].split():
        case ["→", dest]:
            assert engine.admit("web", trigger).directory == home.directory("web")
            assert engine.status("web").state is State(dest)
        case ["refused"]:
            with pytest.raises(IllegalTransitionError, match=f"{trigger} is legal from running only"):
                engine.admit("web", trigger)
        case ["not-found"]:
            with pytest.raises(NotFoundError):
                engine.admit("web", trigger)
    assert journal_bytes(home) == before


def test_fire_what_is_the_callers_is_a_usage_error(engine, bring):
    """The engine does not carry out a shell."""
    bring("web", State.running)
    with pytest.raises(UsageError):
        engine.fire("web", Trigger.shell)


def test_fire_argument_that_the_row_does_not_take_is_a_usage_error(engine, bring):
    """An argument that would be ignored is refused."""
    bring("web", State.running)
    with pytest.raises(UsageError, match="kill takes no timeout_s"):
        engine.fire("web", Trigger.kill, timeout_s=5.0)


@pytest.mark.parametrize("trigger", [Trigger.start, Trigger.protect])
def test_fire_what_the_machine_refuses_is_refused(engine, home, bring, monkeypatch, trigger):
    """The state machine decides: without its transition nothing moves, whatever the table says."""
    bring("web", State.created)
    before = journal_bytes(home)
    monkeypatch.delitem(MACHINE.events[str(trigger)].transitions, "created")
    with pytest.raises(IllegalTransitionError):
        engine.fire("web", trigger)
    assert journal_bytes(home) == before


def test_fire_observed_row_is_the_machines_to_allow(engine, driver, home, bring, monkeypatch):
    """Observed triggers are fired like requested ones: an exit that the machine does not allow is not recorded."""
    bring("web", State.running)
    before = journal_bytes(home)
    driver.happen(engine.site("web"), alive=False, exit_reason="guest panicked")
    monkeypatch.delitem(MACHINE.events["exited"].transitions, "running")
    assert engine.status("web").state is State.running
    assert journal_bytes(home) == before


@pytest.mark.parametrize("trigger", [Trigger.reset, Trigger.delete])
def test_fire_protection_is_a_condition_of_the_machine(engine, bring, monkeypatch, trigger):
    """The transition's condition refuses a guarded row: without it, nothing would be protected."""
    bring("web", State.created)
    engine.fire("web", Trigger.protect)
    with pytest.raises(ProtectedError):
        engine.fire("web", trigger)
    (transition,) = MACHINE.events[str(trigger)].transitions["created"]
    monkeypatch.setattr(transition, "conditions", [])
    assert engine.fire("web", trigger).changed


def test_fire_create_without_a_plan_is_a_usage_error(engine, home):
    """Only `create` takes a plan, and nothing is created without one."""
    with pytest.raises(UsageError):
        engine.fire("web", Trigger.create)
    assert not home.creating("web").exists()


@pytest.mark.parametrize("name", ["", "../web", "a/b", ".creating", "-f", "a" * 64])
def test_any_call_with_impossible_name_touches_nothing(engine, home, plan, name):
    """A name is checked before a folder is made, a lock taken or a file opened."""
    calls = [
        lambda: engine.create(name, plan),
        lambda: engine.fire(name, Trigger.delete),
        lambda: engine.fire(name, Trigger.delete, force=True),
        lambda: engine.status(name),
        lambda: engine.site(name),
        lambda: list(engine.history(name)),
        lambda: engine.verdicts(name),
    ]
    for call in calls:
        with pytest.raises(InvalidNameError):
            call()
    assert not home.root.exists()


@pytest.mark.parametrize("state", State)
def test_verdicts_agree_with_what_requests_do(engine, bring, pause, matrix, state):
    """`can` says exactly what the matrix says, with a hint unless the outcome already holds."""
    bring("web", state)
    if state is State.running:
        pause("web")
    words = {(True, False): "→", (False, True): "holds", (False, False): ("refused", "not-found")}
    for verdict in engine.verdicts("web"):
        assert matrix[verdict.trigger, state].split()[0] in words[verdict.legal, verdict.holds]
        assert (verdict.hint is None) == verdict.holds


def test_create_announces_and_records_each_phase(engine, plan, heard):
    """A transition announces its begin, its steps and its end; the journal records the same."""
    engine.create("web", plan)
    steps = ["resolving", "writing the spec", "making a simulated disk"]
    assert [event.happening for event in heard] == [Happening.begun, *[Happening.step] * 3, Happening.done]
    lines = list(engine.history("web"))
    assert [line.phase for line in lines] == [Phase.begun, *[Phase.step] * 3, Phase.done]
    assert [line.step for line in lines[1:-1]] == [event.step for event in heard[1:-1]] == steps
    assert [line.seq for line in lines] == [event.seq for event in heard] == [1, 2, 3, 4, 5]
    assert {line.actor for line in lines} == {this_process()}


def test_fire_every_request_its_intent_is_on_disk_before_its_work(make_engine, watched, home, request_by):
    """While a driver works, the journal already names the trigger as in flight, and the state is still the source."""
    seen = {}

    def look(trigger):
        directory = home.creating("web") if trigger == Trigger.create else home.directory("web")
        line = Journal(directory).last()
        seen[trigger] = (line.trigger, line.in_flight, line.state)

    engine = make_engine(watched(look))
    life = [
        (Trigger.create, State.absent),
        (Trigger.start, State.created),
        (Trigger.stop, State.running),
        (Trigger.reset, State.stopped),
        (Trigger.start, State.created),
        (Trigger.kill, State.running),
        (Trigger.delete, State.stopped),
    ]
    for trigger, source in life:
        request_by(trigger, engine)
        assert seen[trigger] == (trigger, True, source)


def test_create_unfinished_instance_has_no_directory(make_engine, watched, home, plan):
    """Until its work is done, the instance does not exist: its directory appears by one rename."""
    seen = []
    engine = make_engine(watched(lambda _: seen.append(home.directory("web").exists())))
    engine.create("web", plan)
    assert (seen, home.directory("web").exists()) == ([False], True)


def test_delete_leaves_nothing_on_disk(engine, home, bring):
    """After delete, no file is left in the home or the runtime directory, not even a lock."""
    bring("web", State.stopped)
    engine.fire("web", Trigger.delete)
    assert [path for root in (home.root, home.runtime) for path in root.rglob("*") if path.is_file()] == []
    assert engine.names() == []


def test_create_on_a_dead_name_keeps_no_memory_of_it(engine, plan, bring):
    """A reused name is a new instance: its history begins with its own creation."""
    bring("web", State.stopped)
    engine.fire("web", Trigger.delete)
    engine.create("web", plan)
    assert next(iter(engine.history("web"))).seq == 1


def test_site_of_misspelt_name_proposes_the_one_meant(engine, bring):
    """An unknown name is answered with the name that was probably meant."""
    bring("web-server", State.created)
    with pytest.raises(NotFoundError, match='did you mean "web-server"'):
        engine.fire("web-servr", Trigger.start)


# -- several at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "trigger"),
    [
        (State.created, Trigger.start),
        (State.running, Trigger.stop),
        (State.running, Trigger.kill),
        (State.stopped, Trigger.delete),
    ],
)
def test_fire_same_trigger_by_two_one_does_it_and_both_succeed(
    make_engine, watched, bring, heard, threads, until, state, trigger
):
    """A second request for the same trigger waits and shares the result; the driver works once."""
    bring("web", state)
    driver = watched(hold=(trigger,))
    first = threads.submit(make_engine(driver).fire, "web", trigger)
    assert driver.entered.wait(DEADLINE_S)
    second = threads.submit(make_engine(driver).fire, "web", trigger)
    until(lambda: Happening.joined in [event.happening for event in heard])
    driver.go.set()
    assert [first.result().changed, second.result().changed] == [True, False]
    assert first.result().state == second.result().state
    assert driver.calls == [trigger]


def test_fire_same_trigger_that_fails_fails_for_both(make_engine, watched, bring, heard, threads, until):
    """A caller that waited for the work raises its error; nobody tries it a second time."""
    bring("web", State.created)

    def fail(trigger):
        if trigger == "start":
            driver.entered.set()
            driver.go.wait(DEADLINE_S)
            raise DriverError("the disk is on fire", details=["smoke"])

    driver = watched(fail)
    first = threads.submit(make_engine(driver).fire, "web", Trigger.start)
    assert driver.entered.wait(DEADLINE_S)
    second = threads.submit(make_engine(driver).fire, "web", Trigger.start)
    until(lambda: Happening.joined in [event.happening for event in heard])
    driver.go.set()
    errors = [first.exception(), second.exception()]
    assert [(type(error), error.message, error.details) for error in errors] == [
        (DriverError, "the disk is on fire", ("smoke",))
    ] * 2
    assert driver.calls.count("start") == 1


def test_fire_other_trigger_while_one_runs_is_busy_and_says_with_what(make_engine, watched, bring, threads):
    """Another trigger is refused with the name, age and pid of the running one, which is not disturbed."""
    bring("web", State.created)
    driver = watched(hold=("reset",))
    first = threads.submit(make_engine(driver).fire, "web", Trigger.reset)
    assert driver.entered.wait(DEADLINE_S)
    with pytest.raises(BusyError, match=rf"^resetting .* for \d\.\d s \(pid {os.getpid()}\); start was not begun$"):
        make_engine(driver).fire("web", Trigger.start)
    driver.go.set()
    assert first.result().changed
    assert driver.calls == ["reset"]


def test_fire_waits_for_other_work_as_long_as_it_was_asked_to(make_engine, watched, bring, threads, home, monkeypatch):
    """A caller that may wait is judged by the state after that work; if its time is too short, it gets BusyError."""
    bring("web", State.created)
    driver = watched(hold=("reset",))
    first = threads.submit(make_engine(driver).fire, "web", Trigger.reset)
    assert driver.entered.wait(DEADLINE_S)
    impatient, patient = (Engine(home, lambda _: driver, wait_s=wait_s) for wait_s in (0.05, DEADLINE_S))
    with pytest.raises(BusyError, match="start was not begun"):
        impatient.fire("web", Trigger.start)
    looked = threading.Event()
    pause = engine_module.cancellation.pause

    def paused(seconds):
        looked.set()
        pause(seconds)

    monkeypatch.setattr(engine_module.cancellation, "pause", paused)
    second = threads.submit(patient.fire, "web", Trigger.start)
    assert looked.wait(DEADLINE_S)
    driver.go.set()
    assert (first.result().changed, second.result().state) == (True, State.running)


def test_create_while_it_is_being_created_is_busy(make_engine, watched, plan, threads):
    """An instance that another caller creates may differ from the one asked for, so the result is not shared."""
    driver = watched(hold=("create",))
    first = threads.submit(make_engine(driver).create, "web", plan)
    assert driver.entered.wait(DEADLINE_S)
    with pytest.raises(BusyError, match=r'^creating "web"'):
        make_engine(driver).create("web", plan)
    driver.go.set()
    assert first.result().changed


def test_fire_joined_start_that_had_less_time_is_tried_again(make_engine, watched, bring, threads):
    """Another caller's shorter deadline is no failure for a caller with more time."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    first = threads.submit(make_engine(driver).fire, "web", Trigger.start, timeout_s=1.0)
    assert driver.entered.wait(DEADLINE_S)
    assert make_engine().fire("web", Trigger.start, timeout_s=DEADLINE_S).changed
    assert isinstance(first.exception(), DeadlineError)


def test_fire_joined_start_that_was_called_off_is_tried_again(make_engine, watched, bring, threads):
    """Ctrl-C in another process does not cancel our request."""
    bring("web", State.created)
    driver = watched(hold=("start",))

    def call_off(trigger):
        if trigger == "start":
            driver.entered.set()
            driver.go.wait()
            raise KeyboardInterrupt

    driver.inside, joined = call_off, threading.Event()
    first = threads.submit(make_engine(driver).fire, "web", Trigger.start)
    assert driver.entered.wait(DEADLINE_S)
    second = make_engine()
    second._announce = lambda event: joined.set() if event.happening is Happening.joined else None
    other = threads.submit(second.fire, "web", Trigger.start)
    assert joined.wait(DEADLINE_S)
    driver.go.set()
    assert isinstance(first.exception(), KeyboardInterrupt)
    assert other.result().changed


def test_restart_that_joined_a_start_which_was_stopped_does_not_try_itself(
    make_engine, watched, spec, threads, driver, monkeypatch
):
    """Another caller started the guest and another one stopped it: no restart is due any more."""
    monkeypatch.setattr(restarts, "_FIRST_S", 0.0)
    engine = make_engine()
    engine.create("web", lambda _: Draft(spec._replace(restart="on-failure"), {}))
    engine.fire("web", Trigger.start)
    driver.happen(engine.site("web"), alive=False, failed=True)
    slow, joined = watched(hold=("start",)), threading.Event()
    first = threads.submit(make_engine(slow).fire, "web", Trigger.start)
    assert slow.entered.wait(DEADLINE_S)
    keepers = make_engine()
    keepers._announce = lambda event: joined.set() if event.happening is Happening.joined else None
    other = threads.submit(keepers.fire, "web", Trigger.start, restart=1)
    assert joined.wait(DEADLINE_S)
    engine.fire("web", Trigger.stop)
    assert isinstance(first.exception(), CancelledError)
    assert (other.result().changed, engine.status("web").state) == (False, State.stopped)


def test_fire_who_joins_keeps_his_own_deadline(make_engine, watched, bring, threads):
    """A caller waits for another's work as long as its own deadline allows, and that work continues."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    first = threads.submit(make_engine(driver).fire, "web", Trigger.start)
    assert driver.entered.wait(DEADLINE_S)
    with pytest.raises(DeadlineError, match=r"for longer than 0\.1 s"):
        make_engine().fire("web", Trigger.start, timeout_s=0.1)
    driver.go.set()
    assert first.result().changed


@pytest.mark.parametrize("urgent", [Trigger.stop, Trigger.kill])
def test_fire_more_urgent_trigger_calls_a_start_off(make_engine, watched, bring, heard, threads, urgent):
    """`stop` does not wait for the deadline of a start that hangs: it cancels the start and leaves nothing alive."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    engine = make_engine(driver)
    first = threads.submit(engine.fire, "web", Trigger.start)
    assert driver.entered.wait(DEADLINE_S)
    assert make_engine(driver).fire("web", urgent).state is State.created
    assert isinstance(first.exception(), CancelledError)
    assert Happening.preempted in [event.happening for event in heard]
    assert not driver.observe(engine.site("web")).alive


def test_fire_start_called_off_leaves_nothing_alive_though_asked_to_keep(make_engine, watched, bring, threads):
    """Only a guest that did not answer is kept for inspection, not one that somebody wanted down."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    engine = make_engine(driver)
    first = threads.submit(engine.fire, "web", Trigger.start, keep_on_failure=True)
    assert driver.entered.wait(DEADLINE_S)
    make_engine(driver).fire("web", Trigger.stop)
    assert isinstance(first.exception(), CancelledError)
    assert driver.calls == ["start", "kill"]


def test_fire_while_lock_is_held_and_nothing_is_seen_is_busy(engine, home, bring, monkeypatch):
    """If the lock is held but no operation is visible, a caller waits a moment and then names the holder."""
    monkeypatch.setattr(engine_module, "HANDOVER_S", 0.05)
    bring("web", State.created)
    with Lock(home.lock("web")) as lock:
        assert lock.acquire()
        with pytest.raises(BusyError, match=f"held by pid {os.getpid()}; start was not begun"):
            engine.fire("web", Trigger.start)


def test_fire_on_two_instances_at_once_neither_waits(make_engine, watched, engine, bring, threads):
    """Each name has its own lock: a start that hangs does not hold up another instance."""
    bring("web", State.created)
    bring("db", State.created)
    driver = watched(hold=("start",))
    first = threads.submit(make_engine(driver).fire, "web", Trigger.start)
    assert driver.entered.wait(DEADLINE_S)
    assert engine.fire("db", Trigger.start).changed
    driver.go.set()
    assert first.result().changed


# -- status --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "limit_s"), [({}, 30.0), ({"timeout_s": 7.0}, 7.0), ({"timeout_s": 1e300}, None)])
def test_status_of_operation_in_flight_tells_all_about_it(make_engine, watched, engine, bring, threads, asked, limit_s):
    """While a start runs, every reader sees its step, its process and its deadline, which is the caller's or else the
    spec's; the state is still the source."""
    bring("web", State.created)
    driver = watched(hold=("start",))
    work = threads.submit(make_engine(driver).fire, "web", Trigger.start, **asked)
    assert driver.entered.wait(DEADLINE_S)
    status = engine.status("web")
    driver.go.set()
    assert work.result().changed
    seen = status.operation
    assert (status.state, seen.trigger, seen.step) == (State.created, Trigger.start, "waiting for the simulated guest")
    assert (seen.actor, seen.interrupted) == (this_process(), False)
    if limit_s is None:
        assert seen.deadline is None
    else:
        took = datetime.fromisoformat(seen.deadline) - datetime.fromisoformat(seen.since)
        assert took.total_seconds() == pytest.approx(limit_s, abs=1.0)


def test_status_of_creation_in_flight_is_absent_with_its_operation(make_engine, watched, engine, plan, threads):
    """An instance that is being created is listed meanwhile, although its state is still `absent`."""
    driver = watched(hold=("create",))
    work = threads.submit(make_engine(driver).create, "web", plan)
    assert driver.entered.wait(DEADLINE_S)
    (status,) = engine.statuses()
    driver.go.set()
    assert work.result().changed
    assert (status.name, status.state, status.operation.trigger) == ("web", State.absent, Trigger.create)


def test_status_of_unknown_name_is_absent_and_makes_nothing(engine, home):
    """Asking for the status of a name creates nothing."""
    status = engine.status("web")
    assert (status.state, status.operation, status.damage) == (State.absent, None, None)
    assert not home.root.exists()


@pytest.mark.parametrize("reason", ["guest panicked", None])
def test_status_of_guest_that_went_down_unasked_records_it(engine, driver, bring, heard, reason):
    """An exit that nobody asked for is recorded once, with its reason."""
    bring("web", State.running)
    driver.happen(engine.site("web"), alive=False, exit_reason=reason)
    status = engine.status("web")
    assert (status.state, status.reason) == (State.stopped, reason or "reason unknown")
    assert engine.status("web") == status
    assert [line.trigger for line in engine.history("web")].count(Trigger.exited) == 1
    assert heard[-1].happening is Happening.observed


@pytest.fixture
def kept(engine, spec):
    """Return the name of an instance whose machine another program may start and stop."""
    engine.create("web", lambda _: Draft(spec._replace(kept_by="limactl"), {}))
    return "web"


@pytest.mark.parametrize("state", [State.created, State.stopped])
def test_status_of_machine_that_its_keeper_started_records_it(engine, driver, kept, heard, state):
    """A machine at rest that is found alive was started by its keeper: it stays alive, and is `running`."""
    for trigger in [Trigger.start, Trigger.stop] if state is State.stopped else []:
        engine.fire(kept, trigger)
    driver.happen(engine.site(kept), alive=True, boot_id=boot_id())
    status = engine.status(kept)
    assert (status.state, status.reason) == (State.running, "started by limactl")
    assert engine.status(kept) == status
    assert (heard[-1].happening, heard[-1].trigger) == (Happening.observed, Trigger.found)
    assert driver.observe(engine.site(kept)).alive


def test_request_for_what_its_keeper_started_is_decided_from_running(engine, driver, kept):
    """A machine that the keeper started is not ended for another request, which is refused as for any running one."""
    driver.happen(engine.site(kept), alive=True, boot_id=boot_id())
    with pytest.raises(IllegalTransitionError, match="is running"):
        engine.fire(kept, Trigger.delete)
    assert driver.observe(engine.site(kept)).alive


def test_start_of_what_its_keeper_started_waits_for_the_guest(engine, driver, kept):
    """`start` waits until the guest answers, which the keeper may not have done."""
    driver.happen(engine.site(kept), alive=True, boot_id=boot_id())
    assert engine.fire(kept, Trigger.start).changed
    assert [line.trigger for line in engine.history(kept)][-1] is Trigger.start


def test_status_at_rest_asks_no_driver_of_machines_that_nobody_else_starts(engine, driver, bring, monkeypatch):
    """Listing a thousand stopped instances asks no driver about any of them."""
    bring("web", State.stopped)
    monkeypatch.setattr(driver, "observe", lambda _: pytest.fail("observed"))
    assert engine.status("web").state is State.stopped


def test_status_after_reboot_of_the_host_records_the_exit(engine, driver, bring):
    """A machine of an earlier boot of the host no longer runs."""
    bring("web", State.running)
    driver.happen(engine.site("web"), boot_id="another boot")
    assert (engine.status("web").state, engine.status("web").reason) == (State.stopped, "host went down")


def test_fire_start_of_guest_that_went_down_unasked_starts_it(engine, driver, bring):
    """The exit is recorded before the request is decided: the guest is started, not reported as running."""
    bring("web", State.running)
    driver.happen(engine.site("web"), alive=False, exit_reason="guest shut down")
    assert engine.fire("web", Trigger.start).changed
    assert [line.trigger for line in engine.history("web") if line.phase is Phase.done] == [
        *(Trigger.create, Trigger.start, Trigger.exited, Trigger.start)
    ]


def test_statuses_while_instances_come_and_go_shows_no_damage(make_engine, engine, plan, threads):
    """A listing shows an instance that is being created or deleted, or leaves it out, but never as damaged."""

    def come_and_go():
        mine = make_engine()
        for _ in range(30):
            mine.create("web", plan)
            mine.fire("web", Trigger.delete)

    work = threads.submit(come_and_go)
    while not work.done():
        assert [status.damage for status in engine.statuses() if status.damage] == []
    work.result()


# -- damage --------------------------------------------------------------------------------------------------------

DAMAGES = {
    "no spec": lambda path: (path / SPEC_FILE).unlink(),
    "empty spec": lambda path: (path / SPEC_FILE).write_bytes(b""),
    "no journal": lambda path: (path / FILE).unlink(),
    "empty journal": lambda path: (path / FILE).write_bytes(b""),
    "odd journal": lambda path: (path / FILE).write_bytes(b"{}\n"),
    "a folder for a journal": lambda path: ((path / FILE).unlink(), (path / FILE).mkdir()),
    "a file for a directory": lambda path: (remove_tree(path), path.write_bytes(b"")),
}


@pytest.fixture(params=DAMAGES)
def damaged(request, home, bring):
    """Return the name of a damaged instance, which is next to an undamaged one."""
    bring("web", State.running)
    bring("db", State.created)
    DAMAGES[request.param](home.directory("web"))
    return "web"


def test_statuses_with_a_damaged_instance_lists_both(engine, damaged):
    """A damaged instance is listed as such, and the other one is not affected."""
    by_name = {status.name: status for status in engine.statuses()}
    assert list(by_name) == ["db", "web"]
    assert by_name[damaged].damage
    assert by_name["db"].damage is None


def test_calls_on_a_damaged_instance_say_so_and_the_way_out(engine, damaged):
    """Calls that have to read the instance fail; the hint repairs or deletes it."""
    calls = [lambda: engine.fire(damaged, Trigger.provision), lambda: engine.verdicts(damaged)]
    for call in calls:
        with pytest.raises(DamagedError) as caught:
            call()
        assert caught.value.hint == engine.way_out(damaged)
    try:
        engine.fire(damaged, Trigger.repair)
    except DamagedError:
        assert f"interlock delete {damaged} --force" == caught.value.hint
    else:
        assert f"interlock repair {damaged}" == caught.value.hint


def test_discard_of_a_damaged_instance_ends_it_and_leaves_nothing(engine, home, damaged, heard):
    """Whatever is broken, the machine is ended, the files are removed, and the deletion is announced."""
    outcome = engine.fire(damaged, Trigger.delete, force=True)
    assert (outcome.state, outcome.changed) == (State.absent, True)
    assert engine.names() == ["db"]
    assert not home.sockets(damaged).exists()
    assert (heard[-1].happening, heard[-1].trigger) == (Happening.done, Trigger.delete)


def test_names_of_what_cannot_be_an_instance_are_left_out(engine, home, bring):
    """A stray folder is no instance, and does not keep the instances from being listed."""
    bring("web", State.created)
    for stray in ("lost+found", "my machine", "x" * 64):
        (home.instances / stray).mkdir()
    assert [status.name for status in engine.statuses()] == ["web"]


@pytest.mark.parametrize("refused_by", [Engine, Rehearsal])
@pytest.mark.parametrize(
    ("trigger", "state", "asked", "typed"),
    [
        (Trigger.rename, State.running, {"new": "site"}, "interlock stop web && interlock rename web site"),
        (Trigger.clone, State.running, {"new": "twin"}, "interlock stop web && interlock clone web twin"),
        (Trigger.fork, State.created, {"new": ("a", "b")}, "interlock start web && interlock fork web a b"),
    ],
)
def test_hint_of_a_refusal_has_what_was_asked_for(home, driver, bring, refused_by, trigger, state, asked, typed):
    """The hint repeats the arguments of the request instead of the row's example."""
    bring("web", state)
    with pytest.raises(IllegalTransitionError) as refused:
        refused_by(home, lambda _: driver).fire("web", trigger, **asked)
    assert refused.value.hint == typed


def test_hints_about_protection_and_memory_have_what_was_asked_for(engine, bring):
    """The hints that lead around a suspended guest and around protection repeat the request, too."""
    bring("web", State.running)
    engine.fire("web", Trigger.suspend)
    with pytest.raises(IllegalTransitionError) as refused:
        engine.fire("web", Trigger.clone, new="twin")
    assert refused.value.hint.endswith(" && interlock clone web twin")
    engine.fire("web", Trigger.start)
    engine.fire("web", Trigger.stop)
    engine.fire("web", Trigger.snapshot, tag="monday")
    engine.fire("web", Trigger.protect)
    with pytest.raises(ProtectedError) as guarded:
        engine.fire("web", Trigger.restore, tag="monday")
    assert guarded.value.hint == "interlock unprotect web && interlock snapshot restore web monday"
