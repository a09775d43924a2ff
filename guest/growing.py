"""Grows the file system of a running guest after its disk has grown."""

from pathlib import Path

from ..errors import DeadlineError
from ..fsm.port import Deadline
from ..host.progress import Report
from . import session, ssh
from .report import bounded_words, lines
from .session import Endpoint, Wait

GROWING_S = 60.0
"""Time limit: the kernel writes one group of blocks after another, and the guest may be emulated."""

_SSH_FAILED = 255

_SCRIPT = Path(__file__).with_name("grow.sh")


def run(endpoint: Endpoint, deadline: Deadline, pidfd: int, report: Report) -> bool:
    """Grow the guest's file system to the size of its disk; if that fails, report why, and what to do.

    Returns whether the guest answered. If not, ask again later, which does no harm. Raises GuestGoneError when the
    machine died. A file system that keeps its size is not an error: everything on it works.
    """
    report("growing the file system")
    said = bounded_words()
    command = ssh.as_root("sh", "-c", _SCRIPT.read_text())
    try:
        wait = Wait(Deadline(min(GROWING_S, deadline.remaining_s)), pidfd)
        status = session.run(endpoint, command, wait, hear=said.hear)
    except DeadlineError:
        report("the file system may not have grown: the guest does not answer; the next start tries again")
        return False
    if status == _SSH_FAILED:
        report("the file system keeps its size: the guest could not be reached; the next start tries again")
        return False
    if status:
        why = (lines(bytes(said)) or ["the guest does not say why"])[-1]
        report(f"the file system keeps its size; grow it in the guest: {why}")
    return True
