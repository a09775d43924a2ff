"""Watching: everything that happens to the instances of one home, from any process, as it happens.

Every transition is recorded in a journal, so a watcher follows the journals of all instances, including those that are
being created or deleted. It keeps each journal open, because a deletion removes the file, and its last lines still
count. It follows journals by inode: a rename can make an instance appear, vanish or change its name, and the watcher
then follows it under the new name; and a journal that has grown too long is replaced.

Only the condition of a machine (paused, degraded, process out of reach) changes without a transition. So each instance
is also observed from time to time, which records exits that nobody has noticed yet.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import InterlockError
from ..host import cancellation
from ..host.files import open_own
from ..host.home import NAME, Home
from . import words
from .events import Event
from .happening import Happening
from .journal import FILE, LIMIT_BYTES, NO_LINE, Entry, Line, Phase, parsed
from .records import Status, now
from .states import State
from .table import BY_TRIGGER

LOOK_S = 0.1
"""How often the journals are checked, each by its size only. An instance that is created and deleted between two checks
is not seen."""

OBSERVE_S = 1.0
"""How often the machines are observed at most; if that takes long, the pause is ten times as long as observing them."""

_SHARE = 10

HAPPENING = {
    Phase.begun: Happening.begun,
    Phase.step: Happening.step,
    Phase.done: Happening.done,
    Phase.failed: Happening.failed,
    Phase.left: Happening.left,
    Phase.undone: Happening.undone,
}


class Change(NamedTuple):
    """One change of one instance: a new line of its journal, or a new condition of its machine."""

    instance: str
    time: str
    """UTC, ISO 8601."""
    line: Entry | None
    """None if the condition changed."""
    condition: str | None = None
    """What is wrong with the machine now; None if nothing is wrong any more. Not set if `line` is."""

    @property
    def message(self) -> str:
        """The sentence for people."""
        if self.line is None:
            return f'"{self.instance}" is {self.condition}' if self.condition else f'"{self.instance}" is healthy again'
        if not isinstance(self.line, Line):
            return f'"{self.instance}": {self.line.trigger} {self.line.phase}, in the words of a newer version'
        return words.sentence(_event(self.instance, self.line))

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock watch --format json`."""
        if self.line is None:
            known = {"time": self.time, "event": "condition_changed", "condition": self.condition}
        else:
            happening = _happening(self.line) if isinstance(self.line, Line) else None
            known = {**self.line.to_json(), "event": str(happening) if happening else None}
        return {"name": self.instance, **known, "message": self.message}


def _event(instance: str, line: Line) -> Event:
    detail = line.detail or ((line.error or {}).get("message") if line.phase is Phase.left else None)
    return Event(
        _happening(line), instance, line.trigger, line.source, line.elapsed_s, line.seq, step=line.step, detail=detail
    )


def _happening(line: Line) -> Happening:
    return Happening.observed if BY_TRIGGER[line.trigger].observed else HAPPENING[line.phase]


class Instances(Protocol):
    """Where the watch gets the conditions from, such as an `Engine`."""

    def statuses(self) -> Iterator[Status]: ...


class Watch:
    """Follows the instances `names`, or all: every change after this object was created, or after `since`.

    `since` is a time, UTC, ISO 8601, or the number of a line, which is valid only for a single instance.
    """

    def __init__(
        self, home: Home, instances: Instances, names: Collection[str] = (), since: str | int | None = None
    ) -> None:
        self._home, self._instances, self._names, self._since = home, instances, set(names), since
        self._tails: dict[tuple[int, int], _Tail] = {}
        self._seqs: dict[str, int] = {}
        """Instance → the number of the last line that was read."""
        self._conditions: dict[str, str | None] = {}
        self._observe_at = 0.0
        self._fresh = list(self._begin())

    def changes(self, until: Callable[[], bool] = lambda: False) -> Iterator[Change]:
        """Yield the changes in the order of their time, until `until`, called several times a second, returns True.

        Raises CancelledError when the process is asked to end.
        """
        try:
            while True:
                yield from self._fresh
                if until():
                    return
                cancellation.pause(LOOK_S)
                self._fresh = self._look()
        finally:
            for tail in self._tails.values():
                tail.close()

    def _begin(self) -> Iterator[Change]:
        """Read what exists already; yield nothing, or with `since`, the later lines and what is wrong now."""
        conditions = list(self._observed())
        if self._since is not None:
            yield from conditions
        for change in self._lines():
            match self._since:
                case None:
                    continue
                case int() as seq if change.line and change.line.seq > seq:
                    yield change
                case str() as moment if change.time > moment:
                    yield change

    def _look(self) -> list[Change]:
        return sorted([*self._observed(), *self._lines()], key=lambda change: change.time)

    # -- journals ------------------------------------------------------------------------------------------------------

    def _lines(self) -> list[Change]:
        """Return the lines that have been added to the journals, in the order of their time."""
        found = list(self._found())
        there = {identity for identity, _, _ in found}
        for identity, name, path in found:
            if identity not in self._tails:
                with suppress(OSError):  # it was moved in the meantime, and is found again at the next look
                    self._tails[identity] = _Tail(name, path)
            elif (tail := self._tails[identity]).name != name:
                self._follow(tail, name)
        changes = []
        for identity, tail in list(self._tails.items()):
            for line in tail.read():
                if line.seq == 1:
                    self._seqs[tail.name] = 0  # a new instance of that name: a shortened journal has no line 1
                if line.seq > self._seqs.get(tail.name, 0):
                    self._seqs[tail.name] = line.seq
                    changes.append(Change(tail.name, line.time, line))
            if identity not in there:
                tail.close()
                del self._tails[identity]
        return sorted(changes, key=lambda change: change.time)

    def _follow(self, tail: "_Tail", name: str) -> None:
        """Follow the instance of `tail` under its new name `name`; if only some names are watched, add it to them."""
        self._seqs[name] = self._seqs.pop(tail.name, 0)
        if self._names:
            self._names.add(name)
        tail.name = name

    def _found(self) -> Iterator[tuple[tuple[int, int], str, Path]]:
        """Yield the existing journals to follow: the identity of the file, the name of the instance, the path."""
        instances = self._home.instances
        for folder in (instances / ".creating", instances, instances / ".deleting"):
            with suppress(FileNotFoundError):
                for name in os.listdir(folder):  # noqa: PTH208 - many times a second
                    if NAME.fullmatch(name):
                        path = folder / name / FILE
                        with suppress(OSError):
                            seen = path.lstat()
                            identity = seen.st_dev, seen.st_ino
                            if not self._names or name in self._names or identity in self._tails:
                                yield identity, name, path

    # -- machines ------------------------------------------------------------------------------------------------------

    def _observed(self) -> Iterator[Change]:
        """Observe the machines if it is time to, and yield each change of a condition."""
        began = time.monotonic()
        if began < self._observe_at:
            return
        before, self._conditions = self._conditions, {}
        for status in self._instances.statuses():
            if self._names and status.name not in self._names:
                continue
            known, condition = before.get(status.name), _condition(status)
            self._conditions[status.name] = condition
            # A machine that went down has not recovered: its journal says what happened.
            if condition != known and (condition or status.state is State.running):
                yield Change(status.name, now(), None, condition)
        ended = time.monotonic()
        self._observe_at = ended + max(OBSERVE_S, _SHARE * (ended - began))


def _condition(status: Status) -> str | None:
    """Return what is wrong with an instance, apart from what its journal says; None if nothing is wrong."""
    if status.damage:
        return f"damaged: {status.damage}"
    seen = status.observation
    if seen is None or not seen.alive:
        return None
    return seen.condition or (f"degraded: {seen.degraded.message}" if seen.degraded else None)


class _Tail:
    """A journal that is followed from its beginning, even after the file was removed or renamed."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._descriptor = open_own(path)
        self._position = 0

    def read(self) -> Iterator[Entry]:
        """Yield the lines that were completed since the last call; a damaged line is skipped and left to `repair`."""
        size = os.fstat(self._descriptor).st_size
        if size < self._position:
            self._position = 0
        text = os.pread(self._descriptor, min(size - self._position, 2 * LIMIT_BYTES), self._position)
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.split(b"\n")[:-1]:
            with suppress(*NO_LINE, InterlockError):
                yield parsed(line)

    def close(self) -> None:
        os.close(self._descriptor)
