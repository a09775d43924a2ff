"""The keys of `top`: a letter for each trigger, and which of them are legal now according to the table."""

import pytest

from interlock import Interlock, State, Trigger
from interlock.fsm.records import Status
from interlock.fsm.table import TABLE
from interlock.top.keys import LETTER_OF, LETTERS, RESERVED, legal, loses, refusal

PATHS = {State.created: (), State.running: (Trigger.start,), State.stopped: (Trigger.start, Trigger.stop)}
DAMAGE = "spec.json is empty"


@pytest.fixture
def vms(home):
    """Return the API with the simulated driver."""
    return Interlock(home, driver="simulated")


def test_every_trigger_that_can_be_asked_for_has_a_letter_of_its_own():
    """The letter is part of the trigger's name, and is not one of the view's own keys."""
    assert LETTER_OF.keys() == {row.trigger for row in TABLE if not row.observed}
    assert all(letter.lower() in trigger for trigger, letter in LETTER_OF.items())
    assert not LETTERS.keys() & RESERVED


@pytest.mark.parametrize("state", PATHS)
def test_legal_is_what_can_answers(vms, state):
    """In every state there are keys for exactly the triggers that `interlock can` calls legal."""
    vms.create("web", "tiny")
    for trigger in PATHS[state]:
        vms.fire("web", trigger)
    assert legal(vms.status("web")) == [verdict.trigger for verdict in vms.can("web") if verdict.legal]


def test_legal_of_a_protected_instance_is_nothing_that_destroys(vms):
    """A refused trigger has no key, and the hint removes the protection first."""
    vms.create("web", "tiny")
    vms.protect("web")
    status = vms.status("web")
    assert not {Trigger.delete, Trigger.reset} & set(legal(status))
    assert refusal(status, Trigger.delete).hint == "interlock unprotect web && interlock delete web"


def test_legal_while_something_is_in_progress_is_what_calls_it_off(vms):
    """A trigger that would be refused as busy has no key, and the refusal names the work in progress."""
    vms.create("web", "tiny")
    seen = []
    vms.start("web", on_event=lambda event: seen.append(vms.status("web")) if event.step else None)
    status = seen[0]
    assert legal(status) == [Trigger.stop, Trigger.kill]
    why = refusal(status, Trigger.delete)
    assert why.message.startswith('starting "web" has been under way for')
    assert why.hint == "interlock list web"


def test_legal_after_a_crash_is_what_the_state_allows(vms):
    """Work whose process is dead blocks nothing; the next request settles it."""
    vms.create("web", "tiny")
    seen = []
    vms.start("web", on_event=lambda event: seen.append(vms.status("web")) if event.step else None)
    status = seen[0]._replace(operation=seen[0].operation._replace(interrupted=True))
    assert Trigger.start in legal(status)


def test_legal_of_a_damaged_instance_is_what_mends_or_removes_it(tmp_path):
    """Only rows with `on_damage` are legal."""
    status = Status("web", State.created, tmp_path, damage=DAMAGE)
    assert legal(status) == [Trigger.delete, Trigger.unprotect, Trigger.repair]
    assert refusal(status, Trigger.start) == (f'instance "web" is damaged: {DAMAGE}', "interlock delete web --force")


def test_loses_what_the_guest_wrote_or_has_in_memory():
    """These triggers ask for confirmation; the others do not."""
    assert [trigger for trigger in LETTER_OF if loses(trigger)] == ["kill", "reset", "delete", "restore", "discard"]
