"""What transitions say while they run. The engine announces events; who listens is the caller's affair.

The names are constants, the facts are key-value pairs, and the sentence is composed by `words.sentence` from the row of
the transition that runs. So no message can claim another transition than the one it belongs to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from . import words
from .happening import Happening
from .states import State
from .table import BY_TRIGGER, Row, Trigger


class Event(NamedTuple):
    """One thing that a transition says."""

    happening: Happening
    instance: str
    trigger: Trigger
    source: State
    """The state it came from; for `holds` and `joined`, the state that is."""
    elapsed_s: float | None = None
    seq: int | None = None
    step: str | None = None
    detail: str | None = None
    pid: int | None = None
    """The other process, where the event is about one."""
    reference: str | None = None
    """Of the error, where there is one."""

    @property
    def row(self) -> Row:
        """The row of the table that it belongs to."""
        return BY_TRIGGER[self.trigger]

    @property
    def message(self) -> str:
        """The sentence for people."""
        return words.sentence(self)

    def facts(self) -> dict[str, Any]:
        """Return what is known as key-value pairs for structured logs; what is unknown is left out."""
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
"""Hears the events. It is called under the instance's lock and should be quick; what it raises calls the work off."""


def quiet(_: Event) -> None:
    """Hear nothing: what an embedding program gets unless it listens."""
