"""The journal of one instance: what was intended, and the outcome. The state is what the journal says.

`journal.jsonl` holds one JSON object per line, appended under the instance's lock. Each line is complete in itself, so
the last one alone gives the state and the operation in flight; `list` reads only that one. Lines are short: texts that
are too long are cut and marked. A journal that has grown to its limit is replaced by its latest lines.

    seq        1, 2, 3, ... without gaps; the first line that is kept may have a higher number
    time       UTC, ISO 8601
    trigger    what happens                       one of `table.Trigger`
    source     the state it came from
    dest       the state it leads to
    phase      begun        intent, flushed before the work: source holds, the operation is in flight
               step         a step was reached (`step` says which): also in flight; not flushed, because no decision
                            depends on it
               done         outcome, flushed: dest holds
               failed       outcome: the work failed and what its row's rule undoes was undone; source holds; `error`
                            says why
               left         the work failed, and so did undoing it, or it was not to be undone (`--on-failure keep`):
                            source holds, the operation stays in flight, and the next command finishes or undoes it
               undone       outcome of recovery: the work of a dead process was undone or, by its row's rule, given up;
                            source holds
    actor      {pid, started_ticks, boot_id, command}
    elapsed_s  since `begun`, by the monotonic clock
    step       words, on `step` lines and on outcomes that were reached in that step
    deadline   when the work will be given up, UTC
    detail     how it ended, in words: `guest shut down`
    error      {reference, message, hint, details}
    former     on lines of a row that moves the instance: its name before
    asked      the arguments of the request that a later process can repeat: {"tag": "before-upgrade"}
    kept       the reason for the state before the line; it still applies unless the line moves the state or fails
    version    the version of Interlock that wrote the line; 0.1.0 left it out
    schema     of the line; left out while it is 1

A newer version may write triggers, phases and states that this one does not know. Such a line is not damaged: `lines`
yields it as it was written, and `set_aside` keeps it. Only a method that would have to act on it raises TooNewError.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..errors import DamagedError, TooNewError
from ..host.bounds import clipped
from ..host.files import RECORD_BYTES, flush_directory, misread, open_own, read_own, write_whole
from ..host.process import Actor
from ..version import __version__
from .schema import Migration, migrated, too_new
from .states import State
from .table import BOOTS, BY_TRIGGER, Trigger

FILE = "journal.jsonl"

MIGRATIONS: tuple[Migration, ...] = ()
"""For lines, as in `spec`. A new trigger, phase or state needs no migration."""

SCHEMA = len(MIGRATIONS) + 1


class Phase(StrEnum):
    """The progress of an operation."""

    begun = "begun"
    step = "step"
    done = "done"
    failed = "failed"
    left = "left"
    undone = "undone"


IN_FLIGHT = (Phase.begun, Phase.step, Phase.left)
"""After such a line, a process is working, or it died during the work, or it left the work unfinished."""


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


class Entry(NamedTuple):
    """One line of the journal in the words of the version that wrote it; the module's docstring lists the fields."""

    trigger: str
    source: str
    dest: str
    phase: str
    actor: Actor
    time: str
    seq: int = 0
    elapsed_s: float = 0.0
    step: str | None = None
    deadline: str | None = None
    detail: str | None = None
    error: dict[str, Any] | None = None
    former: str | None = None
    asked: dict[str, Any] | None = None
    kept: str | None = None
    version: str | None = __version__
    """The version of Interlock that wrote it; None means 0.1.0."""
    schema: int = SCHEMA

    @property
    def state(self) -> str:
        """The state of the instance after this line."""
        return self.dest if self.phase == Phase.done else self.source

    @property
    def since(self) -> str:
        """When the operation of this line began, UTC, ISO 8601."""
        return self._began().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _began(self) -> datetime:
        return datetime.fromisoformat(self.time).astimezone(UTC) - timedelta(seconds=self.elapsed_s)

    def to_json(self) -> dict[str, Any]:
        """Return the line as `history --format json` shows it, without keys that have no value."""
        actor = self.actor
        return {
            "seq": self.seq,
            "time": self.time,
            "trigger": self.trigger,
            "source": self.source,
            "dest": self.dest,
            "phase": self.phase,
            "elapsed_s": round(self.elapsed_s, 3),
            **{
                key: value
                for key in ("step", "deadline", "detail", "error", "former", "asked", "kept", "version")
                if (value := getattr(self, key)) is not None
            },
            **({"schema": self.schema} if self.schema > 1 else {}),
            "actor": {
                "pid": actor.pid,
                "started_ticks": actor.started_ticks,
                "boot_id": actor.boot_id,
                "command": actor.command,
            },
        }

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the line in `text`; raises one of NO_LINE if `text` is not a journal line."""
        return cls._of(json.loads(text.decode()), _PLAIN)  # for bytes, json.loads would guess the encoding

    @classmethod
    def _of(cls, data: dict[str, Any], words: Mapping[str, Callable[[Any], Any]]) -> Self:
        actor = data["actor"]
        for key, kind in _OPTIONAL.items():
            if not isinstance(data.get(key), kind | None):
                raise TypeError(key)
        entry = cls(
            **{field: kind(data[field]) for field, kind in words.items()},
            actor=Actor(
                pid=int(actor["pid"]),
                started_ticks=int(actor["started_ticks"]),
                boot_id=str(actor["boot_id"]),
                command=str(actor.get("command", "")),
            ),
            time=str(data["time"]),
            seq=int(data["seq"]),
            elapsed_s=float(data.get("elapsed_s", 0.0)),
            step=data.get("step"),
            deadline=data.get("deadline"),
            detail=data.get("detail"),
            error=data.get("error"),
            former=data.get("former"),
            asked=data.get("asked"),
            kept=data.get("kept"),
            version=data.get("version"),
            schema=int(data.get("schema", 1)),
        )
        if entry._began().year < _FIRST_YEAR:  # this also raises unless both times are valid
            raise ValueError(entry.time)
        if entry.error is not None:
            _check_error(entry.error)
        return entry


class Line(Entry):
    """One line of the journal in the words of this version."""

    __slots__ = ()

    trigger: Trigger
    source: State
    dest: State
    phase: Phase

    @property
    def state(self) -> State:
        """The state of the instance after this line."""
        return self.dest if self.phase is Phase.done else self.source

    @property
    def reason(self) -> str | None:
        """Why the instance is in its state, in words, unless somebody simply requested that.

        A line that moved the state, or failed to, gives the reason; any other line keeps the previous reason.
        """
        if self.error and self.phase in (Phase.failed, Phase.left):
            return f"{self.trigger} failed: {self.error.get('message')}"
        row = BY_TRIGGER[self.trigger]
        if self.phase is not Phase.done or row.dest is None:
            return self.kept
        return None if row is BOOTS else self.detail  # how the guest started does not explain why it runs

    @property
    def in_flight(self) -> bool:
        """True if the operation of this line has no outcome yet."""
        return self.phase in IN_FLIGHT

    @classmethod
    def parse(cls, text: bytes, place: Path | str = FILE) -> Self:
        """Return the line in `text`, which is from the file `place`.

        Raises one of NO_LINE if `text` is not a journal line, and TooNewError if this version cannot act on the line.
        """
        data = migrated(json.loads(text.decode()), MIGRATIONS, place)
        writer = data.get("version", __version__)
        for field, kind in _WORDS.items():
            if writer != __version__ and data[field] not in list(kind):
                Entry.parse(text)  # raises unless the rest is valid
                raise too_new(place, writer, f"with the word {data[field]!r}", "which does not know it")
        return cls._of(data, _WORDS)


_PLAIN: Mapping[str, Callable[[object], str]] = dict.fromkeys(("trigger", "source", "dest", "phase"), _word)
_WORDS: Mapping[str, type[StrEnum]] = {"trigger": Trigger, "source": State, "dest": State, "phase": Phase}
"""Field → the type of its words: plain text for an entry, enums for a line."""


def _check_error(error: dict[str, Any]) -> None:
    """Raise TypeError unless `error` is what `InterlockError.record` makes."""
    kinds = {"reference": str, "message": str, "hint": str | None, "details": list | None}
    wrong = [key for key, kind in kinds.items() if not isinstance(error.get(key), kind)]
    if wrong or not all(isinstance(detail, str) for detail in error.get("details") or ()):
        raise TypeError("error")


LIMIT_BYTES = 1 << 20
KEPT_BYTES = 256 << 10
"""How large a journal may grow, and how much is then kept: a few hundred starts and stops."""

LINE_BYTES = 8192
_CUTS = ((LINE_BYTES, LINE_BYTES), (500, 20), (100, 20), (40, 10))
"""The limit of a line, and the limits of its texts that are tried in order until it fits: (characters, details)."""

_TAIL_BYTES = 2 * LINE_BYTES
"""Enough for the last line and a torn line after it."""

_FIRST_YEAR = 1970
"""No host's clock is earlier. Times are written with four-digit years."""

_OPTIONAL: dict[str, type] = {
    "step": str,
    "deadline": str,
    "detail": str,
    "error": dict,
    "former": str,
    "asked": dict,
    "kept": str,
    "version": str,
}

NO_LINE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What `Line.parse` raises for a text that is not a journal line."""


class Journal:
    """The journal in `directory`. Reading needs no lock; `append` needs the instance's."""

    _MAX_BYTES = 64 << 20
    """No valid journal is larger; reading all lines of a larger file fails."""

    def __init__(self, directory: Path) -> None:
        self._name = f"{directory}/{FILE}"

    @property
    def path(self) -> Path:
        """The path of the file."""
        return Path(self._name)

    def last(self) -> Line:
        """Return the last whole line. A torn line after it is ignored: its writer died before the line was flushed.

        Raises DamagedError, which names the file, if there is no line or it cannot be understood; TooNewError if this
        version cannot act on it; UnreadableError if the system cannot read the file.
        """
        try:
            tail = read_own(self._name, _TAIL_BYTES, tail=True)
            if len(tail) == _TAIL_BYTES and tail.count(b"\n") < 2:  # noqa: PLR2004 - one end, and one before it
                tail = read_own(self._name, RECORD_BYTES, tail=True)  # version 0.1.0 wrote lines of any length
        except OSError as error:
            raise misread(self._name, error) from error
        whole = tail[: tail.rfind(b"\n") + 1]
        if not whole:
            raise DamagedError(f"{self.path}: holds no whole line")
        text = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        try:
            return Line.parse(text, self._name)
        except NO_LINE as error:
            raise DamagedError(f"{self.path}: the last line is not a journal line ({error!r})") from error

    def present(self) -> Line:
        """Return the last line of an instance whose creation has ended, because its directory has the final name.

        Raises DamagedError as `last` does, and also if the journal has lost so many lines at its end that it shows an
        unfinished creation: rolling that back would remove a whole instance.
        """
        line = self.last()
        if _of_creation(line):
            raise DamagedError(f"{self.path}: ends before the instance was created")
        return line

    def lines(self) -> Iterator[Entry]:
        """Yield every whole line, oldest first; raises DamagedError at a line that cannot be understood."""
        for number, text in enumerate(self._texts(), start=1):
            try:
                yield parsed(text)
            except NO_LINE as error:
                raise DamagedError(f"{self.path}:{number}: not a journal line ({error!r})") from error

    def former(self) -> Iterator[Entry]:
        """Yield the outcomes of moves, each with the former name; lines that cannot be understood are skipped."""
        for text in self._texts():
            if b'"former":' in text:
                with suppress(*NO_LINE):
                    entry = parsed(text)
                    if entry.former and entry.phase == Phase.done:
                        yield entry

    def set_aside(self) -> tuple[int, Path | None]:
        """Move every damaged line to a file beside the journal; return their number, and the file if there are any.

        The other lines keep every byte, including unknown fields. Raises DamagedError if no line would be left. Needs
        the instance's lock. A crash leaves the journal either unchanged or without the damaged lines.
        """
        good: list[bytes] = []
        bad: list[bytes] = []
        for text in self._texts():
            (good if _is_line(text) else bad).append(text + b"\n")
        if not good:
            raise DamagedError(f"{self.path}: holds {'no journal line' if bad else 'no whole line'}")
        if not bad:
            return 0, None
        aside = self.path.with_name(f"{FILE}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        write_whole(aside, b"".join(bad))
        write_whole(self.path, b"".join(good))
        return len(bad), aside

    def mendable(self) -> bool:
        """Return whether a line is damaged and the undamaged ones give the state of an existing instance."""
        texts = self._texts()
        good = [text for text in texts if _is_line(text)]
        return len(good) < len(texts) and bool(good) and not _of_creation(parsed(good[-1]))

    def _texts(self) -> list[bytes]:
        """Return the text before each newline; text after the last newline is ignored."""
        try:
            return self._whole().split(b"\n")[:-1]
        except OSError as error:
            raise misread(self._name, error) from error

    def _whole(self) -> bytes:
        return read_own(self._name, self._MAX_BYTES)

    def append(self, line: Line, *, seq: int) -> Line:
        """Add `line` with the number `seq` and return it. All but `step` lines are on disk when this returns."""
        line, text = _written(line._replace(seq=seq))
        fresh = not self.path.exists()
        with suppress(OSError):  # a full disk: the long journal can stay, and there may be room for one more line
            if not fresh and self.path.stat().st_size > LIMIT_BYTES:
                self._shorten()
        descriptor = open_own(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _cut_torn_end(descriptor)
            _write_all(descriptor, text, flush=line.phase is not Phase.step)
        finally:
            os.close(descriptor)
        if fresh:
            flush_directory(self.path.parent)
        return line

    def _shorten(self) -> None:
        """Replace the journal by its latest lines with one rename: a crash leaves either the old or the new file."""
        latest = read_own(self._name, KEPT_BYTES, tail=True)
        begin = latest.find(b"\n") + 1 if len(latest) == KEPT_BYTES else 0
        whole = latest[begin : latest.rfind(b"\n") + 1]
        if whole:
            write_whole(self.path, whole)


def _written(line: Line) -> tuple[Line, bytes]:
    """Return `line` with long texts cut, and its JSON text of at most LINE_BYTES."""
    for length, details in _CUTS:
        short = _cut(line, length, details)
        words = json.dumps(short.to_json(), separators=(",", ":"), ensure_ascii=False)
        # A file name that is not UTF-8 has lone surrogates, which Python and JSON escape in the same way.
        text = words.encode(errors="backslashreplace") + b"\n"
        if len(text) <= LINE_BYTES:
            break
    return short, text


def _cut(line: Line, length: int, details: int) -> Line:
    """Return `line` with no text of more than `length` characters, and the last `details` details of its error."""
    error = line.error
    if error:
        texts = {key: clipped(text, length) for key, text in error.items() if isinstance(text, str)}
        error = {**error, **texts, "details": [clipped(text, length) for text in error["details"][-details:]]}
    return line._replace(
        step=line.step and clipped(line.step, length),
        detail=line.detail and clipped(line.detail, length),
        actor=line.actor._replace(command=clipped(line.actor.command, length)),
        error=error,
    )


def _of_creation(entry: Entry) -> bool:
    """True for a line of a creation that has no outcome yet."""
    return entry.trigger == Trigger.create and entry.phase in IN_FLIGHT


def parsed(text: bytes) -> Entry:
    """Return the line in `text`: a Line, or an Entry if this version cannot act on it. Raises one of NO_LINE."""
    try:
        return Line.parse(text)
    except TooNewError:
        return Entry.parse(text)


def _is_line(text: bytes) -> bool:
    try:
        parsed(text)
    except NO_LINE:
        return False
    return True


def _cut_torn_end(descriptor: int) -> None:
    """Remove what follows the last newline: the rest of a line whose writer died."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    os.ftruncate(descriptor, content.rfind(b"\n") + 1)


def _write_all(descriptor: int, text: bytes, *, flush: bool) -> None:
    """Append all of `text` or nothing, so that no part of it can be read after a failed write."""
    size = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(text):
            written += os.write(descriptor, text[written:])
        if flush:
            os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise
