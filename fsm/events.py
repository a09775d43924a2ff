"""The events of transitions. The engine announces them; the caller decides who listens.

The names are constants, the facts are key-value pairs, and `words.sentence` composes the sentence from the row of the
current transition, so a message cannot name a different transition.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from . import words
from .happening import Happening
from .states import State
from .table import BY_TRIGGER, Row, Trigger


class Event(NamedTuple):
    """One event of a transition."""

    happening: Happening
    instance: str
    trigger: Trigger
    source: State
    """The state before the transition; for `holds` and `joined`, the current state."""
    elapsed_s: float | None = None
    seq: int | None = None
    step: str | None = None
    detail: str | None = None
    pid: int | None = None
    """The other process, if the event is about one."""
    reference: str | None = None
    """The reference of the error, if there is one."""

    @property
    def row(self) -> Row:
        """The row of the table that the event belongs to."""
        return BY_TRIGGER[self.trigger]

    @property
    def message(self) -> str:
        """The sentence for people."""
        return words.sentence(self)

    def facts(self) -> dict[str, Any]:
        """Return the known facts as key-value pairs for structured logs; unknown ones are left out."""
        facts = {
            "instance": self.instance,
            "trigger": str(self.trigger),
            "source": str(self.source),
            "dest": str(self.row.leads_to(self.source)),
            "seq": self.seq,
            "elapsed_s": None if self.elapsed_s is None else round(self.elapsed_s, 3),
            "step": self.step,
            "detail": self.detail,
            "pid": self.pid,
            "reference": self.reference,
        }
        return {key: value for key, value in facts.items() if value is not None}


Announce = Callable[[Event], None]
"""Receives the events, under the instance's lock; it should be quick, and if it raises, the work is cancelled."""


def quiet(_: Event) -> None:
    """Ignore the event: the listener of a program that does not provide one."""
