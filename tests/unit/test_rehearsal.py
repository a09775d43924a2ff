"""A dry run predicts what the engine will do, refuses what the engine would refuse, and touches nothing."""

import inspect
import os
import re
from pathlib import Path

import pytest
from asking import needs, prepare

from interlock import Interlock
from interlock.errors import BusyError, InterlockError, InvalidNameError, ProtectedError, UsageError
from interlock.fsm.engine import Outcome
from interlock.fsm.happening import Happening
from interlock.fsm.journal import Journal, Line, Phase
from interlock.fsm.records import now
from interlock.fsm.rehearsal import Rehearsal
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, TABLE, Trigger
from interlock.host.process import Actor, this_process

RECORDED = tuple(row.trigger for row in TABLE if row.recorded and not row.observed)
DEAD = Actor(pid=2**22 - 1, started_ticks=1, boot_id="an earlier one", command="interlock")


def picture(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return everything below `folder`: path → metadata that any change would alter."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen = (Path(place) / name).lstat()
            path = f"{place}/{name}{'/' if name in folders else ''}"
            found[path] = (seen.st_ino, seen.st_mode, seen.st_nlink, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return found


@pytest.fixture
def rehearsal(home, driver, heard):
    """Return a dry-run engine for the home."""
    return Rehearsal(home, lambda _: driver, heard.append)


@pytest.fixture
def ask(plan):
    """Return a function that fires a trigger of `web` on an engine, and returns the outcome or the error's parts."""

    def ask(engine, trigger, **more):
        try:
            if trigger is Trigger.create:
                return engine.create("web", plan)
            return engine.fire("web", trigger, **needs(trigger), **more)
        except InterlockError as error:
            return type(error), error.message, error.hint, error.exit_code

    return ask


def visible(found, home):
    """Return the paths in `found` that belong to instances, without hidden ones and folders that hold several."""
    own = f"{home.instances}/"
    return {it for it in found if it.startswith(own) and it != own and "/." not in it and not it.endswith("snapshots/")}


def covered(path, names):
    """Return whether `path` is one of `names`, or below one that ends in a slash."""
    return any(path in (name, f"{name}/") or (name.endswith("/") and path.startswith(name)) for name in names)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", RECORDED)
def test_every_request_is_foreseen_as_it_then_happens(tmp_path, home, engine, rehearsal, bring, ask, trigger, state):
    """It predicts the states, the text of a refusal and each path that appears or vanishes, and touches nothing."""
    bring("web", state)
    prepare(engine, trigger)
    before = picture(tmp_path)
    foreseen = ask(rehearsal, trigger)
    assert picture(tmp_path) == before
    done = ask(engine, trigger)
    if not isinstance(done, Outcome):
        assert foreseen == done
        return
    assert (foreseen.instance, foreseen.state, foreseen.changed) == (done.instance, done.state, done.changed)
    own = [step for step in foreseen.steps if step.instance == "web"]
    assert [(it.trigger, it.source, it.dest) for it in own] == ([(trigger, state, done.state)] if done.changed else [])
    appear = [name for step in foreseen.steps for name in step.effects.appear]
    vanish = [name for step in foreseen.steps for name in step.effects.vanish]
    was, there = visible(before, home), visible(picture(tmp_path), home)
    assert [it for it in there - was if not covered(it, appear)] == []
    assert [it for it in was - there if not covered(it, vanish)] == []
    assert [it for it in appear if not os.path.lexists(it)] == []
    assert [it for it in vanish if not any(covered(name, [it]) for name in was)] == []


def test_requests_follow_one_another_in_the_imagined_world(tmp_path, rehearsal, bring):
    """Each request builds on the predicted result of the one before, and an outcome has all steps of its instance."""
    bring("web", State.running)
    before = picture(tmp_path)
    assert not rehearsal.fire("web", Trigger.start).changed
    rehearsal.fire("web", Trigger.suspend)
    assert rehearsal.status("web").saved
    rehearsal.fire("web", Trigger.start)
    assert not rehearsal.status("web").saved
    rehearsal.fire("web", Trigger.stop)
    outcome = rehearsal.fire("web", Trigger.rename, new="site")
    assert [str(step.trigger) for step in outcome.steps] == ["suspend", "start", "stop", "rename"]
    assert rehearsal.names() == ["site"]
    rehearsal.fire("site", Trigger.protect)
    with pytest.raises(ProtectedError):
        rehearsal.fire("site", Trigger.delete)
    rehearsal.fire("site", Trigger.clone, new="web")
    assert [status.name for status in rehearsal.statuses()] == ["site", "web"]
    assert picture(tmp_path) == before


def test_machine_that_went_down_is_foreseen_to_be_recorded(engine, rehearsal, bring, driver):
    """The exit is a separate step before the requested one."""
    bring("web", State.running)
    driver.happen(engine.site("web"), alive=False, exit_reason="guest panicked")
    exited, started = rehearsal.fire("web", Trigger.start).steps
    assert (exited.trigger, exited.dest, exited.effects.notes) == (Trigger.exited, State.stopped, ("guest panicked",))
    assert (started.source, started.dest) == (State.stopped, State.running)


def test_machine_that_is_alive_unrecorded_is_foreseen_to_run(engine, rehearsal, bring, driver):
    """A start that was not recorded is settled before another request; a `start` request settles it by itself."""
    bring("web", State.stopped)
    driver.happen(engine.site("web"), alive=True, condition=None)
    assert [step.trigger for step in rehearsal.fire("web", Trigger.start).steps] == [Trigger.start]
    found, wanted = Rehearsal(rehearsal.home, rehearsal.ports).fire("web", Trigger.kill).steps
    assert (found.trigger, found.dest, wanted.trigger) == (Trigger.start, State.running, Trigger.kill)


def begun(home, trigger, source, actor=DEAD, name="web"):
    """Leave `trigger` unfinished in the journal of `name`, as if its process had died in the middle."""
    journal = Journal(home.directory(name))
    line = Line(trigger, source, BY_TRIGGER[trigger].leads_to(source), Phase.begun, actor, now())
    journal.append(line, seq=journal.last().seq + 1)


@pytest.mark.parametrize(
    ("trigger", "state", "dest"),
    [
        (Trigger.start, State.created, State.created),
        (Trigger.stop, State.running, State.stopped),
        (Trigger.suspend, State.running, State.running),
        (Trigger.clone, State.stopped, State.stopped),
        (Trigger.reset, State.stopped, State.created),
    ],
)
def test_work_that_a_dead_process_left_is_foreseen_by_its_rule(home, engine, rehearsal, bring, trigger, state, dest):
    """The predicted state is the one that recovery then reaches; the recovery is a step with a note about its rule."""
    bring("web", state)
    begun(home, trigger, state)
    settled, protected = rehearsal.fire("web", Trigger.protect).steps
    assert (settled.trigger, settled.source, settled.dest) == (trigger, state, dest)
    assert settled.effects.notes[0].startswith("it was cut short. ")
    assert protected.trigger is Trigger.protect
    engine.fire("web", Trigger.protect)
    assert engine.status("web").state is dest


def test_request_that_finishes_what_was_left_is_one_step(home, rehearsal, bring):
    """Asking again for the interrupted transition plans only that transition, with no separate recovery step."""
    bring("web", State.running)
    begun(home, Trigger.stop, State.running)
    assert [step.trigger for step in rehearsal.fire("web", Trigger.stop).steps] == [Trigger.stop]


def test_work_of_another_process_is_refused_joined_or_called_off(home, rehearsal, bring, heard):
    """As in a real run, `start` waits for a running start, `stop` calls it off, and a reset is refused."""
    bring("web", State.created)
    begun(home, Trigger.start, State.created, this_process())
    with pytest.raises(BusyError):
        rehearsal.fire("web", Trigger.reset)
    assert not rehearsal.fire("web", Trigger.start).changed
    assert heard[-1].happening is Happening.joined
    assert not rehearsal.fire("web", Trigger.stop).changed
    assert rehearsal.status("web").state is State.created


def test_called_off_work_is_a_note(home, rehearsal, bring):
    """A stop during a provision notes that it calls off the provision."""
    bring("web", State.running)
    begun(home, Trigger.provision, State.running, this_process())
    (step,) = rehearsal.fire("web", Trigger.stop).steps
    assert step.effects.notes == (f"calls off the provision of pid {os.getpid()}",)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("file", ["spec.json", "journal.jsonl"])
@pytest.mark.parametrize("trigger", [Trigger.delete, Trigger.unprotect, Trigger.start, Trigger.repair])
def test_damage_is_foreseen_as_it_is_treated(tmp_path, home, engine, rehearsal, bring, ask, trigger, file, force):
    """With --force a damaged instance can be removed; anything else is refused with the same text as in a real run."""
    bring("web", State.stopped)
    (home.directory("web") / file).write_bytes(b"{")
    before = picture(tmp_path)
    foreseen = ask(rehearsal, trigger, force=force)
    assert picture(tmp_path) == before
    done = ask(engine, trigger, force=force)
    if not isinstance(done, Outcome):
        assert foreseen == done
    else:
        assert (foreseen.state, foreseen.changed) == (done.state, done.changed)


def test_work_of_the_caller_and_other_things_have_no_dry_run(home, bring):
    """Calls that the engine does not make cannot be predicted, so a dry run refuses them instead of making them."""
    bring("web", State.running)
    vms = Interlock(home, dry_run=True)
    for call in (
        lambda: vms.shell("web"),
        lambda: vms.copy("web:a", "b"),
        lambda: vms.images,
        lambda: vms.disks,
        lambda: vms.prune([]),
        lambda: vms.autostart("web"),
        lambda: vms.throwaway("tiny").__enter__(),
    ):
        with pytest.raises(UsageError, match="a dry run cannot"):
            call()


def test_sequences_are_foreseen_step_by_step(tmp_path, home, bring):
    """`restart`, `up`, `fork` and a forced `delete` are shown as the rows that they consist of; nothing is touched."""
    bring("web", State.running)
    before = picture(tmp_path)

    def steps(outcome):
        return [(step.instance, str(step.trigger), str(step.source), str(step.dest)) for step in outcome.steps]

    def dry():
        return Interlock(home, driver="simulated", dry_run=True)

    assert steps(dry().restart("web")) == [
        ("web", "stop", "running", "stopped"),
        ("web", "start", "stopped", "running"),
    ]
    assert steps(dry().delete("web", force=True)) == [
        ("web", "kill", "running", "stopped"),
        ("web", "delete", "stopped", "absent"),
    ]
    assert steps(dry().up("new", "tiny")) == [
        ("new", "create", "absent", "created"),
        ("new", "start", "created", "running"),
    ]
    vms = dry()
    assert steps(vms.fork("web", "a", "b"))[1:] == [(name, "create", "absent", "created") for name in "ab"]
    assert steps(vms.start("a")) == [("a", "start", "created", "running")]
    assert picture(tmp_path) == before


def test_no_row_is_named_but_create():
    """A new row is predicted from its columns and by its driver; the rehearsal needs no code for it."""
    source = inspect.getsource(inspect.getmodule(Rehearsal))
    assert [row.trigger for row in TABLE if re.search(rf"\bTrigger\.{row.trigger}\b", source)] == [Trigger.create]


@pytest.mark.parametrize("trigger", RECORDED)
def test_name_that_cannot_be_is_refused_before_anything_is_looked_at(rehearsal, plan, trigger):
    """A dry run checks names as the engine does."""
    create = {Trigger.create: lambda: rehearsal.create("../x", plan)}
    request = create.get(trigger, lambda: rehearsal.fire("../x", trigger, **needs(trigger)))
    with pytest.raises(InvalidNameError):
        request()


def test_edit_of_what_is_imagined_alone_is_foreseen(rehearsal, plan):
    """There is no spec file for an instance that exists only in the dry run, so the predicted spec is edited."""
    rehearsal.create("web", plan)
    edited = rehearsal.fire("web", Trigger.edit, change=lambda spec: spec._replace(cpus=3))
    assert [step.trigger for step in edited.steps] == [Trigger.create, Trigger.edit]
    assert rehearsal.site("web").spec.cpus == 3
