"""Cancellation: a flag that signals set and every wait checks.

A signal handler that raises may do so anywhere: in the middle of an import, inside a library that catches everything,
between a write and its record. Our handler (`listen`) sets a flag and returns. The work checks the flag wherever it
waits, and raises CancelledError there: in `check`, hence in `pause`, in a `Deadline`, in every program that `run` runs.
Undoing is `shielded`: it ignores the flag.

Waits check every `LOOK_S` seconds, because Python resumes a system call once the handler has returned (PEP 475). A
foreign call that blocks for longer and cannot check is made `interruptible`: only inside it does the handler raise.
Python runs handlers between two of its own steps, so a signal that arrives just before such a call blocks would be
noticed only when the call returns. A timer prevents that: its signal interrupts the call and does nothing else.

Only the command line listens. A program that embeds Interlock keeps its own handlers; it cancels an operation by
raising from them, or from the listener of its events, or with `calling_off` from another thread.

This module is imported before the handlers are installed, so it imports almost nothing.
"""

import select
import signal
import time
from _thread import get_ident
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from ..errors import CancelledError

    T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LOOK_S = 0.05
"""How often a wait checks the flag."""

_requested: int | None = None
_listener: int | None = None
"""The thread in which handlers run: the main one."""
_may_raise = False
_shields = ContextVar("shields", default=False)
_called_off: "ContextVar[tuple[Callable[[], str | None], ...]]" = ContextVar("called_off", default=())
"""Each says why the work of this thread is to end, or None: see `calling_off`."""


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP set the flag, except those that are already ignored, as under nohup(1)."""
    global _listener  # noqa: PLW0603 - a process has one set of handlers
    _listener = get_ident()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: request(number))
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)


def step_aside() -> None:
    """Restore the signals' default effect for a program that replaces this one; raise if one has arrived already."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    check()


def ignore() -> None:
    """Ignore the signals: the exit code is decided, and Python would restore their default effect while it exits."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def request(number: int) -> None:
    """Cancel all work in this process, as the signal `number` does."""
    global _requested, _may_raise  # noqa: PLW0603 - likewise
    _requested = number
    if _may_raise and not _shields.get():
        _may_raise = False
        raise error()


def requested() -> bool:
    """Return whether cancellation was requested, shielded or not."""
    return _requested is not None


def number() -> int:
    """Return the signal that requested cancellation; SIGTERM where it was none."""
    return _requested or signal.SIGTERM


def check() -> None:
    """Raise CancelledError if cancellation was requested, unless `shielded`."""
    if _shields.get():
        return
    if _requested is not None:
        raise error()
    for asked in _called_off.get():
        if why := asked():
            from ..errors import CancelledError

            raise CancelledError(why)


def pause(seconds: float) -> None:
    """Return after `seconds`; raise CancelledError as soon as cancellation is requested."""
    readable(seconds, ())


def readable(seconds: float, descriptors: "Sequence[int]") -> list[int]:
    """Return the readable ones of `descriptors` as soon as there are any, or an empty list after `seconds`.

    Raises CancelledError as soon as cancellation is requested.
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
    """Let nothing in here be cancelled: its work ends by itself, and soon."""
    token = _shields.set(True)
    try:
        yield
    finally:
        _shields.reset(token)


def is_shielded() -> bool:
    """Return whether this thread's work is shielded: it must end by itself, and soon."""
    return _shields.get()


@contextmanager
def calling_off(asked: "Callable[[], str | None]") -> "Iterator[None]":
    """Cancel what this thread does in here as soon as `asked`, which every check calls, returns why."""
    token = _called_off.set((*_called_off.get(), asked))
    try:
        yield
    finally:
        _called_off.reset(token)


@contextmanager
def interruptible() -> "Iterator[None]":
    """Let the handler raise in here: for a foreign call that blocks and cannot check the flag.

    Raises CancelledError at the end too, if the call swallowed it. The work in here must tolerate being cut off at any
    point. Only the main thread is cut off, because handlers run in no other.
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
        check()  # whatever exception the call turned it into
        raise
    finally:
        if get_ident() == _listener and not outer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _may_raise = outer
    check()


def each(things: "Iterator[T]") -> "Iterator[T]":
    """Yield `things`; producing the next one is `interruptible`."""
    while True:
        with interruptible():
            try:
                thing = next(things)
            except StopIteration:
                return
        yield thing


def error(so: str = "") -> "CancelledError":
    """Return the error that `check` raises after a signal; `so` is appended to its message."""
    from ..errors import CancelledError

    by = f" by {signal.Signals(_requested).name}" if _requested else ""
    return CancelledError(f"interrupted{by}{so}")
