"""Shared observations: a listing asks a driver about each instance, and some drivers observe all machines at once.

Inside `shared`, a driver may answer from an observation made for an earlier instance of the same listing. Decisions
about an instance are never based on that: `Instance` observes its machine itself.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FRESH_S = 2.0
"""How long an observation may be reused: a listing that is printed slowly observes again."""

Looks = dict[object, tuple[float, Any, Exception | None]]
"""Key of an observation → when it ended, what it returned, and what it raised."""

_hurry: ContextVar[bool] = ContextVar("hurry", default=False)

_looks: ContextVar[Looks | None] = ContextVar("looks", default=None)


@contextmanager
def shared(looks: Looks | None) -> Iterator[None]:
    """Let `once` answer from `looks` inside the block; with None, let it call its function each time."""
    token = _looks.set(looks)
    try:
        yield
    finally:
        _looks.reset(token)


def sharing() -> bool:
    """Return whether an observation made now would be reused for other instances."""
    return _looks.get() is not None


def once(key: object, look: Callable[[], Any]) -> Any:
    """Return what `look` returns, or raise what it raises; inside `shared`, reuse a recent result of the same `key`."""
    looks = _looks.get()
    if looks is None:
        return look()
    if key not in looks or time.monotonic() - looks[key][0] > _FRESH_S:
        try:
            found = look()  # a cluster with a silent node takes seconds to answer: the age counts from its answer
            looks[key] = (time.monotonic(), found, None)
        except Exception as error:  # noqa: BLE001 - a silent cluster is waited for once, not once per machine
            looks[key] = (time.monotonic(), None, error)
    _, found, problem = looks[key]
    if problem is not None:
        raise problem
    return found


@contextmanager
def hurried() -> Iterator[None]:
    """Keep drivers from waiting for long work inside the block, because its caller only wants to read."""
    token = _hurry.set(True)
    try:
        yield
    finally:
        _hurry.reset(token)


def in_a_hurry() -> bool:
    """Return whether a driver must not wait for long work that was started earlier."""
    return _hurry.get()
