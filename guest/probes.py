"""Probes: scripts that must succeed in a guest before it counts as ready."""

from collections.abc import Sequence

from ..errors import DeadlineError
from ..fsm.port import Deadline
from ..fsm.spec import Probe
from ..host.progress import Report
from . import session
from .report import LINES, Failure, bounded_words, lines
from .session import Endpoint, Wait

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.25, 4.0
"""Pauses between attempts. Each attempt costs the guest a login, which is slow under emulation."""

_GRACE_S = 30.0
"""Time limit for the probes in a guest in which something failed: most of them wait for the result of what failed."""

_TIMED_OUT = 124
"""The exit status of a probe that did not finish. Source: timeout(1)."""

_SCRIPT = 'f=$(mktemp) && cat >"$f" && chmod 700 "$f" || exit; "$f" </dev/null; s=$?; rm -f "$f"; exit $s'
"""Runs stdin as a file, so that its `#!` line is obeyed."""


class ProbeError(DeadlineError):
    """A probe did not succeed in time."""

    failure: Failure


def run(
    endpoint: Endpoint,
    probes: Sequence[Probe],
    deadline: Deadline,
    pidfd: int,
    report: Report,
    *,
    failures: tuple[Failure, ...] = (),
) -> tuple[Failure, ...]:
    """Return `failures` once each of `probes`, one after the other, has succeeded in the guest, run by its user.

    If something failed before, the probes have less time, and one that does not succeed is returned as a further
    failure. Otherwise raises ProbeError when time is up. Raises GuestGoneError when the machine died.
    """
    if failures:
        deadline = deadline.at_most(_GRACE_S)
    try:
        for probe in probes:
            report(f"probing: {probe.description}")
            _run(endpoint, probe, deadline, pidfd)
    except ProbeError as err:
        if not failures:
            raise
        return (*failures, err.failure)
    return failures


def _run(endpoint: Endpoint, probe: Probe, deadline: Deadline, pidfd: int) -> None:
    wait = Wait(deadline, pidfd)
    said, status = b"", _TIMED_OUT
    pause_s = _FIRST_PAUSE_S
    try:
        while True:
            words = bounded_words()
            try:
                status = session.run(
                    endpoint, ["sh", "-c", _SCRIPT], wait, stdin=probe.script.encode(), hear=words.hear
                )
            finally:
                said = bytes(words) or said
            if status == 0:
                return
            wait.pause(pause_s)
            pause_s = min(_LAST_PAUSE_S, 2 * pause_s)
    except DeadlineError as err:
        failure = Failure(f'probe "{probe.description}"', status, tuple(lines(said)[-LINES:]))
        error = ProbeError(
            f"the {failure.name} did not succeed within {deadline.seconds:g} s",
            details=[*failure.output, *probe.hint.splitlines()],
        )
        error.failure = failure
        raise error from err
