"""One transition from its intent to its outcome: what is written to the journal, what is announced, and its time."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..errors import InterlockError
from ..host import cancellation
from ..host.process import this_process
from .events import Event
from .happening import Happening
from .journal import Line, Phase
from .port import Deadline
from .records import now
from .table import Row

if TYPE_CHECKING:
    from .instance import Instance


class Entry:
    """One transition from its intent to its outcome: its journal lines, its announcements, its time."""

    def __init__(self, instance: "Instance", row: Row, timeout_s: float | None, since: float | None = None) -> None:
        self.instance = instance
        self.name = instance.name
        """The name of the instance when the transition began."""
        self.row = row
        self.detail: str | None = None
        self.former = instance.name if row.moves else None
        """For a row that moves the instance: its former name. A later process that finishes a move sets it."""
        self.asked: dict[str, str | int] = {}
        """The arguments of the request, as far as a later process can repeat them."""
        self.after = instance.last.seq if instance.last else 0
        """The number of the last line of the journal before this transition."""
        self.worked = False
        """True once the work is done and only the outcome has to be recorded."""
        self._began = time.monotonic()
        self.deadline = Deadline(math.inf if timeout_s is None else timeout_s, since=since)
        waited_s = 0.0 if since is None else self._began - since
        self._until = None if timeout_s is None else _in_seconds(timeout_s - waited_s)
        self._actor = this_process()
        self._step: str | None = None
        self._seq: int | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def begin(self) -> None:
        """Make the intent durable; from now on, a crash is noticed."""
        self._write(Phase.begun)
        self._announce(Happening.begun)

    def step(self, text: str) -> None:
        """Record that the work has reached the step `text`. Drivers get this method as their `Report`."""
        cancellation.check()
        self._step = text
        self._write(Phase.step)
        self._announce(Happening.step, step=text)

    def outcome(self, phase: Phase, error: InterlockError | None = None) -> None:
        """Make the outcome durable."""
        self._write(phase, error)

    def announce_outcome(self, happening: Happening, error: InterlockError | None = None) -> None:
        """Announce the outcome, once nothing about it can fail any more."""
        detail = error.message if error and happening is Happening.degraded else self.detail
        self._announce(happening, detail=detail, reference=error.reference if error else None)

    def called_off(self) -> str | None:
        """Return the words that name the process that called the work off; None while it has not been called off."""
        why = self.instance.lock.asked_to_let_go(self._actor) if self.row.yields_to else None
        return self.called_off_by(why) if why else None

    def called_off_by(self, who: str) -> str:
        """Return the words that say that `who` called the work off."""
        return f'{self.row.doing} "{self.name}" was cancelled by {who}'

    def _write(self, phase: Phase, error: InterlockError | None = None) -> None:
        instance = self.instance
        line = Line(
            trigger=self.row.trigger,
            source=instance.state,
            dest=self.row.leads_to(instance.state),
            phase=phase,
            actor=self._actor,
            time=now(),
            elapsed_s=self.elapsed_s,
            step=self._step,
            deadline=self._until,
            detail=self.detail,
            error=error.record() if error else None,
            former=self.former,
            asked=self.asked or None,
        )
        self._seq = instance.write(line).seq

    def _announce(
        self, happening: Happening, *, step: str | None = None, detail: str | None = None, reference: str | None = None
    ) -> None:
        self.instance.announce(
            Event(
                happening,
                self.name,
                self.row.trigger,
                self.instance.state,
                elapsed_s=self.elapsed_s,
                seq=self._seq,
                step=step,
                detail=detail,
                reference=reference,
            )
        )


def _in_seconds(seconds: float) -> str | None:
    """Return the time `seconds` from now, UTC; None if it is past the last date that `datetime` can represent."""
    try:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except OverflowError:
        return None
