"""What people and logs get to read on stderr while a transition runs, and when something fails.

structlog carries every event. Its last processor is rich on a terminal, logfmt or JSON lines elsewhere. structlog and
rich are imported by the first event, because a command that has nothing to say should not pay for them.
"""

import json
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InterlockError
from ..fsm import words
from ..fsm.events import Announce, Event, Happening
from .terminal import printable, styled, wrapped

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult
    from rich.live import Live

LogFormat = Literal["human", "logfmt", "json"]

_STEP_INDENT = 10
"""Where the words of a step begin, after its time."""

LEVELS = {
    Happening.failed: "error",
    Happening.left: "error",
    Happening.interrupted: "warning",
    Happening.degraded: "warning",
}
"""The level of an event; the others are `info`."""


def announcer(log_format: LogFormat | None) -> Announce:
    """Return what hears the engine's events and writes them to stderr; None chooses by whether that is a terminal."""
    chosen = log_format or ("human" if sys.stderr.isatty() else "logfmt")

    def announce(event: Event) -> None:
        log = getattr(_logger(chosen), LEVELS.get(event.happening, "info"))
        with suppress(OSError):  # that nobody reads it any more (a pipe, a terminal) is no reason to call the work off
            log(str(event.happening), **event.facts(), message=event.message)

    return announce


def print_note(text: str, log_format: LogFormat | None) -> None:
    """Say `text` on stderr: what belongs to no transition and is no error."""
    note = {"level": "info", "event": "note", "message": text}
    if log_format == "json":
        print(json.dumps(note), file=sys.stderr)
    else:
        print(wrapped(printable(text), sys.stderr), file=sys.stderr)


def print_error(error: InterlockError, log_format: LogFormat | None) -> None:
    """Say `error` on stderr: its reference, its message, the failing program's words, and what to do."""
    if log_format == "json":
        record = {"level": "error", "event": "error", **error.record(), "exit_code": error.exit_code}
        print(json.dumps(record), file=sys.stderr)
        return
    red, plain = ("\x1b[1;31m", "\x1b[0m") if styled(sys.stderr) else ("", "")
    print(f"{red}error: {error.reference}{plain}", file=sys.stderr)
    print(wrapped(printable(error.message), sys.stderr), file=sys.stderr)
    for line in error.details:
        print(f"  | {printable(line)}", file=sys.stderr)
    if error.hint:  # it is not wrapped, because it is copied and typed
        print(f"hint: {printable(error.hint)}", file=sys.stderr)


@cache
def _logger(log_format: LogFormat) -> Any:
    import structlog

    processors: list[Any] = [structlog.processors.add_log_level]
    match log_format:
        case "human":
            processors.append(Terminal())
        case "json":
            processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
            processors.append(structlog.processors.JSONRenderer())
        case "logfmt":
            processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
            processors.append(_printable)
            order = ["timestamp", "level", "event", "instance", "trigger", "source", "dest", "seq", "elapsed_s"]
            processors.append(structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True))
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors)


def _printable(_logger: Any, _level: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take the control characters out of what a guest or another program said: a log may be read on a terminal."""
    return {key: printable(fact) if isinstance(fact, str) else fact for key, fact in facts.items()}


class Terminal:
    """The processor for people: a line for each step as it is reached, and below them what is going on right now."""

    def __init__(self) -> None:
        from rich.console import Console

        self._styled = styled(sys.stderr)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, no_color=not self._styled)
        self._live: Live | None = None

    def __call__(self, _logger: Any, _level: str, facts: MutableMapping[str, Any]) -> str:
        """Show the event and hand nothing on. Source: structlog, "Processors": DropEvent ends the chain."""
        from structlog import DropEvent

        happening = Happening(facts["event"])
        message = printable(facts["message"])
        if happening is Happening.begun:
            self._say(message)
            self._watch(facts)
        elif happening is Happening.step:
            elapsed = words.duration(facts.get("elapsed_s", 0.0))
            self._say(f"{elapsed:>8}  {printable(facts['step'])}", style="dim", indent=_STEP_INDENT)
            self._watch(facts)
        else:
            self._stop()
            good = happening in (Happening.done, Happening.holds)
            self._say(message, style="green" if good else "red" if happening in LEVELS else None)
        raise DropEvent

    def _say(self, text: str, style: str | None = None, indent: int = 0) -> None:
        lines = wrapped(text, sys.stderr, indent)
        self._console.print(lines, style=style if self._styled else None, markup=False)

    def _watch(self, facts: MutableMapping[str, Any]) -> None:
        """Keep one moving line at the bottom until the next event: what is being done, for how long."""
        from rich.live import Live

        self._stop()
        if self._console.is_dumb_terminal:  # it cannot take back what it has written
            return
        now = _Now(str(facts["trigger"]), str(facts.get("step", "")), time.monotonic() - facts.get("elapsed_s", 0.0))
        self._live = Live(now, console=self._console, transient=True, refresh_per_second=8)
        self._live.start()

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class _Now:
    """The moving line: `⠋ starting · waiting for ssh · 4 s`."""

    def __init__(self, trigger: str, step: str, began: float) -> None:
        from rich.spinner import Spinner

        from ..fsm.table import BY_TRIGGER, Trigger

        self._doing, self._step, self._began = BY_TRIGGER[Trigger(trigger)].doing, step, began
        self._spinner = Spinner("dots")

    def __rich_console__(self, _console: Any, _options: "ConsoleOptions") -> "RenderResult":
        parts = [self._doing, printable(self._step), words.duration(time.monotonic() - self._began)]
        self._spinner.update(text=" · ".join(part for part in parts if part))
        yield self._spinner
