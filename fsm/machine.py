"""The state machine that the table becomes, on the `transitions` library.

One machine serves every instance. Models are not registered with it, so an instance costs nothing until it is moved,
and no trigger method is ever added to it: the table decides what may be fired, `fire` fires it. The library is used
with its conveniences off, each for a reason: `auto_transitions` would add a `to_running()` from anywhere; callbacks
after the state change would leave the new state behind when they raise, so all work is done before it.
"""

from typing import Any, Protocol

from transitions import EventData, Machine

from .states import State
from .table import TABLE, Trigger


class Model(Protocol):
    """What the machine moves."""

    state: State

    def carry_out(self, event: EventData) -> None:
        """Do the transition's work; while it raises, the state does not move."""


MACHINE = Machine(
    model=None,
    states=State,
    initial=None,
    transitions=[
        {"trigger": str(row.trigger), "source": source, "dest": row.dest} for row in TABLE for source in row.sources
    ],
    auto_transitions=False,
    send_event=True,
    before_state_change="carry_out",
)


def fire(model: Model, trigger: Trigger, **arguments: Any) -> None:
    """Move `model` by `trigger`, which the caller has found legal; `arguments` reach `carry_out` as `event.kwargs`."""
    MACHINE.events[str(trigger)].trigger(model, **arguments)
