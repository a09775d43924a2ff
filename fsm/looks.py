"""One look at many machines: a listing asks for each instance what its driver sees, and some drivers see all at once.

Inside `shared` a driver may answer from a look that an earlier question of the same listing has paid for. What is
decided about an instance is never decided by such a look: `Instance` takes one of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FRESH_S = 2.0
"""How long a look counts: a listing that is printed slowly looks again."""

Looks = dict[object, tuple[float, Any, Exception | None]]
"""When each look was taken, what it showed, and what it raised."""

_hurry: ContextVar[bool] = ContextVar("hurry", default=False)

_looks: ContextVar[Looks | None] = ContextVar("looks", default=None)


@contextmanager
def shared(looks: Looks | None) -> Iterator[None]:
    """Let `once` answer from `looks` inside the block; with None, let it look each time."""
    token = _looks.set(looks)
    try:
        yield
    finally:
        _looks.reset(token)


def sharing() -> bool:
    """Return whether a look now would serve other questions, too."""
    return _looks.get() is not None


def once(key: object, look: Callable[[], Any]) -> Any:
    """Return what `look` returned, or raise what it raised, a moment ago for the same `key`; outside `shared`, now."""
    looks = _looks.get()
    if looks is None:
        return look()
    if key not in looks or time.monotonic() - looks[key][0] > _FRESH_S:
        try:
            looks[key] = (time.monotonic(), look(), None)
        except Exception as error:  # noqa: BLE001 - a cluster that is silent is not waited for again for each machine
            looks[key] = (time.monotonic(), None, error)
    _, found, problem = looks[key]
    if problem is not None:
        raise problem
    return found


@contextmanager
def hurried() -> Iterator[None]:
    """Let what is settled inside the block wait for nothing that may last: somebody only wants to read."""
    token = _hurry.set(True)
    try:
        yield
    finally:
        _hurry.reset(token)


def in_a_hurry() -> bool:
    """Return whether a driver must not wait for work that was begun earlier and may last."""
    return _hurry.get()
