"""Protection is honoured by every way that leads to the loss of what a guest wrote."""

import pytest

from interlock.api import Interlock
from interlock.errors import ProtectedError
from interlock.fsm.journal import FILE
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import TABLE, Trigger

GUARDED = [row.trigger for row in TABLE if row.guarded]


def test_guarded_rows_are_those_that_destroy():
    """What a protected instance is kept from is losing its disk."""
    assert [Trigger.reset, Trigger.delete] == GUARDED


@pytest.mark.parametrize("state", AT_REST)
@pytest.mark.parametrize("trigger", GUARDED)
def test_protected_instance_refuses_what_destroys(engine, bring, state, trigger):
    """The state does not move and the journal does not grow; the hint leads on."""
    bring("web", state)
    engine.fire("web", Trigger.protect)
    before = list(engine.history("web"))

    with pytest.raises(ProtectedError) as refused:
        engine.fire("web", trigger)

    assert refused.value.hint == f"interlock unprotect web && interlock {trigger} web"
    assert before == list(engine.history("web"))
    assert (state, True) == (engine.status("web").state, engine.status("web").protected)


@pytest.mark.parametrize("state", [*AT_REST, State.running])
def test_protect_and_unprotect_leave_the_state(engine, bring, state):
    """Both are transitions that lead back to where they came from, and both may be repeated."""
    bring("web", state)
    for trigger, protected in ((Trigger.protect, True), (Trigger.unprotect, False)) * 2:
        assert engine.fire("web", trigger).state is state
        assert (state, protected) == (engine.status("web").state, engine.status("web").protected)
        assert engine.fire("web", trigger).state is state


def test_verdict_of_protected_instance_says_so(engine, bring):
    """`can` agrees with what a request would meet."""
    bring("web", State.stopped)
    engine.fire("web", Trigger.protect)
    verdicts = {verdict.trigger: verdict for verdict in engine.verdicts("web")}

    assert [trigger for trigger in GUARDED if verdicts[trigger].legal] == []
    assert verdicts[Trigger.start].legal
    assert verdicts[Trigger.delete].why == 'instance "web" is protected; delete was not begun'


def test_delete_force_of_protected_running_instance_does_not_even_kill_it(engine, home, bring):
    """`--force` overrules no protection, and nothing is done before that is known."""
    bring("web", State.running)
    engine.fire("web", Trigger.protect)

    with pytest.raises(ProtectedError):
        Interlock(home).delete("web", force=True)
    assert engine.status("web").state is State.running


@pytest.mark.parametrize("file", [FILE, SPEC_FILE])
def test_protected_damaged_instance_is_kept_until_unprotected(engine, home, bring, file):
    """Damage does not take protection away, and protection does not make damage for ever."""
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
