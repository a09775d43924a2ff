"""The only way to stderr: transitions, reports, notes, hints and errors are records of one form, each written once.

Every record goes through structlog, whose last processor renders sentences for people, logfmt or JSON. structlog is
imported with the first record, so that a command without messages does not pay for it.
"""

import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InterlockError
from ..fsm import words
from ..fsm.events import Event
from ..fsm.happening import Happening
from .terminal import printable, styled, wrapped

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult
    from rich.live import Live

LogFormat = Literal["human", "logfmt", "json"]
Record = MutableMapping[str, Any]

FIRST = ("timestamp", "level", "event", "instance", "operation")
"""The first keys of a record; the last one is `message`."""

_STEP_INDENT = 10
"""The column where the words of a step begin, after its time."""


class Stderr:
    """The messages of one run of the program, in one format. It is not an error if stderr has no reader any more."""

    def __init__(
        self,
        log_format: LogFormat | None = None,
        about: dict[str, str] | None = None,
        *,
        quiet: bool = False,
        stream: "Stream | None" = None,
    ) -> None:
        self.log_format: LogFormat = log_format or ("human" if sys.stderr.isatty() else "logfmt")
        self._about = {} if about is None else about
        """What every record is about, if known: `instance` and `operation`."""
        self._quiet = quiet
        self.stream = stream or Stream(self.log_format)
        """Where messages go. Threads with messages about different instances share one stream."""

    def announce(self, event: Event) -> None:
        """Write an event of the engine; later messages are about the same instance and operation."""
        from ..log import facts, level

        known = facts(event)
        self._about.update({key: known[key] for key in ("instance", "operation")})
        self._say(level(event), str(event.happening), message=event.message, **known)

    def report(self, text: str) -> None:
        """Report the progress or the result of work outside a transition."""
        self._say("info", "report", message=text)

    def note(self, text: str, *, level: str = "info") -> None:
        """Note something although nothing failed."""
        self._say(level, "note", message=text)

    def hint(self, command: str, why: str, instance: str) -> None:
        """Propose a command that works as typed. `why` is for programs only, because people see the reason."""
        self._say("info", "hint", instance=instance, hint=command, message=why)

    def error(self, error: InterlockError, *, instance: str | None = None, traceback: str | None = None) -> None:
        """Report an error: its reference, its message, the output of the failing program, and what to do."""
        facts = {"instance": instance, "traceback": traceback}
        known = {key: value for key, value in facts.items() if value}
        self._say("error", "error", **known, **error.record(), exit_code=error.exit_code)

    def _say(self, level: str, event: str, **facts: Any) -> None:
        if self._quiet and level == "info":
            return
        self.stream.write(level, event, {**self._about, **facts})


class Stream:
    """The stream through which all records of a run go, one at a time."""

    def __init__(self, log_format: LogFormat) -> None:
        self._format: LogFormat = log_format
        self._log: Any = None
        self._lock = Lock()

    def write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        """Write a record."""
        with self._lock:
            self._log = self._log or _logger(self._format)
            with suppress(OSError):  # the work continues without a reader: a closed pipe or terminal
                getattr(self._log, level)(event, **facts)


def _logger(log_format: LogFormat) -> Any:
    structlog = _structlog()
    processors: list[Any] = [structlog.processors.add_log_level]
    if log_format == "human":
        processors.append(Terminal(structlog.DropEvent))
    else:
        processors += [structlog.processors.TimeStamper(fmt="iso", utc=True), _ordered]
        if log_format == "json":
            processors.append(structlog.processors.JSONRenderer())
        else:
            processors += [_flat, structlog.processors.LogfmtRenderer()]
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors)


def _structlog() -> Any:
    """Return structlog, imported without the parts that take most of its import time and that we do not use.

    structlog imports rich and better_exceptions to show tracebacks and colorama to color terminals, if they exist. It
    also works without them.
    """
    with _hidden("rich"), _hidden("colorama"), _hidden("better_exceptions"):
        import structlog

    return structlog


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Make an import of the module `name` fail, unless it is already loaded."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    yield
    del sys.modules[name]


def _ordered(_logger: Any, _level: str, record: Record) -> Record:
    """Put the keys of every record first, and the sentence last."""
    message = record.pop("message")
    return {key: record.pop(key) for key in FIRST if key in record} | dict(record) | {"message": message}


def _flat(_logger: Any, _level: str, record: Record) -> Record:
    """Leave out keys without a value, join lists, and remove control characters, because a terminal may show a log."""
    texts = {key: "\n".join(value) if isinstance(value, list) else value for key, value in record.items()}
    return {
        key: printable(value) if isinstance(value, str) else value
        for key, value in texts.items()
        if value is not None and value != ""
    }


class Terminal:
    """The processor for people: a line for each step as it is reached, and below them the work in progress."""

    def __init__(self, shown: type[BaseException]) -> None:
        self._shown = shown
        """Raised to end the chain, because nothing has to be passed on. Source: structlog, "Processors", DropEvent."""
        self._styled = styled(sys.stderr)
        self._live: Live | None = None
        self._at_work: dict[str, _Now] = {}
        """Instance → the moving line of its operation."""
        self._several = False

    def __call__(self, _logger: Any, _level: str, record: Record) -> str:
        """Show the record."""
        self._stop()
        match record["event"]:
            case "error":
                self._at_work.pop(record.get("instance", ""), None)
                self._show_error(record)
            case "hint":
                self._show_hint(record["hint"])
            case "report":
                self._show(record["message"])
            case "note":
                self._show(f"note: {record['message']}")
            case event:
                self._show_transition(Happening(event), record)
        self._watch()
        raise self._shown

    def _show_error(self, record: Record) -> None:
        if "traceback" in record:
            sys.stderr.write(printable(record["traceback"]))
        print(f"{self._in('1;31', 'error: ' + record['reference'])}", file=sys.stderr)
        self._show(record["message"])
        for line in record["details"]:
            print(f"  | {printable(line)}", file=sys.stderr)
        if record["hint"]:
            self._show_hint(record["hint"])

    def _show_hint(self, command: str) -> None:
        print(f"hint: {printable(command)}", file=sys.stderr)  # not wrapped, because people copy and paste it

    def _show_transition(self, happening: Happening, record: Record) -> None:
        instance = record["instance"]
        if happening in (Happening.step, Happening.begun):
            if happening is Happening.step:
                self._show_step(instance, words.duration(record.get("elapsed_s", 0.0)), record["step"])
            else:
                self._show(record["message"])
            began = time.monotonic() - record.get("elapsed_s", 0.0)
            self._at_work[instance] = _Now(instance, str(record["operation"]), str(record.get("step", "")), began)
            self._several = self._several or len(self._at_work) > 1
        else:
            good = happening in (Happening.done, Happening.holds)
            self._show(record["message"], style="32" if good else "31" if record["level"] != "info" else "")
            self._at_work.pop(instance, None)

    def _show_step(self, instance: str, elapsed: str, step: str) -> None:
        """Show a step, and the name of its instance if several are being worked on."""
        whose = f"{instance}: " if self._several else ""
        self._show(f"{elapsed:>8}  {whose}{step}", style="2", indent=_STEP_INDENT)

    def _show(self, text: str, style: str = "", indent: int = 0) -> None:
        print(self._in(style, wrapped(printable(text), sys.stderr, indent)), file=sys.stderr, flush=True)

    def _in(self, style: str, text: str) -> str:
        """Return `text` in the colour `style` if stderr shows colours. Source: ECMA-48, SGR."""
        return f"\x1b[{style}m{text}\x1b[0m" if style and self._styled else text

    def _watch(self) -> None:
        """Keep a moving line for each operation at the bottom until the next record."""
        if not self._at_work or not sys.stderr.isatty():
            return
        from rich.console import Console, Group
        from rich.live import Live

        console = Console(stderr=True, highlight=False, soft_wrap=True, no_color=not self._styled)
        if console.is_dumb_terminal:  # it cannot erase lines
            return
        for now in self._at_work.values():
            now.named = self._several
        self._live = Live(Group(*self._at_work.values()), console=console, transient=True, refresh_per_second=8)
        self._live.start()

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class _Now:
    """A moving line: `⠋ starting · waiting for ssh · 4 s`, with the name of the instance if there are several."""

    def __init__(self, instance: str, trigger: str, step: str, began: float) -> None:
        from ..fsm.table import BY_TRIGGER, Trigger

        self.named = False
        self._instance, self._doing, self._step, self._began = instance, BY_TRIGGER[Trigger(trigger)].doing, step, began
        self._spinner: Any = None

    def __rich_console__(self, _console: Any, _options: "ConsoleOptions") -> "RenderResult":
        from rich.spinner import Spinner

        self._spinner = self._spinner or Spinner("dots")
        whose = self._instance if self.named else ""
        parts = [whose, self._doing, printable(self._step), words.duration(time.monotonic() - self._began)]
        self._spinner.update(text=" · ".join(part for part in parts if part))
        yield self._spinner
