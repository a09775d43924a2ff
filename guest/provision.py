"""Runs the scripts of a guest's seed again, while the guest is up."""

from ..errors import DeadlineError, DriverError
from ..fsm.port import Deadline
from ..host.progress import Report
from . import session, ssh
from .report import Failure, Steps, bounded_words, lines, parse
from .seed import PROGRAM
from .session import Endpoint, Wait


def run(endpoint: Endpoint, deadline: Deadline, pidfd: int, report: Report) -> tuple[Failure, ...]:
    """Run all scripts and write all files of the guest's seed again, in the order of a first boot; return what failed.

    Raises DriverError with the guest's output when they could not be run at all, DeadlineError when time is up (the
    running script continues), GuestGoneError when the machine died.
    """
    said, steps = bounded_words(), Steps(report)

    def hear(piece: bytes) -> None:
        said.hear(piece)
        steps.hear(piece)

    try:
        status = session.run(endpoint, ssh.as_root("sh", PROGRAM, "again"), Wait(deadline, pidfd), hear=hear)
    except DeadlineError as err:
        raise DeadlineError(
            f"the scripts did not end within {deadline.seconds:g} s", details=lines(bytes(said))[-1:]
        ) from err
    if status:
        raise DriverError("the guest could not run its scripts again", details=lines(bytes(said))[-5:])
    return parse(bytes(said))
