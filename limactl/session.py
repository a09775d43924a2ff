"""The session that every command of the drop-in gets: the API, LIMA_HOME, and messages on stderr."""

import os
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import InterlockError, UsageError
from .flags import Call
from .home import LimaHome
from .logrus import Log

if TYPE_CHECKING:
    from ..api import Interlock
    from ..fsm.events import Event
    from ..fsm.records import Status

DEFAULT = "default"
"""The name of the instance if no name is given."""

_AS_LIMACTL = (
    (r"interlock (start|stop|protect|unprotect|delete) (\S+)( --force)?", r"limactl \1\3 \2"),
    (r"interlock (clone|rename) (\S+) (\S+)", r"limactl \1 \2 \3"),
    (r"interlock snapshot (create|delete) (\S+) (\S+)", r"limactl snapshot \1 \2 --tag \3"),
    (r"interlock snapshot restore (\S+) (\S+)", r"limactl snapshot apply \1 --tag \2"),
    (r"interlock snapshot list (\S+)", r"limactl snapshot list \1"),
    (r"interlock edit (\S+) --cpus (\d+)", r"limactl edit --cpus=\2 \1"),
    (r"interlock kill (\S+)", r"limactl stop --force \1"),
    (r"interlock reset (\S+)", r"limactl factory-reset \1"),
    (r"interlock copy (.*)", r"limactl copy \1"),
    (r"interlock list", r"limactl list"),
    (r"interlock create (\S+) --template debian", r"limactl create --name=\1 template:default"),
)
"""Interlock's command → the same command of limactl."""


class Session:
    """One call of the drop-in."""

    def __init__(self) -> None:
        """Begin with the defaults, before the command line is read."""
        self.stderr = Log()
        self.debug = False
        self.tty = sys.stdout.isatty()
        """Whether questions may be asked."""

    def adopt(self, call: Call) -> None:
        """Apply the global flags of `call`; raises UsageError for invalid ones."""
        flags = call.flags
        if "yes" in flags and "tty" in flags:
            raise UsageError("cannot use both --tty and --yes flags at the same time")
        self.tty = bool(flags.get("tty", self.tty and not flags.get("yes")))
        if "log-level" in flags:
            self.stderr.set_level(flags["log-level"])
        if "log-format" in flags:
            self.stderr.set_format(flags["log-format"])
        if flags.get("debug"):
            self.debug = True
            self.stderr.set_level("debug")

    @cached_property
    def lima(self) -> LimaHome:
        """The folder that embedders look into."""
        return LimaHome()

    @cached_property
    def vms(self) -> "Interlock":
        """The API; what happens to the instances is reported as it happens."""
        from ..api import Interlock

        return Interlock(self.lima.home, on_event=self._announce)

    def _announce(self, event: "Event") -> None:
        level = "warning" if event.happening in ("transition_degraded", "transition_failed") else "info"
        self.stderr.say(level, event.message)

    def existing(self, name: str) -> "Status":
        """Return the status of the instance `name`; raises UsageError with the command to type if it does not exist."""
        status = self.vms.status(name)
        if not status.exists:
            self.lima.check_free(name)
            raise UsageError(
                f'instance "{name}" does not exist, run `limactl create --name={name} template:default` '
                "to create a new instance"
            )
        return status

    def ready(self, name: str) -> "Status":
        """Return the status of `name`, waiting for the end of a start that is under way."""
        status = self.existing(name)
        while (working := status.under_way) and working.trigger == "start":
            from ..host import cancellation

            cancellation.pause(0.1)
            status = self.existing(name)
        return status

    def starts_now(self, call: Call) -> bool:
        """Return whether to start a stopped instance: as --start says, or as the user answers on a terminal."""
        if "start" in call.flags or not (self.tty and sys.stdin.isatty()):
            return bool(call.flags.get("start"))
        from ..commands.agreement import confirmed

        return confirmed("Do you want to start the instance now?", default=True, err=True)

    def report(self, error: InterlockError) -> None:
        """Report the error, the fatal line last."""
        for detail in error.details:
            self.stderr.say("error", detail)
        hint = f" (hint: `{self.typed(error.hint)}`)" if error.hint else ""
        self.stderr.say("fatal", f"{error.message}{hint}")

    def typed(self, hint: str) -> str:
        """Return the command `hint` in the form that works for users of limactl."""
        commands = [self._typed(command) for command in hint.split(" && ")]
        return " && ".join(commands)

    def _typed(self, command: str) -> str:
        for ours, theirs in _AS_LIMACTL:
            if re.fullmatch(ours, command):
                return re.sub(ours, theirs, command)
        if command.startswith("interlock ") and os.environ.get("INTERLOCK_HOME") != str(self.lima.home.root):
            return f"INTERLOCK_HOME={self.lima.home.root} {command}"
        return command
