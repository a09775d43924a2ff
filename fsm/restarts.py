"""When a machine is started that nobody asks for: because it failed, or because its user has logged in.

What `restart: on-failure` of a spec means is read from the journal. A restart is a `start` that was asked for with its
number. It waits first, twice as long as the one before it, and can be called off as any start can, also before it has
begun. The count begins again with a start that somebody asks for, and once the machine ran for STEADY_S. After TRIES it
is given up. Whatever else is done to an instance after its failure leaves it down: who does it sees to it.

All of that stands in the journal, so any process that reads it knows, also after a crash.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ..errors import CancelledError
from ..host.files import read_own
from ..host.process import boot_id
from .journal import Entry, Journal, Phase
from .records import AUTOSTART_FILE, is_autostarted
from .states import State
from .table import BOOTS, TABLE, unasked

NEVER, ON_FAILURE = "never", "on-failure"

TRIES = 5
"""So the last one comes 62 s after the first failure at the earliest."""

STEADY_S = 600.0

_FIRST_S = 2.0


def delay_s(number: int) -> float:
    """Return how long after a failure the restart `number`, counted from 1, begins."""
    return _FIRST_S * (1 << (number - 1))


def tried(entries: Iterable[Entry], until: str) -> int:
    """Return which restart in a row the last start in `entries` was, for a machine that ran until the time `until`."""
    number, up = 0, None
    for entry in entries:
        if entry.trigger == BOOTS.trigger and entry.phase == Phase.begun:
            number, up = _number(entry), None
        elif entry.trigger == BOOTS.trigger and entry.phase == Phase.done:
            up = entry.time
    return 0 if up and _seconds(up, until) >= STEADY_S else number


def due(entries: Iterable[Entry], *, failed: bool) -> int | None:
    """Return the number of the restart that is to come for a machine at rest; None where none is.

    `entries` are its journal; `failed`: its last run ended so.
    """
    entries = list(entries)
    last = entries[-1]
    if last.trigger == unasked(State.running).trigger and failed:
        number = tried(entries, last.time) + 1
    elif last.trigger != BOOTS.trigger or last.phase == Phase.done:
        return None
    elif not (number := tried(entries, last.time)):
        return None  # the start of somebody who has read why it failed
    elif last.phase == Phase.failed:
        called_off = (last.error or {}).get("reference") == CancelledError.reference
        number = TRIES + 1 if called_off else number + 1
    return number if number <= TRIES else None


def is_missed(directory: Path) -> bool:
    """Return whether the instance in `directory`, which is at rest, should have started when its user logged in.

    Nothing was asked of it since the host's boot, or a start that was cut short, and its autostart is older than that.
    What somebody who looked has recorded of the time before, nobody has asked for.
    """
    if not is_autostarted(directory) or read_own(directory / AUTOSTART_FILE) == boot_id().encode():
        return False
    last = next(filter(_asked_for, reversed(list(Journal(directory).lines()))), None)
    if last is None or last.actor.boot_id != boot_id():
        return True
    return last.trigger == BOOTS.trigger and last.phase not in (Phase.done, Phase.failed)


def _asked_for(entry: Entry) -> bool:
    """True unless `entry` records what was observed, or what became of work that was cut short."""
    return entry.phase != Phase.undone and entry.trigger not in [row.trigger for row in TABLE if row.observed]


def _number(entry: Entry) -> int:
    number = (entry.asked or {}).get("restart", 0)
    return number if isinstance(number, int) else 0


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
