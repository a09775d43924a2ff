"""The table agrees with the reviewed matrix and has no contradictions."""

from inspect import signature
from pathlib import Path

import pytest

from interlock.diagrams.layout import INITIAL
from interlock.drivers.contract import UNREADABLE, Driver
from interlock.fsm.damage import TREATMENT
from interlock.fsm.own_work import OWN_WORK
from interlock.fsm.records import Status
from interlock.fsm.states import AT_REST, EXISTING, PROMISE, State
from interlock.fsm.status import verdict
from interlock.fsm.table import BOOTS, BY_PAIR, BY_TRIGGER, RULE, TABLE, By, Recovery, Row, Trigger, legal, path

each_row = pytest.mark.parametrize("row", TABLE, ids=[str(row.trigger) for row in TABLE])


def said_by_table(trigger: Trigger, state: State) -> str:
    """Return what the table says about a pair, in the words of the matrix."""
    row = BY_TRIGGER[trigger]
    if (trigger, state) in BY_PAIR:
        return f"→ {BY_PAIR[trigger, state].leads_to(state)}"
    if state in row.holds:
        return "holds"
    if row.observed:
        return "never"
    return "not-found" if state is State.absent else "refused"


def test_table_every_pair_agrees_with_the_reviewed_matrix(matrix: dict[tuple[Trigger, State], str]) -> None:
    """Each trigger does in each state what the reviewed matrix says; no pair is missing on either side."""
    actual = {(trigger, state): said_by_table(trigger, state) for trigger in Trigger for state in State}

    assert matrix == actual


def test_legal_every_state_agrees_with_the_reviewed_matrix(matrix: dict[tuple[Trigger, State], str]) -> None:
    """The legal triggers of a state are those with an arrow in its column, except observed ones."""
    for state in State:
        arrows = [trigger for trigger in Trigger if matrix[trigger, state].startswith("→")]
        expected = [trigger for trigger in arrows if not BY_TRIGGER[trigger].observed]

        assert expected == [row.trigger for row in legal(state)]


def test_verdict_every_pair_agrees_with_the_reviewed_matrix(matrix: dict[tuple[Trigger, State], str]) -> None:
    """`interlock can` agrees with the matrix about each pair."""
    expected = {pair: (cell.startswith("→"), cell == "holds") for pair, cell in matrix.items()}
    verdicts = {(trigger, state): verdict(Status("web", state, Path()), trigger) for trigger, state in matrix}

    assert expected == {pair: (verdict.legal, verdict.holds) for pair, verdict in verdicts.items()}


def test_rows_every_trigger_has_exactly_one() -> None:
    """Each trigger has exactly one row, in the order of the triggers, so no row can shadow another."""
    assert list(Trigger) == [row.trigger for row in TABLE]


def test_rows_no_two_share_trigger_and_source() -> None:
    """Each pair is in the table once; of two, `transitions` would silently take the first."""
    pairs = [(row.trigger, source) for row in TABLE for source in row.sources]

    assert sorted(set(pairs)) == sorted(pairs)


@each_row
def test_row_names_only_known_states(row: Row) -> None:
    """Sources, destination and `holds` are states; `transitions` would not notice a typo in a source."""
    named = {*row.sources, *map(row.leads_to, row.sources), *row.holds}

    assert {state for state in named if isinstance(state, State)} == named
    assert row.sources or row.on_damage


@each_row
def test_row_gives_its_reason(row: Row) -> None:
    """Each row says in a sentence why it exists."""
    assert row.why.endswith(".")


@each_row
def test_row_holds_nowhere_it_is_legal(row: Row) -> None:
    """In a given state, a trigger is either legal or already fulfilled, never both."""
    assert set() == set(row.holds) & set(row.sources)


@each_row
def test_row_holds_only_when_repeating_it_could_hold(row: Row) -> None:
    """A trigger that holds in any state holds in its destination, so that repeating it is idempotent."""
    assert not row.holds or row.dest in row.holds or not row.sources


@each_row
def test_row_taking_time_has_words_and_a_crash_rule(row: Row) -> None:
    """A recorded operation can be interrupted and so has a crash rule; one that is not recorded needs no rule."""
    assert (row.on_crash in Recovery) if row.recorded else (row.on_crash is None)
    assert bool(row.doing) == (row.by in {By.driver, By.engine})
    assert bool(row.done) == (row.by is not By.caller)
    assert row.doing is None or row.doing.split()[0].endswith("ing")
    assert not (row.observed and row.holds)


@each_row
def test_row_has_somebody_who_does_its_work(row: Row) -> None:
    """Each row has a driver method or an engine function if it needs one, and `on_damage` rows have a treatment."""
    assert (row.by is By.driver) == (
        getattr(Driver, row.trigger, None) is not None and row.by not in (By.caller, By.nobody)
    )
    assert (row.by is By.engine and row.recorded) == (row.trigger in OWN_WORK)
    assert (row.on_damage is not None) == (row.trigger in TREATMENT)


@each_row
def test_row_with_a_timeout_hands_its_driver_the_deadline(row: Row) -> None:
    """The driver's method takes a deadline exactly if the row has a timeout, and the timeout is a field of the spec."""
    if row.by is By.driver:
        assert ("deadline" in signature(getattr(Driver, row.trigger)).parameters) == (row.timeout is not None)
    assert row.timeout is None or isinstance(getattr(UNREADABLE, row.timeout), float)


def test_rows_one_alone_turns_what_is_alive_into_running() -> None:
    """Only one row turns a machine that is found alive into running: the one whose crash rule probes."""
    assert [row for row in TABLE if row.on_crash is Recovery.probe] == [BOOTS]
    assert State.running is BOOTS.dest


def test_words_of_two_rows_differ() -> None:
    """No two rows have the same verb, so a message identifies its transition."""
    doing = [row.doing for row in TABLE if row.doing]
    done = [row.done for row in TABLE if row.done]

    assert sorted(set(doing)) == sorted(doing)
    assert sorted(set(done)) == sorted(done)


def test_states_every_one_is_reachable_from_where_a_life_begins() -> None:
    """Every state of the enum can be reached."""
    reached = {INITIAL}
    while grown := {row.leads_to(state) for row in TABLE for state in reached & set(row.sources)} - reached:
        reached |= grown

    assert set(State) == reached


@pytest.mark.parametrize("state", EXISTING)
def test_absent_can_be_asked_for_from_every_state(state: State) -> None:
    """From each state, a sequence of requests leads to absent, without observed events."""
    removing = next(row for row in TABLE if row.dest is State.absent)
    way = path(state, removing.trigger)

    assert way is not None
    for trigger in way:
        assert (trigger, state) in BY_PAIR
        state = BY_PAIR[trigger, state].leads_to(state)
    assert state is State.absent


def test_absent_is_left_by_create_alone() -> None:
    """Only `create` leads out of absent, so `start` cannot create anything."""
    assert [Trigger.create] == [row.trigger for row in TABLE if State.absent in row.sources]


def test_path_prefers_the_row_that_comes_first() -> None:
    """Between two equally short paths the order of the table decides, so `stop` is proposed before `kill`."""
    assert (Trigger.stop, Trigger.delete) == path(State.running, Trigger.delete)


@pytest.mark.parametrize("state", State)
def test_path_of_something_observed_is_none(state: State) -> None:
    """An observed event cannot be requested, so no path ends with it."""
    assert path(state, Trigger.exited) is None


def test_states_and_rules_are_all_explained() -> None:
    """Each state has a promise and each crash rule an explanation; the groups contain only states."""
    assert set(State) == set(PROMISE)
    assert set(Recovery) == set(RULE)
    assert set(AT_REST) < set(EXISTING) < set(State)


def test_states_and_triggers_have_the_value_of_their_name() -> None:
    """`transitions` uses the names of enum members and journals use their values, so the two must be equal."""
    assert [state.name for state in State] == [state.value for state in State]
    assert [trigger.name for trigger in Trigger] == [trigger.value for trigger in Trigger]
