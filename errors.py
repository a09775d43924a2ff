"""What can go wrong, ordered by what the caller can do about it.

    InterlockError                exit  reference
    ├── UsageError                  2   usage                 correct the command
    │   ├── InvalidNameError        2   invalid-name
    │   ├── InvalidTemplateError    2   invalid-template
    │   └── UntrustedTemplateError  2   untrusted-template    grant what it asks for, or use another template
    ├── IllegalTransitionError      3   illegal-transition    bring the instance into another state first
    ├── ProtectedError              3   protected             unprotect the instance first
    ├── DriftError                  3   drift                 apply the fleet's file, or type what the plan names
    ├── NotFoundError               4   not-found             name something that exists
    ├── BusyError                   5   busy                  wait, or end the operation that runs
    ├── DriverError                 6   driver-failed         read the cause, fix it, try again
    │   ├── DegradedError           6   degraded              fix it in the running guest
    │   ├── HostError               6   host-unfit            install or enable what the host lacks
    │   ├── ImageError              6   image-failed
    │   ├── OutOfReachError         6   out-of-reach          run the command where the machine's process is visible
    │   ├── UnreachableError        6   unreachable           fix ssh access to the other host
    │   ├── NoInterlockError        6   no-interlock          install Interlock on the other host
    │   ├── VersionMismatchError    6   version-mismatch      install compatible versions on both hosts
    │   └── UnreadableError         6   unreadable            fix the disk, or the permissions
    ├── DeadlineError               7   deadline-passed       allow more time, or find out why it took so long
    ├── DamagedError                8   damaged               repair or delete it
    │   └── TooNewError             8   too-new               use the version of Interlock that wrote it
    └── CancelledError            130   cancelled             nothing: somebody asked for it

An error consists of a message (one line that names the object concerned), details (the output of the program that
failed, line by line), and a hint: a command that works as typed. Advice belongs in the message. Exit code and reference
are attributes of the class. Errors of other libraries are translated where they enter (`raise ... from err`).
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class InterlockError(Exception):
    """A defect of Interlock, or of the system beneath it; every error below is a subclass."""

    exit_code: ClassVar[int] = 1
    reference: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    def record(self) -> dict[str, Any]:
        """Return the error as the journal and `--format json` keep it: reference, message, hint, details."""
        return {"reference": self.reference, "message": self.message, "hint": self.hint, "details": list(self.details)}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> "InterlockError":
        """Return the error that `record` was made from: a waiting process raises what the working process raised."""
        kind = BY_REFERENCE.get(record.get("reference", ""), InterlockError)
        error = kind.__new__(kind)
        InterlockError.__init__(
            error, str(record.get("message", "")), hint=record.get("hint"), details=record.get("details") or ()
        )
        return error


class UsageError(InterlockError):
    """The request makes no sense; nothing was changed."""

    exit_code = 2
    reference = "usage"


class InvalidNameError(UsageError):
    """An instance cannot have this name."""

    reference = "invalid-name"


class InvalidTemplateError(UsageError):
    """A template cannot be resolved into a spec."""

    reference = "invalid-template"


class UntrustedTemplateError(UsageError):
    """A template from a server asks for access to this host, as the details list; nothing was created."""

    reference = "untrusted-template"


class IllegalTransitionError(InterlockError):
    """The table has no row for this trigger in this state; the state did not move."""

    exit_code = 3
    reference = "illegal-transition"


class ProtectedError(InterlockError):
    """The request would destroy data of a protected instance."""

    exit_code = 3
    reference = "protected"


class DriftError(InterlockError):
    """Instances of a fleet are not as its file says, as the details list."""

    exit_code = 3
    reference = "drift"


class NotFoundError(InterlockError):
    """Nothing has this name."""

    exit_code = 4
    reference = "not-found"


class BusyError(InterlockError):
    """Another process is working on the instance."""

    exit_code = 5
    reference = "busy"


class DriverError(InterlockError):
    """The driver could not do its work; the message carries the cause in the failing program's words."""

    exit_code = 6
    reference = "driver-failed"


class DegradedError(DriverError):
    """The guest is running and answers, but something failed in it, such as a script of its template.

    The only error that is raised after its transition is complete: the state has changed.
    """

    reference = "degraded"


class HostError(DriverError):
    """This host lacks something that the work needs."""

    reference = "host-unfit"


class ImageError(DriverError):
    """An image could not be fetched, built, verified or removed."""

    reference = "image-failed"


class OutOfReachError(DriverError):
    """A machine is running, but its process is in another container or pid namespace, invisible from here."""

    reference = "out-of-reach"


class UnreachableError(DriverError):
    """Another host does not answer or refuses the login, or the connection to it broke."""

    reference = "unreachable"


class NoInterlockError(DriverError):
    """Another host answers, but Interlock was not found on it."""

    reference = "no-interlock"


class VersionMismatchError(DriverError):
    """Another host has an incompatible version of Interlock; nothing was done there."""

    reference = "version-mismatch"


class UnreadableError(DriverError):
    """A file of an instance cannot be read, so whether it is damaged is unknown."""

    reference = "unreadable"


class DeadlineError(InterlockError):
    """Something did not happen in time."""

    exit_code = 7
    reference = "deadline-passed"


class DamagedError(InterlockError):
    """A file of an instance cannot be understood."""

    exit_code = 8
    reference = "damaged"


class TooNewError(DamagedError):
    """A file of an instance was written by a newer version of Interlock; it is not damaged."""

    reference = "too-new"


class CancelledError(InterlockError):
    """The work was cancelled before its end, and undone."""

    exit_code = 130
    reference = "cancelled"


def _tree(kind: type[InterlockError]) -> Iterable[type[InterlockError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


BY_REFERENCE: dict[str, type[InterlockError]] = {kind.reference: kind for kind in _tree(InterlockError)}
