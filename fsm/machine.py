"""The state machine, made from the table with the `transitions` library. It decides about every request.

Each row becomes a transition from each of its sources, on the condition that `table.decide` finds it legal. If the goal
of the row is already met, another transition only announces that. A request without a transition whose condition is met
is refused: `fire` then returns False, however the library reports it.

One machine serves every instance. Models are not registered with it, so an instance costs nothing until it is moved,
and no trigger method is ever added to it. The conveniences of the library are turned off, each for a reason:
`auto_transitions` would add a `to_running()` from anywhere; a callback after the state change that raised would leave
the new state behind, so all work is done before the change.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from transitions import EventData, Machine, MachineError

from .states import State
from .table import TABLE, Decision, Row, Trigger


class Model(Protocol):
    """An object whose state the machine moves."""

    state: State

    def decide(self, row: Row) -> Decision:
        """Return the decision about a request for `row` now."""

    def carry_out(self, event: EventData) -> None:
        """Do the work of the transition; if it raises, the state does not move."""

    def leave_alone(self, event: EventData) -> None:
        """Announce that the goal of the request is already met."""


def _when(row: Row, decision: Decision) -> Callable[[EventData], bool]:
    def decided(event: EventData) -> bool:
        return cast("Model", event.model).decide(row) is decision

    return decided


def _transitions() -> Iterator[dict[str, Any]]:
    for row in TABLE:
        for source in row.sources:
            yield _transition(row, source, row.dest, Decision.legal, "carry_out")
        for source in row.holds or (row.sources if row.holds_unless else ()):
            yield _transition(row, source, None, Decision.holds, "leave_alone")


def _transition(row: Row, source: State, dest: State | None, decision: Decision, work: str) -> dict[str, Any]:
    conditions = _when(row, decision)
    return {"trigger": str(row.trigger), "source": source, "dest": dest, "conditions": conditions, "before": work}


MACHINE = Machine(
    model=None,
    name="interlock",
    states=State,
    initial=None,
    transitions=list(_transitions()),
    auto_transitions=False,
    send_event=True,
)


def fire(model: Model, trigger: Trigger, **arguments: Any) -> bool:
    """Let the machine move `model` by `trigger`, and return whether that was legal; if not, nothing has happened.

    `carry_out` gets `arguments` as `event.kwargs`. Raises whatever the work raises.
    """
    try:
        return bool(MACHINE.events[str(trigger)].trigger(model, **arguments))
    except MachineError:  # no such transition; a MachineError of a driver never leaves the work
        return False


def _of_another(record: logging.LogRecord) -> bool:
    """Return whether `record` is from another machine: the library begins each message with the machine's name."""
    return not (isinstance(record.args, tuple) and record.args[:1] == (MACHINE.name,))


# The library logs each transition. Ours are announced as events; other machines in this process may log theirs.
logging.getLogger("transitions.core").addFilter(_of_another)
