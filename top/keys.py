"""Which key asks for which trigger, which of them would be carried out now, and why the others would not."""

from typing import NamedTuple

from ..fsm import refusals
from ..fsm.damage import way_out
from ..fsm.engine import calls_off
from ..fsm.records import Status
from ..fsm.status import decision, verdict
from ..fsm.table import BY_TRIGGER, TABLE, By, Decision, Row, Trigger

RESERVED = frozenset("qx")
"""Letters that mean something else: quit and cancel."""


def _letters() -> dict[str, Trigger]:
    """Return a letter for each trigger that can be asked for: the first of its name that no earlier row has taken.

    The letters are the same in every state, so that no key changes its meaning while somebody presses it.
    """
    taken: dict[str, Trigger] = {}
    for row in TABLE:
        if not row.observed:
            choices = [letter for letter in row.trigger + row.trigger.upper() if letter not in RESERVED | taken.keys()]
            taken[choices[0]] = row.trigger
    return taken


class Why(NamedTuple):
    """Why nothing was done."""

    message: str
    hint: str | None


def legal(status: Status) -> list[Trigger]:
    """Return the triggers that would be carried out now if they were asked for, in the table's order.

    While something is in progress, these are the triggers that cancel it, and those that need no lock.
    """
    return [row.trigger for row in TABLE if not row.observed and _is_legal(status, row)]


def _is_legal(status: Status, row: Row) -> bool:
    if status.damage:
        return row.on_damage is not None
    if (working := status.under_way) and row.by is not By.caller:
        return calls_off(row.trigger, working, force=False)
    return decision(status, row) is Decision.legal


def refusal(status: Status, trigger: Trigger) -> Why:
    """Return why `trigger`, which is not legal now, would not be carried out, and what to type instead."""
    if status.damage:
        return Why(f'instance "{status.name}" is damaged: {status.damage}', way_out(status.name, status.directory))
    if (working := status.under_way) and BY_TRIGGER[trigger].by is not By.caller:
        busy = refusals.busy(status.name, trigger, working)
        return Why(busy.message, busy.hint)
    found = verdict(status, trigger)
    return Why(found.why, found.hint)


def loses(trigger: Trigger) -> bool:
    """Return whether `trigger` destroys data of a guest, or ends it by force: people should confirm that."""
    row = BY_TRIGGER[trigger]
    return row.guarded or row.at_once


LETTERS = _letters()
LETTER_OF = {trigger: letter for letter, trigger in LETTERS.items()}
