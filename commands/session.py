"""What every command is given: the API, and the way to stderr."""

import os
import sys
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import InterlockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Interlock
    from ..fsm.engine import Outcome
    from ..fsm.events import Event
    from .stderr import LogFormat, Stderr

FORMATS: "dict[str, LogFormat]" = {"human": "human", "logfmt": "logfmt", "json": "json"}

TYPED = "interlock.typed"
"""In the `meta` of click's context: the words of the command line, from the command's name on."""


class Session:
    """What commands are given: the API, which announces to the terminal or the log, and words of their own."""

    def __init__(self) -> None:
        self.log_format: LogFormat | None = FORMATS.get(os.environ.get("INTERLOCK_LOG_FORMAT", ""))
        """By the environment, until the command line says otherwise: for what is wrong before that is read."""
        self.debug = False
        self.quiet = False
        self.host: str | None = None
        """Which machine is to do it, as the user calls it; None for this one."""
        self.as_json = False
        """True when the command prints its result as JSON: then an error is printed so, too."""
        self.dry_run = False
        """True when the command says what it would do, and does nothing."""
        self.vms: Interlock | None = None
        """The API on another machine's instances, where a command is done here with those."""
        self.typed: Callable[[str], str] = str
        """Returns a command for this machine as it is typed where the user is, which may be another one."""
        self.about: dict[str, str] = {}
        """What the command is about, where that is known: `instance`, and `operation`, the trigger it asks for."""

    @property
    def interlock(self) -> "Interlock":
        from ..api import Interlock

        return self.vms or (self._rehearsed if self.dry_run else Interlock(on_event=self._announce))

    @cached_property
    def _rehearsed(self) -> "Interlock":
        """The API of a dry run: one for all of the command, because what it imagines follows one another."""
        from ..api import Interlock

        return Interlock(on_event=self._announce, dry_run=True)

    @property
    def shows_progress(self) -> bool:
        """True where somebody sees a line that moves: at a terminal that can take back what it has written."""
        human = self.log_format in (None, "human")
        return human and not self.quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def _announce(self, event: "Event") -> None:
        self.stderr.announce(event)

    @cached_property
    def stderr(self) -> "Stderr":
        """The one way to stderr, in the format that was asked for when something is said for the first time."""
        from .stderr import Stderr

        return Stderr(self.log_format, self.about, quiet=self.quiet)

    def about_one(self, instance: str, trigger: str) -> "Session":
        """Return a session like this one whose words are about `instance`, for one thread of several."""
        from .stderr import Stderr

        one = Session()
        one.log_format, one.debug, one.quiet, one.as_json = self.log_format, self.debug, self.quiet, self.as_json
        one.typed = self.typed
        if self.dry_run:
            one.dry_run, one._rehearsed = True, self._rehearsed
        one.stderr = Stderr(self.log_format, one.about, quiet=self.quiet, stream=self.stderr.stream)
        one.bind(instance, trigger)
        return one

    def bind(self, instance: str, command: str | None) -> None:
        """Let what is said be about `instance`, and about the operation `command` if that is a trigger of the table."""
        from ..fsm.table import Trigger

        self.about["instance"] = instance
        if command in {str(trigger) for trigger in Trigger}:
            self.about["operation"] = str(command)

    def report(self, text: str) -> None:
        """Say how far work outside a transition has come, or what it came to: an image being built."""
        self.stderr.report(text)

    def note(self, text: str) -> None:
        """Say what should be known although nothing failed: a template's key that is ignored."""
        self.stderr.note(text)

    def warn(self, text: str) -> None:
        """The same where it may matter, so --quiet does not hide it: options that are ignored."""
        self.stderr.note(text, level="warning")

    def pass_message_on(self, outcome: "Outcome") -> None:
        """Say what the author of a machine that was started has to say about its use."""
        if outcome.message:
            self.report(outcome.message.rstrip("\n"))

    def hint(self, command: str, *, why: str, instance: str) -> None:
        """Propose `command` for `instance`, where nothing failed."""
        self.stderr.hint(self.typed(command), why, instance)

    def complain(self, error: InterlockError, instance: str | None = None, traceback: str | None = None) -> None:
        """Say what was wrong, of `instance` or what the command is about; the command may continue all the same."""
        if error.hint:
            error.hint = self.typed(error.hint)
        if self.as_json:
            from .stdout import print_record

            name = instance or self.about.get("instance")
            with suppress(OSError):  # nobody reads it; stderr has it as well
                print_record({"name": name, "error": error.record() | {"exit_code": error.exit_code}}, "json")
        self.stderr.error(error, instance=instance, traceback=traceback)
