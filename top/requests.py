"""The requests made in the view: each is one call of the API in its own thread, which outlives the view."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..aio import Call
from ..api import Interlock
from ..fsm.table import BY_TRIGGER, Trigger


class Request(NamedTuple):
    """One thing that was asked for."""

    instance: str
    trigger: Trigger
    call: Call[Any]

    @property
    def words(self) -> str:
        """What is being done: `starting "web"`."""
        return f'{BY_TRIGGER[self.trigger].doing} "{self.instance}"'


class Requests:
    """The requests that have not ended yet."""

    def __init__(self, interlock: Interlock, ended: Callable[[Request], None]) -> None:
        self._interlock, self._ended = interlock, ended
        self.under_way: list[Request] = []

    def begin(self, name: str, trigger: Trigger, arguments: Sequence[str] = (), *, damaged: bool = False) -> None:
        """Ask for `trigger` of the instance `name`; `ended`, called in another thread, hears when it is over."""
        method = getattr(self._interlock, trigger, None)
        if damaged or method is None:
            call = Call(self._interlock.fire, name, trigger, force=damaged)
        else:
            call = Call(method, name, *arguments)
        request = Request(name, trigger, call)
        self.under_way.append(request)
        call.future.add_done_callback(lambda _: self._over(request))

    def of(self, name: str) -> list[Request]:
        """Return what is under way for the instance `name`."""
        return [request for request in self.under_way if request.instance == name]

    def _over(self, request: Request) -> None:
        self.under_way.remove(request)
        self._ended(request)
