"""Every row is cut short, and meets a failing disk, at each of its effects: nothing is lost.

The engine runs in this process, over the simulated driver. An effect is a system call that changes a file; the test is
repeated with the next effect until a run ends by itself, so nobody has to count them. Tests of the real program with
real signals follow below.
"""

import errno
import fcntl
import itertools
import json
import os
import pty
import shutil
import signal
import termios
from contextlib import suppress

import pytest
from asking import COPY, larger, name_after, needs, prepare

from interlock.api import Interlock
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import CancelledError, IllegalTransitionError, InterlockError, NotFoundError
from interlock.fsm import entry as entry_module
from interlock.fsm import journal as journal_module
from interlock.fsm.engine import Engine
from interlock.fsm.journal import Journal
from interlock.fsm.spec import Spec
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, TABLE, By, Trigger
from interlock.host import cancellation
from interlock.host.process import this_process

DEAD = this_process()._replace(started_ticks=1, command="interlock of the dead")
"""A process that once had our pid."""

PAIRS = [
    pytest.param(
        row.trigger, source, marks=[pytest.mark.slow] if row.dest is None and source != row.sources[-1] else []
    )
    for row in TABLE
    if row.recorded
    for source in row.sources
]
"""Every pair; a row that keeps the state does the same work from each source, so all its sources but one are slow."""

WAY = {State.created: (), State.running: (Trigger.start,), State.stopped: (Trigger.start, Trigger.stop)}
REASONS = [errno.ENOSPC, *(pytest.param(reason, marks=pytest.mark.slow) for reason in (errno.EIO, errno.EACCES))]


class PowerCut(BaseException):
    """Ends the process in which it is raised."""


@pytest.fixture
def world(request, tmp_path, home, plan):
    """Return a maker of engines, each in its own home, with `web` in a given state.

    For `resume` the guest is paused; otherwise there would be nothing to do. The first home is built, and the others
    are copies of it.
    """
    paused = request.node.callspec.params.get("trigger") is Trigger.resume
    first = home._replace(root=tmp_path / "first")

    def live(engine, state):
        engine.home.prepare()
        if state is not State.absent:
            engine.create("web", plan)
            for trigger in WAY[state]:
                engine.fire("web", trigger)
            prepare(engine, request.node.callspec.params.get("trigger"))
        if paused:
            SimulatedDriver(orders={}).happen(engine.site("web"), condition="paused")

    def make(number, state):
        if not first.root.exists():
            live(Engine(first, lambda _: SimulatedDriver(orders={})), state)
        engine = Engine(home._replace(root=tmp_path / f"home{number}"), lambda _: SimulatedDriver(orders={}))
        shutil.copytree(first.root, engine.home.root)
        return engine

    return make


@pytest.fixture
def ask(plan):
    """Return a function that asks an engine for any trigger."""
    return lambda engine, trigger: (
        engine.create("web", plan) if trigger is Trigger.create else engine.fire("web", trigger, **needs(trigger))
    )


def name_of(engine, trigger):
    """Return the present name of the instance that was `web` when `trigger` was requested."""
    names = [name for name in ("web", COPY) if engine.home.exists(name)]
    assert not BY_TRIGGER[trigger].moves or len(names) == 1
    return names[0] if BY_TRIGGER[trigger].moves else "web"


def kept(engine, name="web"):
    """Return what must never be lost of an instance: its spec, its seed and its journal."""
    directory = engine.home.directory(name)
    return [(directory / name).read_bytes() for name in ("spec.json", "seed", "journal.jsonl")]


def files_left(engine):
    """Return every file in home and runtime."""
    return [path for root in (engine.home.root, engine.home.runtime) for path in root.rglob("*") if not path.is_dir()]


def assert_whole(engine, trigger, source, before):
    """Check what is promised of `web` after `trigger` from `source` was disturbed; return the state."""
    listed = {status.name: status for status in engine.statuses()}
    name = name_of(engine, trigger)
    status = engine.status(name)
    assert status.damage is None
    assert status.state in (source, BY_TRIGGER[trigger].leads_to(source))
    if status.state is State.absent:
        assert (listed, files_left(engine)) == ({}, [])
        return status.state
    alive = SimulatedDriver(orders={}).observe(engine.site(name)).alive
    if status.operation:  # looking does not wait for a guest that may be booting or shutting down
        assert (status.operation.interrupted, status.operation.trigger in ("start", "stop"), alive) == (True,) * 3
    else:
        assert alive == (status.state is State.running)
    if name == "web":
        assert_copy_whole(engine, listed)
    after = kept(engine, name)
    if trigger is Trigger.edit:  # the spec is either the old one or the one that was asked for
        old, new = (Spec.from_json(json.loads(files[0]), "spec") for files in (before, after))
        assert new in (old, larger(old))
        before, after = before[1:], after[1:]
    assert [new.startswith(old) for new, old in zip(after, before, strict=False)] == [True] * len(before)
    assert_chained(engine, name)
    return status.state


def assert_copy_whole(engine, listed):
    """Check that nothing is listed beside `web` except a copy that is whole and at rest."""
    assert listed.keys() <= {"web", COPY}
    if COPY in listed:
        assert (listed[COPY].state, listed[COPY].damage, listed[COPY].operation) == (State.created, None, None)
        assert_chained(engine, COPY)


def assert_chained(engine, name="web"):
    """Check that each journal line begins in the state that the previous one left, and that no line is missing."""
    state = State.absent
    for number, line in enumerate(Journal(engine.home.directory(name)).lines(), start=1):
        assert (number, state) == (line.seq, line.source)
        state = line.state


def assert_leads_on(engine, ask, trigger, source):
    """Check that the same request again succeeds, copies included, and that `delete --force` removes everything."""
    dest = BY_TRIGGER[trigger].leads_to(source)
    try:
        assert ask(engine, trigger).state is dest
    except (IllegalTransitionError, NotFoundError):  # it was already done, and cannot be done twice
        assert engine.status(name_after(trigger)).state is dest
    assert engine.home.exists(COPY) == ("new" in needs(trigger))
    engine.fire(name_after(trigger), Trigger.unprotect) if dest is not State.absent else None
    for name in ("web", COPY) if "new" in needs(trigger) else ("web",):
        Interlock(engine.home).delete(name, force=True)
    assert files_left(engine) == []


@pytest.mark.parametrize(("trigger", "source"), PAIRS)
def test_row_whose_process_is_killed_at_any_effect_is_settled(
    world, ask, effects, injected, monkeypatch, trigger, source
):
    """Wherever the power fails, the next look finds the source or the destination, and the world that it promises;
    nothing is lost or orphaned, the same request then succeeds, and `delete --force` removes everything."""
    for last in itertools.count(1):
        engine = world(last, source)
        before = kept(engine) if source is not State.absent else []
        passed = []

        def cut(point, name, last=last, passed=passed):
            if name != "fsync":  # fsync changes no file: the state is the one after the previous effect
                passed.append(point)
            if len(passed) >= last:
                raise PowerCut

        with monkeypatch.context() as patch:
            patch.setattr(entry_module, "this_process", lambda: DEAD)
            effects(patch, cut)
            with suppress(PowerCut):
                ask(engine, trigger)
        assert_whole(engine, trigger, source, before)
        assert_leads_on(engine, ask, trigger, source)
        if len(passed) < last:
            return
        injected("Interlock killed before, in the middle of, or after any effect")


@pytest.mark.parametrize("reason", [None, errno.EIO], ids=["killed", "EIO"])
def test_rename_that_is_disturbed_at_any_effect_is_finished_or_given_up(world, effects, monkeypatch, reason):
    """Under the new name the spec has its own paths and the history says `done`; under the old name neither is true."""
    for last in itertools.count(1):
        engine = world(last, State.stopped)
        spec = engine.home.directory("web") / "spec.json"
        said = {**json.loads(spec.read_text()), "message": f"{engine.home.directory('web')}/sock"}
        spec.write_text(json.dumps(said))

        def disturb(point, name, last=last):
            if point >= last if reason is None else point == last:
                raise PowerCut if reason is None else OSError(reason, os.strerror(reason), name)

        with monkeypatch.context() as patch:
            patch.setattr(entry_module, "this_process", lambda: DEAD)
            points = effects(patch, disturb)
            with suppress(PowerCut, InterlockError):
                engine.fire("web", Trigger.rename, new=COPY)
        list(engine.statuses())
        name = name_of(engine, Trigger.rename)
        assert engine.site(name).spec.message == f"{engine.home.directory(name)}/sock"
        ends = {str(line.phase) for line in engine.history(name) if line.trigger == "rename"} - {
            "begun",
            "step",
            "left",
        }
        assert ("done" in ends, "failed" in ends or "undone" in ends) == (name == COPY, name != COPY and bool(ends))
        if points.count < last:
            return


@pytest.mark.parametrize("reason", [None, errno.ENOSPC], ids=["killed", "ENOSPC"])
def test_journal_that_is_rewritten_at_every_line_survives_what_happens(world, ask, effects, monkeypatch, reason):
    """Its latest lines replace it in one moment: cut short at any effect, the journal is the old one or the new one."""
    for last in itertools.count(1):
        engine = world(last, State.created)
        before = kept(engine)

        def cut(point, name, last=last):
            if point >= last if reason is None else point == last:
                raise PowerCut if reason is None else OSError(reason, os.strerror(reason), name)

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "LIMIT_BYTES", 0)
            patch.setattr(entry_module, "this_process", lambda: DEAD)
            points = effects(patch, cut)
            with suppress(PowerCut, InterlockError):
                ask(engine, Trigger.start)
        assert_whole(engine, Trigger.start, State.created, before)
        assert_leads_on(engine, ask, Trigger.start, State.created)
        if points.count < last:
            return


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
@pytest.mark.parametrize(("trigger", "source"), PAIRS)
def test_row_whose_disk_fails_at_any_effect_is_settled(
    world, ask, effects, injected, monkeypatch, trigger, source, reason
):
    """Wherever the disk fails once, the error is one of ours; the rest is as above."""
    for failing in itertools.count(1):
        engine = world(failing, source)
        before = kept(engine) if source is not State.absent else []

        def fail(point, _, failing=failing):
            if point == failing:
                raise OSError(reason, os.strerror(reason))

        with monkeypatch.context() as patch:
            points = effects(patch, fail)
            with suppress(InterlockError):
                ask(engine, trigger)
        assert_whole(engine, trigger, source, before)
        assert_leads_on(engine, ask, trigger, source)
        if points.count < failing:
            return
        injected(f"the disk fails once at any effect ({errno.errorcode[reason]})")


@pytest.mark.parametrize(("trigger", "source"), PAIRS)
def test_row_whose_disk_fills_up_at_any_effect_and_stays_full_is_settled(
    world, ask, effects, injected, monkeypatch, trigger, source
):
    """From some effect on, nothing can be written, only removed; once there is room again, as above."""
    for full in itertools.count(1):
        engine = world(full, source)
        before = kept(engine) if source is not State.absent else []
        needing = []

        def fill(point, name, full=full, needing=needing):
            if name in ("write", "mkdir", "link"):
                needing.append(point)
                if len(needing) >= full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            effects(patch, fill)
            with suppress(InterlockError):
                ask(engine, trigger)
            list(engine.statuses())
        assert_whole(engine, trigger, source, before)
        assert_leads_on(engine, ask, trigger, source)
        if len(needing) < full:
            return
        injected("the disk fills up at any effect and stays full (ENOSPC)")


@pytest.mark.parametrize(("trigger", "source"), PAIRS)
def test_row_called_off_by_a_signal_at_any_effect_is_undone_or_done(
    world, ask, effects, injected, monkeypatch, trigger, source
):
    """A signal sets the flag at any effect: the work is undone at the next check, or done; nothing stays in flight.

    A signal after the last check is too late: the row is done, and no error is raised. Nothing reads the flag between
    two checks, so one effect between them stands for the others.
    """
    check = cancellation.check
    for number in itertools.count():
        engine = world(number, source)
        before = kept(engine) if source is not State.absent else []
        looks = []

        def look(looks=looks):
            looks.append(None)
            check()

        def signalled(_point, _, number=number, looks=looks):
            if len(looks) >= number and not cancellation.requested():
                cancellation.request(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(cancellation, "check", look)
            effects(patch, signalled)
            ended = False
            try:
                ask(engine, trigger)
            except CancelledError:
                ended = True
            signal_came = cancellation.requested()
            cancellation._requested = None
        if not ended:
            assert engine.status(name_after(trigger)).state is BY_TRIGGER[trigger].leads_to(source)
        assert_whole(engine, trigger, source, before)
        assert engine.status(name_of(engine, trigger)).operation is None
        assert_leads_on(engine, ask, trigger, source)
        if not signal_came:
            return
        injected("SIGINT, SIGTERM or SIGHUP at any effect")


# -- the real program ----------------------------------------------------------------------------------------------


def test_start_whose_terminal_is_closed_is_undone(begin, bring, at_work, state, history, injected):
    """Closing the terminal cancels the start and ends its guest."""
    bring(State.created)
    leader, follower = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    process = begin(
        "start",
        "web",
        orders={"start": {"hang": True}},
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
        **streams,
    )
    os.close(follower)
    at_work()
    os.close(leader)
    assert process.wait(timeout=60) == 130
    assert (state(), history()[-1]) == ("created", ("start", "failed"))
    injected("the terminal is closed")


def test_start_whose_result_nobody_reads_is_done(begin, bring, state):
    """The closed pipe is noticed after the work: the guest runs, and the program ends like any other in a pipe."""
    bring(State.created)
    reader, writer = os.pipe()
    os.close(reader)
    process = begin("start", "web", "--format", "json", stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr, state()) == (141, False, "running")


@pytest.mark.parametrize(
    ("trigger", "source"), [(row.trigger, row.sources[-1]) for row in TABLE if row.by is By.driver and row.dest]
)
def test_row_whose_program_is_killed_is_settled_by_the_same_command(
    interlock, begin, bring, at_work, injected, state, trigger, source
):
    """SIGKILL in the middle of the driver's work: `list` answers, and the same command run again succeeds."""
    bring(source)
    given = ("-t", "tiny", "--driver", "simulated") if trigger == "create" else ()
    process = begin(trigger, "web", *given, orders={trigger: {"hang": True}})
    at_work()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert interlock("list").returncode == 0
    assert interlock(trigger, "web", *given).returncode == 0
    assert state() == BY_TRIGGER[trigger].dest
    injected("the program killed by SIGKILL in the middle of a driver's work")
