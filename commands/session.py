"""What every command gets: the API, and the way to stderr."""

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
"""The key in the `meta` of click's context for the words of the command line, starting with the command's name."""


class Session:
    """What commands get: the API, whose events go to the terminal or the log, and methods for their own messages."""

    def __init__(self) -> None:
        self.log_format: LogFormat | None = FORMATS.get(os.environ.get("INTERLOCK_LOG_FORMAT", ""))
        """From the environment until the command line has been read, for errors before that."""
        self.debug = False
        self.quiet = False
        self.host: str | None = None
        """The host that runs the command, as the user named it; None for this one."""
        self.as_json = False
        """True if the command prints its result as JSON; then errors are printed as JSON, too."""
        self.dry_run = False
        """True if the command only says what it would do."""
        self.vms: Interlock | None = None
        """The API on another host's instances, for commands that run here and work with those."""
        self.typed: Callable[[str], str] = str
        """Returns a command for this host in the form in which the user, who may be on another host, types it."""
        self.about: dict[str, str] = {}
        """What the command is about, if known: `instance`, and `operation`, which is the trigger that it requests."""

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
        """True if a moving line can be shown: at a terminal that can erase lines."""
        human = self.log_format in (None, "human")
        return human and not self.quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def _announce(self, event: "Event") -> None:
        self.stderr.announce(event)

    @cached_property
    def stderr(self) -> "Stderr":
        """The only way to stderr, in the format that is set when the first message is written."""
        from .stderr import Stderr

        return Stderr(self.log_format, self.about, quiet=self.quiet)

    def about_one(self, instance: str, trigger: str) -> "Session":
        """Return a copy of this session whose messages are about `instance`, for one of several threads."""
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
        """Mark messages as being about `instance`, and about the operation `command` if that is a trigger."""
        from ..fsm.table import Trigger

        self.about["instance"] = instance
        if command in {str(trigger) for trigger in Trigger}:
            self.about["operation"] = str(command)

    def report(self, text: str) -> None:
        """Report the progress or the result of work outside a transition, such as building an image."""
        self.stderr.report(text)

    def note(self, text: str) -> None:
        """Note something although nothing failed, such as an ignored key of a template."""
        self.stderr.note(text)

    def warn(self, text: str) -> None:
        """Like `note`, but not hidden by --quiet, because it may matter: ignored options, for example."""
        self.stderr.note(text, level="warning")

    def pass_message_on(self, outcome: "Outcome") -> None:
        """Show the message of the template of a machine that was started."""
        if outcome.message:
            self.report(outcome.message.rstrip("\n"))

    def hint(self, command: str, *, why: str, instance: str) -> None:
        """Propose `command` for `instance` although nothing failed."""
        self.stderr.hint(self.typed(command), why, instance)

    def complain(self, error: InterlockError, instance: str | None = None, traceback: str | None = None) -> None:
        """Report an error about `instance`, or what the command is about; the command may continue."""
        if error.hint:
            error.hint = self.typed(error.hint)
        if self.as_json:
            from .stdout import print_record

            name = instance or self.about.get("instance")
            with suppress(OSError):  # stdout is closed; stderr has the error too
                print_record({"name": name, "error": error.record() | {"exit_code": error.exit_code}}, "json")
        self.stderr.error(error, instance=instance, traceback=traceback)
