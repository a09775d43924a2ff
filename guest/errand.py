"""A command that is to be done in a guest, or with it, before a start counts as done: it ends, or the wait for it does.

As in `session`, three things are watched at once: the command, the deadline, and the machine's lifeline.
"""

import os
import subprocess
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from ..fsm.port import Deadline
from .session import Patience

_TURN_S = 5.0


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status; negative, a signal's number."""
    words: tuple[str, ...]
    """The lines that it said on stderr."""


def run(command: Sequence[str], deadline: Deadline, lifeline: int, stdout: IO[bytes] | None = None) -> Ended:
    """Run `command` on the host, its output to `stdout` or nowhere, and return how it ended.

    Raises DeadlineError when time is up, GuestGoneError when the machine died; the command is killed then.
    """
    # A file and not a pipe: what goes on in the background would keep the pipe open, and us waiting for its end.
    with (
        TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.DEVNULL, stderr=said) as child,
    ):
        ended = os.pidfd_open(child.pid)
        patience = Patience(deadline, lifeline)
        try:
            while not patience.pause(_TURN_S, ended):
                pass
        finally:
            child.kill()
            os.close(ended)
        status = child.wait()
        said.seek(0)
        return Ended(status, tuple(said.read().decode(errors="replace").splitlines()))
