"""Makes the file system of a guest, which runs, as large as its disk, which has grown."""

from pathlib import Path

from ..errors import DeadlineError
from ..fsm.port import Deadline
from ..host.progress import Report
from . import session, ssh
from .report import bounded_words, lines
from .session import Endpoint, Wait

GROWING_S = 60.0
"""How long it may take: the kernel writes a group of blocks after the other, and the guest may be an emulated one."""

_SSH_FAILED = 255

_SCRIPT = Path(__file__).with_name("grow.sh")


def run(endpoint: Endpoint, deadline: Deadline, pidfd: int, report: Report) -> bool:
    """Let the file system of the guest grow to the size of its disk; where it does not, report why, and how to do it.

    Returns whether the guest has answered: one that has not is to be asked again, which does no harm. Raises
    GuestGoneError when the machine died. A file system that keeps its size is no error: all that is there works.
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
