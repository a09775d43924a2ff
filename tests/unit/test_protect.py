"""Every operation that can lose what a guest wrote respects protection."""

import pytest
from asking import needs

from interlock.api import Interlock
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import DriverError, IllegalTransitionError, ProtectedError
from interlock.fsm.journal import FILE
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import TABLE, Trigger
from interlock.fsm.words import typed

GUARDED = [row.trigger for row in TABLE if row.guarded]


def test_guarded_rows_are_those_that_destroy():
    """The guarded rows are those that lose the disk, as it is now or as a snapshot."""
    assert [Trigger.reset, Trigger.delete, Trigger.restore, Trigger.discard] == GUARDED


@pytest.mark.parametrize("state", AT_REST)
@pytest.mark.parametrize("trigger", GUARDED)
def test_protected_instance_refuses_what_destroys(engine, bring, state, trigger):
    """The state does not move, the journal does not grow, and the hint shows how to proceed."""
    bring("web", state)
    engine.fire("web", Trigger.protect)
    before = list(engine.history("web"))

    with pytest.raises(ProtectedError) as refused:
        engine.fire("web", trigger, **needs(trigger))

    assert refused.value.hint == f"interlock unprotect web && {typed('web', trigger, needs(trigger))}"
    assert before == list(engine.history("web"))
    assert (state, True) == (engine.status("web").state, engine.status("web").protected)


@pytest.mark.parametrize("state", [*AT_REST, State.running])
def test_protect_and_unprotect_leave_the_state(engine, bring, state):
    """Both transitions keep the state, and both may be repeated."""
    bring("web", state)
    for trigger, protected in ((Trigger.protect, True), (Trigger.unprotect, False)) * 2:
        assert engine.fire("web", trigger).state is state
        assert (state, protected) == (engine.status("web").state, engine.status("web").protected)
        assert engine.fire("web", trigger).state is state


def test_protect_and_unprotect_leave_the_reason(engine, bring, driver):
    """The reason for a state is that of the transition that led to it, whatever came after."""
    bring("web", State.running)
    driver.happen(engine.site("web"), alive=False, exit_reason="guest panicked")
    for _ in range(2):
        assert (State.stopped, "guest panicked") == (engine.status("web").state, engine.status("web").reason)
        engine.fire("web", Trigger.protect)
        assert engine.status("web").reason == "guest panicked"
        engine.fire("web", Trigger.unprotect)


def test_reason_of_a_failed_start_outlives_protect_and_ends_with_a_start(make_engine, bring):
    """A failed start is the reason, too, until a transition moves the instance."""
    bring("web", State.stopped)
    failing = make_engine(SimulatedDriver(orders={"start": {"error": "no memory"}}))
    with pytest.raises(DriverError):
        failing.fire("web", Trigger.start)
    engine = make_engine()
    engine.fire("web", Trigger.protect)
    assert engine.status("web").reason == "start failed: no memory"
    engine.fire("web", Trigger.start)
    assert engine.status("web").reason is None


@pytest.mark.parametrize("force", [True, False])
def test_protected_hint_keeps_what_was_typed(home, engine, bring, force):
    """The hint does what was asked: it keeps --force if that was given, and has every step of a longer way."""
    bring("web", State.running)
    engine.fire("web", Trigger.protect)

    with pytest.raises((ProtectedError, IllegalTransitionError)) as refused:
        Interlock(home).delete("web", force=force)

    way = "interlock unprotect web && interlock delete web"
    assert refused.value.hint == (f"{way} --force" if force else f"interlock stop web && {way}")


def test_verdict_of_protected_instance_says_so(engine, bring):
    """`can` gives the answer that a request would get."""
    bring("web", State.stopped)
    engine.fire("web", Trigger.protect)
    verdicts = {verdict.trigger: verdict for verdict in engine.verdicts("web")}

    assert [trigger for trigger in GUARDED if verdicts[trigger].legal] == []
    assert verdicts[Trigger.start].legal
    assert verdicts[Trigger.delete].why == 'instance "web" is protected; delete was not begun'


def test_delete_force_of_protected_running_instance_does_not_even_kill_it(engine, home, bring):
    """`--force` does not override protection, and the refusal comes before anything is done."""
    bring("web", State.running)
    engine.fire("web", Trigger.protect)

    with pytest.raises(ProtectedError):
        Interlock(home).delete("web", force=True)
    assert engine.status("web").state is State.running


@pytest.mark.parametrize("file", [FILE, SPEC_FILE])
def test_protected_damaged_instance_is_kept_until_unprotected(engine, home, bring, file):
    """A damaged instance is still protected, and can be deleted once it is unprotected."""
    bring("web", State.stopped)
    engine.fire("web", Trigger.protect)
    (home.directory("web") / file).write_text("garbage\n")
    vms = Interlock(home)

    with pytest.raises(ProtectedError):
        vms.delete("web", force=True)
    assert vms.status("web").protected
    vms.unprotect("web")
    vms.delete("web", force=True)
    assert not home.directory("web").exists()
