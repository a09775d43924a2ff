"""Waiting until an instance meets a condition, no matter which process brings that about."""

import time
from collections.abc import Callable

from ..errors import DeadlineError, NotFoundError
from ..host import cancellation
from . import words
from .records import Status
from .states import State

LOOK_S = 0.1
"""How often the instance is looked at."""


def _at_rest_in(state: State) -> Callable[[Status], bool]:
    return lambda status: status.state is state and status.operation is None and not status.damage


def _well(status: Status) -> bool:
    seen = status.observation
    return _RUNNING(status) and bool(seen and seen.alive) and not (seen and (seen.condition or seen.degraded))


def _degraded(status: Status) -> bool:
    return _RUNNING(status) and bool(status.observation and status.observation.degraded)


_RUNNING = _at_rest_in(State.running)

CONDITIONS: dict[str, Callable[[Status], bool]] = {
    **{str(state): _at_rest_in(state) for state in State},
    "ready": _well,
    "degraded": _degraded,
}
"""Conditions that can be waited for: a state with nothing in progress; `ready`, which is running with nothing wrong; or
`degraded`, which is running with a failure in the guest."""


def wait(
    look: Callable[[], Status], condition: str, timeout_s: float | None, missing: Callable[[str], NotFoundError]
) -> Status:
    """Return the status of an instance, which `look` reads, as soon as it meets `condition`.

    Unless it waits for `absent`, raises the error that `missing` makes of the name if the instance does not exist and
    is not being created. Raises DeadlineError after `timeout_s` seconds, CancelledError when the process is cancelled.
    """
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    holds = CONDITIONS[condition]
    while not holds(status := look()):
        if not status.exists:
            raise missing(status.name)
        if give_up is not None and time.monotonic() >= give_up:
            raise DeadlineError(
                f'"{status.name}" is not {condition} after {timeout_s:g} s; it is {words.status(status)}',
                hint=words.look(status.name),
            )
        cancellation.pause(LOOK_S)
    return status
