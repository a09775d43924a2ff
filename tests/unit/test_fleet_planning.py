"""A fleet's plan: every wish in every situation that it can meet."""

from pathlib import Path

import pytest

from interlock import State, Trigger
from interlock.fleet.planning import Mark, Wanted, plan
from interlock.fsm.records import Observation, Status
from interlock.fsm.spec import UNREADABLE
from interlock.fsm.table import BY_PAIR, BY_TRIGGER

MARK = Mark("shop", "web", "template:tiny", "1", {})
SPEC = UNREADABLE._replace(driver="simulated", arch="x86_64", cpus=2, memory_bytes=2 << 30, disk_bytes=4 << 30)
ALIVE = {State.running: Observation(alive=True)}
STATES = (State.created, State.running, State.stopped)
WISHES = ("running", "stopped", "absent")


def there(state, name="web", **facts):
    """Return the status of an instance in `state`."""
    return Status(name, state, Path("/nowhere"), spec=SPEC, observation=ALIVE.get(state), **facts)


def planned(wanted, *seen, marks=(MARK,), **options):
    """Return the plan of a fleet that wants `wanted`."""
    found, marked = {one.name: one for one in seen}, {mark.name: mark for mark in marks}
    return plan("shop", wanted, found, marked, again="APPLY", **options)


def step(state, wish="running", *, mark=MARK, facts=None, **asked):
    """Return the step for the instance `web` in `state`; None means that it does not exist."""
    wanted = Wanted("web", wish, asked.pop("marked", MARK), **asked)
    seen = () if state is None else (there(state, **(facts or {})),)
    (one,) = planned([wanted], *seen, marks=(mark,) if mark and state else ())
    return one


@pytest.mark.parametrize(
    ("state", "wish", "rows"),
    [
        (None, "running", "create start"),
        (None, "stopped", "create"),
        (None, "absent", ""),
        (State.created, "running", "start"),
        (State.created, "stopped", ""),
        (State.created, "absent", "delete"),
        (State.running, "running", ""),
        (State.running, "stopped", "stop"),
        (State.running, "absent", "stop delete"),
        (State.stopped, "running", "start"),
        (State.stopped, "stopped", ""),
        (State.stopped, "absent", "delete"),
    ],
)
def test_state_becomes_the_one_of_the_file_by_rows_of_the_table(state, wish, rows):
    """For each state and wish: a deletion needs consent, and a state that is already right needs no row."""
    one = step(state, wish)
    assert (" ".join(one.rows), bool(one.differences), one.mend) == (rows, bool(rows), None)
    assert one.consent is (Trigger.delete in one.rows)


@pytest.mark.parametrize("state", [None, *STATES])
@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("asked", [{}, {"cpus": 4}, {"disk_bytes": 8 << 30}, {"cpus": 4, "disk_bytes": 8 << 30}])
def test_rows_are_legal_one_after_the_other_and_lead_to_what_is_wanted(state, wish, asked):
    """Every plan's rows are legal in order, end in the wished state, and include an edit if the sizes differ."""
    here = state or State.absent
    one = step(state, wish, **asked)
    for row in one.rows:
        assert (row, here) in BY_PAIR
        here = BY_TRIGGER[row].leads_to(here)
    ends = {"running": {State.running}, "stopped": {State.created, State.stopped}, "absent": {State.absent}}
    assert here in ends[wish]
    assert (Trigger.edit in one.rows) is bool(state and asked and wish != "absent")


@pytest.mark.parametrize(
    ("state", "wish", "asked", "rows", "edits", "consent"),
    [
        (State.running, "running", {"cpus": 4}, "stop edit start", ("cpus=4",), True),
        (State.running, "running", {"memory_bytes": 1 << 30}, "stop edit start", ("memory=1GiB",), True),
        (State.running, "running", {"disk_bytes": 8 << 30}, "edit", ("disk=8GiB",), False),
        (State.running, "stopped", {"cpus": 4}, "stop edit", ("cpus=4",), False),
        (State.stopped, "running", {"cpus": 4}, "edit start", ("cpus=4",), False),
        (State.created, "stopped", {"cpus": 4, "disk_bytes": 8 << 30}, "edit", ("cpus=4", "disk=8GiB"), False),
        (State.running, "running", {"cpus": 2, "memory_bytes": 2 << 30, "disk_bytes": 4 << 30}, "", (), False),
    ],
)
def test_sizes_change_in_place_and_a_guest_is_down_before_its_spec_changes(state, wish, asked, rows, edits, consent):
    """The edit comes after the stop, so that a plan killed after any row leaves a difference that the next one sees."""
    one = step(state, wish, **asked)
    assert (" ".join(one.rows), one.edits, one.consent, one.mend) == (rows, edits, consent, None)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"disk_bytes": 1 << 30}, "disk"),
        ({"marked": MARK._replace(template="template:debian", digest="2")}, "template"),
        ({"marked": MARK._replace(set={"plain": "a"})}, "set.plain"),
        ({"fixed": {"arch": "aarch64"}}, "arch"),
        ({"fixed": {"driver": "qemu"}}, "driver"),
        ({"fixed": {"user": "anna"}}, "user"),
        ({"fixed": {"cluster": "west"}}, "cluster"),
    ],
)
def test_what_never_changes_in_place_is_named_with_the_command_and_not_done(asked, what):
    """Nothing is deleted silently: the plan names the command, and still does everything that it can."""
    one = step(State.stopped, **asked)
    assert [difference.what for difference in one.differences] == ["state", what]
    assert (one.rows, one.mend) == ((Trigger.start,), "interlock delete web && APPLY")
    assert step(State.running, **asked).mend == "interlock delete web --force && APPLY"
    protected = step(State.stopped, facts={"protected": True}, **asked)
    assert protected.mend == "interlock unprotect web && interlock delete web && APPLY"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("mark", [None, MARK._replace(fleet="other"), MARK._replace(name="former")])
def test_instance_of_no_or_another_fleet_is_never_touched(state, wish, mark):
    """An instance that is not the fleet's own, or was renamed or copied, can only be given another name."""
    marks = {} if mark is None else {"web": mark}
    (one,) = plan("shop", [Wanted("web", wish, MARK, cpus=64)], {"web": there(state)}, marks)
    assert ([difference.what for difference in one.differences], one.rows) == (["fleet"], ())
    assert one.mend == "interlock rename web web-other"


@pytest.mark.parametrize("state", STATES)
def test_protected_instance_is_never_deleted(state):
    """Neither `absent` in the file nor --prune deletes it; changes without loss are made."""
    for one in (
        step(state, "absent", facts={"protected": True}),
        *planned([], there(state, protected=True), prune=True),
    ):
        assert (one.rows, one.mend) == ((), "interlock unprotect web")
    assert step(State.stopped, facts={"protected": True}).rows == (Trigger.start,)


def test_extra_instance_is_kept_unless_it_is_pruned():
    """Without --prune, the plan shows how to delete it; instances outside the fleet are not even mentioned."""
    mine, other = there(State.running), there(State.running, "other")
    (kept,) = planned([], mine, other)
    assert (kept.extra, kept.rows, kept.consent, kept.mend) == (True, (), False, "APPLY --prune")
    (gone,) = planned([], mine, other, prune=True)
    assert (gone.rows, gone.consent, gone.mend) == ((Trigger.stop, Trigger.delete), True, None)


@pytest.mark.parametrize(
    ("status", "what", "mend"),
    [
        (there(State.running, damage="spec.json: no"), "damage", "interlock repair web"),
        (there(State.running)._replace(observation=Observation(alive=True, hidden=True)), "state", "inspect"),
        (there(State.running)._replace(observation=Observation(alive=None, condition="?")), "state", "inspect"),
    ],
)
def test_what_cannot_be_seen_or_understood_is_left_alone(status, what, mend):
    """A machine that may live is not started, edited or deleted."""
    (one,) = planned([Wanted("web", "running", MARK, cpus=64)], status)
    assert ([difference.what for difference in one.differences], one.rows) == ([what], ())
    assert mend in str(one.mend)


def test_damaged_instance_that_should_be_gone_needs_force():
    """The user has to decide that nothing in it is worth a repair."""
    (one,) = planned([], there(State.stopped, damage="spec.json: no"), prune=True)
    assert (one.rows, one.mend) == ((), "interlock delete web --force")


def test_guest_that_went_down_unnoticed_is_started():
    """The journal still says `running`, but no machine is alive."""
    down = there(State.running)._replace(observation=Observation(alive=False))
    (one,) = planned([Wanted("web", "running", MARK, cpus=4)], down)
    assert (" ".join(one.rows), one.consent) == ("edit start", False)


def test_steps_are_in_the_order_of_the_file_then_the_extra_ones():
    """Steps follow the order of the file; instances that it does not name come last."""
    marks = [MARK._replace(name=name) for name in ("a", "c", "x", "b")]
    wanted = [Wanted(name, "running", MARK) for name in ("c", "a")]
    steps = planned(wanted, *(there(State.created, name) for name in "abcx"), marks=marks)
    assert [one.name for one in steps] == ["c", "a", "b", "x"]


def test_mark_is_read_back_and_anything_else_is_no_mark():
    """An instance whose mark cannot be read belongs to no fleet: it is not deleted."""
    assert Mark.parsed(MARK.content()) == MARK
    for content in (b"", b"[]", b"{}", b"\xff", b'{"fleet": "shop"}', b"[" * 100_000):
        assert Mark.parsed(content) is None
