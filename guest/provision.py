"""Runs a guest's scripts once more, while it is up: those of its seed, which it keeps."""

from ..errors import DeadlineError, DriverError
from ..fsm.port import Deadline, Report
from . import session
from .report import Failure, lines, parse
from .seed import PROGRAM
from .session import Door, Patience

_BEGINS = "running "
"""How the guest says which step it begins."""

_AS_ROOT = (
    '[ "$(id -u)" = 0 ] || as_root="sudo -n"; '
    '[ -z "$as_root" ] || command -v sudo >/dev/null || as_root="doas -n"; '
    f"exec $as_root sh {PROGRAM} again"
)


def run(door: Door, deadline: Deadline, lifeline: int, report: Report) -> tuple[Failure, ...]:
    """Run all scripts and write all files of the guest's seed again, in the order of a first boot; return what failed.

    Raises DriverError in the guest's words when they could not be run at all, DeadlineError when time is up (the guest
    goes on with the script it is at), GuestGoneError when the machine died.
    """
    said = bytearray()
    reported = 0

    def hear(piece: bytes) -> None:
        nonlocal reported
        said.extend(piece)
        whole = bytes(said[reported : said.rfind(b"\n") + 1])
        reported += len(whole)
        for line in lines(whole):
            if line.startswith(_BEGINS):
                report(line)

    try:
        status = session.run(door, ["sh", "-c", _AS_ROOT], Patience(deadline, lifeline), hear=hear)
    except DeadlineError as err:
        raise DeadlineError(
            f"the scripts did not end within {deadline.seconds:g} s", details=lines(bytes(said))[-1:]
        ) from err
    if status:
        raise DriverError("the guest could not run its scripts again", details=lines(bytes(said))[-5:])
    return parse(bytes(said))
