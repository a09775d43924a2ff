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
    """What commands are given: the API, which announces to the terminal or the log, and their own ways to do so."""

    def __init__(self) -> None:
        self.log_format: LogFormat | None = FORMATS.get(os.environ.get("INTERLOCK_LOG_FORMAT", ""))
        """From the environment, until the command line says otherwise: for errors before that has been read."""
        self.debug = False
        self.quiet = False
        self.host: str | None = None
        """The machine that is to do it, as the user named it; None for this one."""
        self.as_json = False
        """True when the command prints its result as JSON: then errors are printed as JSON, too."""
        self.dry_run = False
        """True when the command only says what it would do."""
        self.vms: Interlock | None = None
        """The API on another machine's instances, for commands that run here and work with those."""
        self.typed: Callable[[str], str] = str
        """Returns a command for this machine as the user types it, who may be on another one."""
        self.about: dict[str, str] = {}
        """What the command is about, where that is known: `instance`, and `operation`, the trigger it asks for."""

    @property
    def interlock(self) -> "Interlock":
        from ..api import Interlock

        return self.vms or (self._rehearsed if self.dry_run else Interlock(on_event=self._announce))

    @cached_property
    def _rehearsed(self) -> "Interlock":
        """The API of a dry run: one for the whole command, because its imagined steps build on one another."""
        from ..api import Interlock

        return Interlock(on_event=self._announce, dry_run=True)

    @property
    def shows_progress(self) -> bool:
        """True if somebody sees a moving line: at a terminal that can erase what it has written."""
        human = self.log_format in (None, "human")
        return human and not self.quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def _announce(self, event: "Event") -> None:
        self.stderr.announce(event)

    @cached_property
    def stderr(self) -> "Stderr":
        """The one way to stderr, in the format that is set when something is said for the first time."""
        from .stderr import Stderr

        return Stderr(self.log_format, self.about, quiet=self.quiet)

    def about_one(self, instance: str, trigger: str) -> "Session":
        """Return a session like this one whose messages are about `instance`, for one thread of several."""
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
        """Make messages be about `instance`, and about the operation `command` if that is a trigger of the table."""
        from ..fsm.table import Trigger

        self.about["instance"] = instance
        if command in {str(trigger) for trigger in Trigger}:
            self.about["operation"] = str(command)

    def report(self, text: str) -> None:
        """Say how far work outside a transition has come, or what it came to: an image being built."""
        self.stderr.report(text)

    def note(self, text: str) -> None:
        """Note something although nothing failed: a template's key that is ignored."""
        self.stderr.note(text)

    def warn(self, text: str) -> None:
        """Like `note`, but not hidden by --quiet, because it may matter: options that are ignored."""
        self.stderr.note(text, level="warning")

    def pass_message_on(self, outcome: "Outcome") -> None:
        """Show the message of a started machine's template."""
        if outcome.message:
            self.report(outcome.message.rstrip("\n"))

    def hint(self, command: str, *, why: str, instance: str) -> None:
        """Propose `command` for `instance`, where nothing failed."""
        self.stderr.hint(self.typed(command), why, instance)

    def complain(self, error: InterlockError, instance: str | None = None, traceback: str | None = None) -> None:
        """Report an error about `instance`, or what the command is about; the command may continue."""
        if error.hint:
            error.hint = self.typed(error.hint)
        if self.as_json:
            from .stdout import print_record

            name = instance or self.about.get("instance")
            with suppress(OSError):  # nobody reads it; stderr has it as well
                print_record({"name": name, "error": error.record() | {"exit_code": error.exit_code}}, "json")
        self.stderr.error(error, instance=instance, traceback=traceback)
