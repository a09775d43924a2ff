"""Whether a guest does what it is there for: its probes, scripts that must succeed in it before it counts as ready."""

from collections.abc import Sequence

from ..errors import DeadlineError
from ..fsm.port import Deadline, Report
from ..fsm.spec import Probe
from . import session
from .report import lines, memory
from .session import Door, Patience

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.25, 4.0
"""Between two attempts. Under emulation each costs the guest a login."""

_LINES = 20

_SCRIPT = 'f=$(mktemp) && cat >"$f" && chmod 700 "$f" || exit; "$f" </dev/null; s=$?; rm -f "$f"; exit $s'
"""Runs what comes through stdin as a file, so that its `#!` line counts."""


def run(door: Door, probes: Sequence[Probe], deadline: Deadline, lifeline: int, report: Report) -> None:
    """Return once each of `probes`, one after the other, has succeeded in the guest, run by its user.

    Raises DeadlineError with the probe's last words and its hint when time is up, GuestGoneError when the machine died.
    """
    patience = Patience(deadline, lifeline)
    for probe in probes:
        report(f"probing: {probe.description}")
        said = b""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                words = memory()
                try:
                    status = session.run(
                        door, ["sh", "-c", _SCRIPT], patience, stdin=probe.script.encode(), hear=words.hear
                    )
                finally:
                    said = bytes(words) or said
                if status == 0:
                    break
                patience.pause(pause_s)
                pause_s = min(_LAST_PAUSE_S, 2 * pause_s)
        except DeadlineError as err:
            raise DeadlineError(
                f'the probe "{probe.description}" did not succeed within {deadline.seconds:g} s',
                details=[*lines(said)[-_LINES:], *probe.hint.splitlines()],
            ) from err
