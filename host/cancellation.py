"""Whether this process was asked to give up: a flag that every wait looks at.

A signal handler that raises does so wherever the program happens to be: in the middle of an import, inside a library
that catches it, between a write and the note of it. Ours (`listen`) sets a flag and returns. The work itself looks at
the flag wherever it waits, and raises CancelledError there: in `check`, hence in `pause`, in a `Deadline`, in every
program that `run` runs. Undoing what was begun is `shielded`: there the flag counts for nothing, however often it is
set.

Waits look every `LOOK_S` seconds, because the system resumes a call that a returning handler interrupted (PEP
475). A foreign call that blocks for longer and cannot look is made `interruptible`: only in there the handler raises.
Python runs a handler between two steps of its own, so a signal in the moment before such a call blocks would be heard
when it returns: a timer ends that, by a signal that interrupts the call and does nothing else.

Only the command line listens. A program that embeds Interlock keeps its own handlers, and calls an operation off by
what they raise, or by raising from `announce`.

This module is imported before the handlers are there, so it imports next to nothing.
"""

import select
import signal
import time
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar

    from ..errors import CancelledError

    T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LOOK_S = 0.05
"""How often a wait looks at the flag."""

_requested: int | None = None
_listener: int | None = None
"""The thread in which handlers run: the main one."""
_may_raise = False
_shields = ContextVar("shields", default=False)


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP set the flag, except those that are ignored, as nohup(1) leaves them."""
    global _listener  # noqa: PLW0603 - a process has one set of handlers
    _listener = get_ident()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: request(number))
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)


def step_aside() -> None:
    """Give the signals back their default effect, for a program that takes this one's place; raise if one had come."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    check()


def ignore() -> None:
    """Ignore the signals: the exit code is decided, and Python's own end would give them their default effect back."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def request(number: int) -> None:
    """Ask for the end of all work in this process, as the signal `number` does."""
    global _requested, _may_raise  # noqa: PLW0603 - likewise
    _requested = number
    if _may_raise and not _shields.get():
        _may_raise = False
        raise error()


def requested() -> bool:
    """Return whether the end was asked for, shielded or not."""
    return _requested is not None


def check() -> None:
    """Raise CancelledError if the end was asked for, unless `shielded`."""
    if _requested is not None and not _shields.get():
        raise error()


def pause(seconds: float) -> None:
    """Return after `seconds`; raise CancelledError as soon as the end is asked for."""
    readable(seconds, ())


def readable(seconds: float, descriptors: "Sequence[int]") -> list[int]:
    """Return those of `descriptors` that can be read, as soon as there are any; none after `seconds`.

    Raises CancelledError as soon as the end is asked for.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + seconds
    while True:
        check()
        left_s = until - time.monotonic()
        ready = poll.poll(1000 * max(0.0, min(left_s, LOOK_S)))
        if ready or left_s <= 0:
            return [descriptor for descriptor, _ in ready]


@contextmanager
def shielded() -> "Iterator[None]":
    """Let nothing in here be called off: what it does ends by itself, and soon."""
    token = _shields.set(True)
    try:
        yield
    finally:
        _shields.reset(token)


@contextmanager
def interruptible() -> "Iterator[None]":
    """Let the handler raise in here: for a foreign call that blocks and cannot look.

    Raises CancelledError at the end too, if the call swallowed it. What is done in here must bear to be cut off at any
    point. In threads other than the main one nothing is cut off, as no handler runs in them.
    """
    global _may_raise  # noqa: PLW0603 - likewise
    outer = _may_raise
    try:
        _may_raise = get_ident() == _listener
        if _may_raise:
            signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        check()
        yield
    except BaseException:
        check()  # whatever the cut-off call made of it
        raise
    finally:
        if get_ident() == _listener and not outer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _may_raise = outer
    check()


def each(things: "Iterator[T]") -> "Iterator[T]":
    """Yield `things`; what waits or works for the next one is `interruptible`."""
    while True:
        with interruptible():
            try:
                thing = next(things)
            except StopIteration:
                return
        yield thing


def error(so: str = "") -> "CancelledError":
    """Return what `check` raises; `so` is added to its words."""
    from ..errors import CancelledError

    return CancelledError(f"interrupted by {signal.Signals(_requested or signal.SIGINT).name}{so}")
