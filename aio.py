"""Interlock for programs on asyncio: any call of the API, in a thread of its own, called off where its task is.

    from interlock import Interlock, aio

    vms = Interlock()
    outcome = await aio.call(vms.start, "web", timeout_s=120)
    async for change in aio.iterate(vms.watch(["web"])):
        print(change.message)

There is no second API to keep in step with the first: what can be called, with which arguments, and what it returns is
what the method says, for type checkers too.
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
    """A call of the API that has been begun in a thread of its own, for programs whose loop is another's.

    `future` has its result. A process does not end before its calls have.
    """

    def __init__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        self.future: Future[T] = Future()
        self._called_off = threading.Event()

        def work() -> None:
            try:
                with cancellation.calling_off(self._why):
                    self.future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                self.future.set_exception(error)

        name = f"interlock {getattr(function, '__name__', 'call')}"
        threading.Thread(target=contextvars.copy_context().run, args=[work], name=name).start()

    def call_off(self) -> None:
        """Let the work end as soon as it can, by the rule of its row; the future then has a CancelledError."""
        self._called_off.set()

    def _why(self) -> str | None:
        return "called off by its caller" if self._called_off.is_set() else None


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `function`, a method of `Interlock` or of what it has, returns for these arguments.

    When the task is cancelled, the work is called off, as Ctrl-C does it on the command line: it is undone by the rule
    of its row, which is waited for, and then the task is. Work that has come to its end meanwhile stays done. What
    blocks in another library, such as a download, notices after that library's own timeout.
    """
    begun = Call(function, *args, **kwargs)
    done = asyncio.wrap_future(begun.future)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        begun.call_off()
        while not done.done():
            with suppress(asyncio.CancelledError):  # the task is cancelled all the same, once this is over
                await asyncio.wait([done])
        done.exception()  # what became of it is of no interest any more
        raise


async def iterate(things: Iterator[T]) -> AsyncIterator[T]:
    """Yield `things`, such as what `watch` yields; each is waited for in a thread."""
    while (found := await call(_next, things)) is not None:
        yield found[0]


def _next(things: Iterator[T]) -> tuple[T] | None:
    for thing in things:
        return (thing,)
    return None
