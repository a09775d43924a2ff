"""The machine that `transitions` makes of the table does what the reviewed matrix says, and nothing else."""

import logging
from dataclasses import dataclass, field
from itertools import product

import pytest
from transitions import EventData, Machine

from interlock.fsm.machine import MACHINE, fire
from interlock.fsm.records import Observation
from interlock.fsm.states import State
from interlock.fsm.table import BY_PAIR, BY_TRIGGER, Decision, Row, Trigger, decide

each_pair = pytest.mark.parametrize(("trigger", "state"), list(product(Trigger, State)))
each_legal_pair = pytest.mark.parametrize(("trigger", "state"), sorted(BY_PAIR))


@dataclass
class Model:
    """A plain object with a state. Two in the same state compare equal, which matters to `transitions`."""

    state: State
    carried_out: list[tuple[str, State, dict[str, object]]] = field(default_factory=list, compare=False)
    problem: BaseException | None = field(default=None, compare=False)
    left_alone: list[str] = field(default_factory=list, compare=False)
    protected: bool = False
    saved: bool = False
    seen: Observation | None = None

    def decide(self, row: Row) -> Decision:
        """Decide as an instance does."""
        return decide(row, self.state, protected=self.protected, saved=self.saved, seen=self.seen)

    def leave_alone(self, event: EventData) -> None:
        """Record a trigger whose outcome already holds."""
        self.left_alone.append(event.event.name)

    def carry_out(self, event: EventData) -> None:
        """Record the trigger, the state and the arguments, and raise the problem if there is one."""
        self.carried_out.append((event.event.name, self.state, event.kwargs))
        if self.problem:
            raise self.problem


@each_pair
def test_fire_pair_does_what_the_reviewed_matrix_says(
    matrix: dict[tuple[Trigger, State], str], trigger: Trigger, state: State
) -> None:
    """An arrow moves the model after its work is carried out; `holds` leaves it alone; any other pair is refused."""
    model = Model(state)
    cell = matrix[trigger, state]

    if cell.startswith("→ "):
        assert fire(model, trigger)

        assert State(cell.removeprefix("→ ")) is model.state
        assert [(trigger, state, {})] == model.carried_out
    else:
        assert fire(model, trigger) == (cell == "holds")

        assert state is model.state
        assert model.carried_out == []
        assert ([trigger] if cell == "holds" else []) == model.left_alone


SEEN = (None, Observation(alive=True), Observation(alive=True, resumable=True), Observation(alive=True, hidden=True))


@each_pair
def test_fire_agrees_with_what_can_says(trigger: Trigger, state: State) -> None:
    """The machine and `decide`, which `interlock can` asks, agree about each pair, whatever the facts are."""
    for protected, saved, seen in product((False, True), (False, True), SEEN):
        model = Model(state, protected=protected, saved=saved, seen=seen)
        decision = decide(BY_TRIGGER[trigger], state, protected=protected, saved=saved, seen=seen)

        assert fire(model, trigger) == (decision in {Decision.legal, Decision.holds}), (protected, saved, seen)
        assert bool(model.carried_out) == (decision is Decision.legal), (protected, saved, seen)
        assert bool(model.left_alone) == (decision is Decision.holds), (protected, saved, seen)


def test_fire_logs_nothing_of_ours_and_all_of_others(caplog: pytest.LogCaptureFixture) -> None:
    """The library's log lines about our machine stay out of an embedder's log; those about its own machines stay in."""
    caplog.set_level(logging.DEBUG)

    fire(Model(State.created), Trigger.start)
    assert caplog.records == []

    Machine(states=["off", "on"], transitions=[["switch", "off", "on"]], initial="off").trigger("switch")
    assert caplog.records != []


@each_legal_pair
def test_fire_work_that_raises_leaves_the_state(trigger: Trigger, state: State) -> None:
    """If the work raises anything, the state does not move, and the caller gets the exception."""
    for problem in (OSError("no space left"), KeyboardInterrupt()):
        model = Model(state, problem=problem)

        with pytest.raises(type(problem)) as caught:
            fire(model, trigger)

        assert problem is caught.value
        assert state is model.state


def test_fire_arguments_reach_the_work() -> None:
    """The caller's arguments are passed to the work."""
    model = Model(State.created)

    fire(model, Trigger.start, timeout_s=5.0)

    assert [("start", State.created, {"timeout_s": 5.0})] == model.carried_out


def test_fire_equal_models_do_not_disturb_each_other() -> None:
    """Equal models are still two: `transitions` compares registered models with ==, so ours are not registered."""
    first, second = Model(State.created), Model(State.created)
    assert first == second

    fire(first, Trigger.start)

    assert State.running is first.state
    assert State.created is second.state
    assert MACHINE.models == []


def test_fire_leaves_no_method_on_the_model() -> None:
    """A model gets no `start()` or `is_running()` from the library: `fire` is the only way to move it."""
    model = Model(State.created)
    before = set(dir(model))

    fire(model, Trigger.start)

    assert before == set(dir(model))


def test_machine_knows_the_triggers_of_the_table_alone() -> None:
    """There is no `to_running`: only the triggers of the table can be fired, in the table's spelling."""
    assert {str(trigger) for trigger in Trigger} == set(MACHINE.events)


def test_fire_unknown_trigger_raises_and_does_not_move() -> None:
    """A word that is no trigger moves nothing."""
    model = Model(State.created)

    with pytest.raises(KeyError):
        fire(model, "to_running")  # type: ignore[arg-type]

    assert State.created is model.state
    assert model.carried_out == []
