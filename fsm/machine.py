"""The state machine that the table becomes, on the `transitions` library: the judge of every request.

Each row is a transition from each of its sources, on the condition that `table.decide` finds it legal; where what it
asks for is already so, it is a transition of its own, which does nothing but say so. A request that has no transition,
or none whose condition is met, is refused: `fire` then returns False, however the library reports it.

One machine serves every instance. Models are not registered with it, so an instance costs nothing until it is moved,
and no trigger method is ever added to it. The library is used with its conveniences off, each for a reason:
`auto_transitions` would add a `to_running()` from anywhere; callbacks after the state change would leave the new state
behind when they raise, so all work is done before it.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from transitions import EventData, Machine, MachineError

from .states import State
from .table import TABLE, Decision, Row, Trigger


class Model(Protocol):
    """What the machine moves."""

    state: State

    def decide(self, row: Row) -> Decision:
        """Return what is decided about a request for `row` now."""

    def carry_out(self, event: EventData) -> None:
        """Do the transition's work; while it raises, the state does not move."""

    def leave_alone(self, event: EventData) -> None:
        """Say that what was asked for is already so."""


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
    """Let the machine move `model` by `trigger`, and return whether it allowed it; if not, nothing has happened.

    `arguments` reach `carry_out` as `event.kwargs`. Whatever the work raises is raised.
    """
    try:
        return bool(MACHINE.events[str(trigger)].trigger(model, **arguments))
    except MachineError:  # it has no such transition; the work lets no MachineError of a driver's through
        return False


def _of_another(record: logging.LogRecord) -> bool:
    """Return whether `record` is another machine's: the library begins each message with its machine's name."""
    return not (isinstance(record.args, tuple) and record.args[:1] == (MACHINE.name,))


# The library logs each transition. Ours are announced as events; other machines in this process may log theirs.
logging.getLogger("transitions.core").addFilter(_of_another)
