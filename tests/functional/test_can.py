"""`interlock can`: which transitions are legal now; for the others, why not and what to type."""

import json

import pytest

from interlock.fsm.states import State
from interlock.fsm.table import TABLE

REQUESTABLE = [str(row.trigger) for row in TABLE if not row.observed]


@pytest.mark.parametrize(
    ("state", "trigger", "code"),
    [
        (State.running, "stop", 0),
        (State.running, "start", 0),
        (State.running, "delete", 3),
        (State.created, "reset", 0),
        (State.absent, "start", 3),
        (State.absent, "create", 0),
    ],
)
def test_can_with_trigger_answers_by_its_exit_code(interlock, bring, state, trigger, code):
    """`can` exits with 0 when the transition is legal and 3 when it is not."""
    bring(state)
    assert interlock("can", "web", trigger).returncode == code


def test_can_as_json_gives_a_verdict_for_each_trigger(interlock, bring):
    """Each verdict has the command to type, unless there is nothing to do."""
    bring(State.running)
    verdicts = {
        line["trigger"]: line
        for line in map(json.loads, interlock("can", "web", "--format", "json").stdout.splitlines())
    }
    assert list(verdicts) == REQUESTABLE
    assert (verdicts["start"]["holds"], verdicts["start"]["hint"]) == (True, None)
    assert verdicts["delete"]["hint"] == "interlock stop web && interlock delete web"


def test_can_as_table_says_yes_no_or_already(interlock, bring):
    """The table has one word for each verdict."""
    bring(State.running)
    rows = [line.split()[:2] for line in interlock("can", "web").stdout.splitlines()[1:]]
    legal = {"stop": "yes", "kill": "yes", "start": "already", "delete": "no", "create": "no", "reset": "no"}
    assert dict(rows).items() >= legal.items()


def test_can_with_unknown_trigger_names_the_known(interlock, bring):
    """Unknown triggers and observed ones are usage errors."""
    bring(State.running)
    for unknown in ("fly", "exited"):
        done = interlock("can", "web", unknown)
        assert done.returncode == 2
        assert all(f"{known!r}" in done.stderr for known in REQUESTABLE)


def test_can_of_damaged_instance_is_damaged(interlock, bring, home):
    """`can` of a damaged instance is an error."""
    bring(State.running)
    (home.directory("web") / "journal.jsonl").write_bytes(b"")
    assert interlock("can", "web", "stop").returncode == 8
