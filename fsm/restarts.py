"""Starts that no user requests: after a failure of the machine, and at the login of its user.

With `restart: on-failure` in a spec, the journal shows whether a restart is due. A restart is a `start` with a number.
It first waits twice as long as the one before it, and like any start it can be called off, even before it has begun.
The count starts again after a start that a user requested, and after the machine has been running for STEADY_S. After
TRIES restarts, Interlock gives up. Any other operation after the failure prevents the restart: its user is in charge.

Everything needed is in the journal, so any process can read it, even after a crash.
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
"""How many restarts are tried; the last one begins at least 62 s after the first failure."""

STEADY_S = 600.0

_FIRST_S = 2.0


def delay_s(number: int) -> float:
    """Return how many seconds after a failure the restart `number` begins; the first one is 1."""
    return _FIRST_S * (1 << (number - 1))


def tried(entries: Iterable[Entry], until: str) -> int:
    """Return the restart number of the last start in `entries`; 0 after a request or a steady run until `until`."""
    number, up = 0, None
    for entry in entries:
        if entry.trigger == BOOTS.trigger and entry.phase == Phase.begun:
            number, up = _number(entry), None
        elif entry.trigger == BOOTS.trigger and entry.phase == Phase.done:
            up = entry.time
    return 0 if up and _seconds(up, until) >= STEADY_S else number


def due(entries: Iterable[Entry], *, failed: bool) -> int | None:
    """Return the number of the restart that is due for a machine at rest; None if no restart is due.

    `entries` are the lines of its journal; `failed` says whether its last run ended in a failure.
    """
    entries = list(entries)
    last = entries[-1]
    if last.trigger == unasked(State.running).trigger and failed:
        number = tried(entries, last.time) + 1
    elif last.trigger != BOOTS.trigger or last.phase == Phase.done:
        return None
    elif not (number := tried(entries, last.time)):
        return None  # a user requested this start and saw why it failed
    elif last.phase == Phase.failed:
        called_off = (last.error or {}).get("reference") == CancelledError.reference
        number = TRIES + 1 if called_off else number + 1
    return number if number <= TRIES else None


def is_missed(directory: Path) -> bool:
    """Return whether the instance in `directory`, which is at rest, should have started when its user logged in.

    That is so if autostart was enabled before the host's boot, and since then nothing was requested, or only a start
    that was cut short. Lines that only record what was observed are not requests.
    """
    if not is_autostarted(directory) or read_own(directory / AUTOSTART_FILE) == boot_id().encode():
        return False
    last = next(filter(_asked_for, reversed(list(Journal(directory).lines()))), None)
    if last is None or last.actor.boot_id != boot_id():
        return True
    return last.trigger == BOOTS.trigger and last.phase not in (Phase.done, Phase.failed)


def _asked_for(entry: Entry) -> bool:
    """True unless `entry` records an observation, or the settling of work that was cut short."""
    return entry.phase != Phase.undone and entry.trigger not in [row.trigger for row in TABLE if row.observed]


def _number(entry: Entry) -> int:
    number = (entry.asked or {}).get("restart", 0)
    return number if isinstance(number, int) else 0


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
