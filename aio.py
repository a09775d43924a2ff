"""Interlock for asyncio: each call of the API runs in its own thread, and is called off when its task is cancelled.

    from interlock import Interlock, aio

    vms = Interlock()
    outcome = await aio.call(vms.start, "web", timeout_s=120)
    async for change in aio.iterate(vms.watch(["web"])):
        print(change.message)

There is no second API: methods, arguments and results are those of `Interlock`, for type checkers too.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, ParamSpec, TypeVar

from .host import cancellation

P = ParamSpec("P")
T = TypeVar("T")


class Call(Generic[T]):
    """A call of the API that runs in its own thread, for programs with another event loop than asyncio's.

    `future` receives the result. The process does not exit before its calls have ended.
    """

    def __init__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        self.future: Future[T] = Future()
        self._called_off = threading.Event()

        def work() -> None:
            try:
                with cancellation.calling_off(self._why):
                    self.future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again where the result is read
                self.future.set_exception(error)

        name = f"interlock {getattr(function, '__name__', 'call')}"
        threading.Thread(target=contextvars.copy_context().run, args=[work], name=name).start()

    def call_off(self) -> None:
        """End the work as soon as possible, by the rule of its row; the future then raises a CancelledError."""
        self._called_off.set()

    def _why(self) -> str | None:
        return "called off by its caller" if self._called_off.is_set() else None


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `function`, a method of `Interlock` or of one of its attributes, returns for these arguments.

    If the task is cancelled, the work is called off as by Ctrl-C on the command line: the work is first undone by the
    rule of its row, and then the task is cancelled. Work that ended in the meantime stays done. A call that blocks in
    another library, such as a download, notices the cancellation only after the timeout of that library.
    """
    begun = Call(function, *args, **kwargs)
    done = asyncio.wrap_future(begun.future)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        begun.call_off()
        while not done.done():
            with suppress(asyncio.CancelledError):  # the task is cancelled anyway, once the work has ended
                await asyncio.wait([done])
        done.exception()  # read it, so that asyncio does not report it as unread
        raise


async def iterate(things: Iterator[T]) -> AsyncIterator[T]:
    """Yield the items of `things`, such as those of `watch`; a thread waits for each of them."""
    while (found := await call(_next, things)) is not None:
        yield found[0]


def _next(things: Iterator[T]) -> tuple[T] | None:
    for thing in things:
        return (thing,)
    return None
