"""What can go wrong, sorted by what the caller can do about it.

    InterlockError                exit  reference
    ├── UsageError                  2   usage                 say it differently
    │   ├── InvalidNameError        2   invalid-name
    │   ├── InvalidTemplateError    2   invalid-template
    │   └── UntrustedTemplateError  2   untrusted-template    allow what it asks for, or use another
    ├── IllegalTransitionError      3   illegal-transition    bring it into another state first
    ├── ProtectedError              3   protected             take the protection back first
    ├── NotFoundError               4   not-found             name something that exists
    ├── BusyError                   5   busy                  wait, or end the operation that runs
    ├── DriverError                 6   driver-failed         read the cause, mend it, try again
    │   ├── DegradedError           6   degraded              mend it in the guest, which runs
    │   ├── HostError               6   host-unfit            install or enable what the host lacks
    │   ├── ImageError              6   image-failed
    │   ├── OutOfReachError         6   out-of-reach          run it where the machine's process can be seen
    │   ├── UnreachableError        6   unreachable           mend the way to the other host, by ssh
    │   ├── NoInterlockError        6   no-interlock          install Interlock on the other host
    │   ├── VersionMismatchError    6   version-mismatch      bring both hosts to versions that fit
    │   └── UnreadableError         6   unreadable            mend the disk, or the permissions
    ├── DeadlineError               7   deadline-passed       give it longer, or read why it took so long
    ├── DamagedError                8   damaged               repair or delete it
    │   └── TooNewError             8   too-new               use the version of Interlock that wrote it
    └── CancelledError            130   cancelled             nothing: somebody asked for it

An error is three things: a message of one line that names the thing, details (the words of the program that failed,
line by line), and a hint: a command that works as it is typed; advice belongs into the message. Exit code and reference
stand on the class. Errors of other libraries are translated where they enter (`raise ... from err`).
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
        """Return the error that `record` was made from, as a waiting process must raise what the working one raised."""
        kind = BY_REFERENCE.get(record.get("reference", ""), InterlockError)
        error = kind.__new__(kind)
        InterlockError.__init__(
            error, str(record.get("message", "")), hint=record.get("hint"), details=record.get("details") or ()
        )
        return error


class UsageError(InterlockError):
    """What was asked makes no sense; nothing was touched."""

    exit_code = 2
    reference = "usage"


class InvalidNameError(UsageError):
    """An instance cannot have this name."""

    reference = "invalid-name"


class InvalidTemplateError(UsageError):
    """A template says something that cannot be resolved into a spec."""

    reference = "invalid-template"


class UntrustedTemplateError(UsageError):
    """A template from a server asks for what is this host's: one line of details each. Nothing was made."""

    reference = "untrusted-template"


class IllegalTransitionError(InterlockError):
    """The table has no row for this trigger in this state; the state did not move."""

    exit_code = 3
    reference = "illegal-transition"


class ProtectedError(InterlockError):
    """What was asked would destroy what the instance holds, and the instance is protected."""

    exit_code = 3
    reference = "protected"


class NotFoundError(InterlockError):
    """There is nothing of this name."""

    exit_code = 4
    reference = "not-found"


class BusyError(InterlockError):
    """Another process holds the instance for another operation."""

    exit_code = 5
    reference = "busy"


class DriverError(InterlockError):
    """The driver could not do its work; the message carries the cause in the failing program's words."""

    exit_code = 6
    reference = "driver-failed"


class DegradedError(DriverError):
    """The guest runs and answers, but something that it was asked to do failed in it: a script of its template, say.

    The one error that is raised after its transition has come to its end: the state has moved.
    """

    reference = "degraded"


class HostError(DriverError):
    """This host lacks something that the work needs."""

    reference = "host-unfit"


class ImageError(DriverError):
    """An image could not be fetched, built, verified or removed."""

    reference = "image-failed"


class OutOfReachError(DriverError):
    """A machine runs whose process cannot be seen from here: it belongs to another container or pid namespace."""

    reference = "out-of-reach"


class UnreachableError(DriverError):
    """Another host does not answer, lets nobody in, or the connection to it broke."""

    reference = "unreachable"


class NoInterlockError(DriverError):
    """Another host answers, and has no Interlock where it is looked for."""

    reference = "no-interlock"


class VersionMismatchError(DriverError):
    """Another host has an Interlock that does not fit this one; it did nothing."""

    reference = "version-mismatch"


class UnreadableError(DriverError):
    """The system cannot read a file of an instance, so nobody knows whether the file is damaged."""

    reference = "unreadable"


class DeadlineError(InterlockError):
    """Something did not happen in the time it was given."""

    exit_code = 7
    reference = "deadline-passed"


class DamagedError(InterlockError):
    """A file of an instance cannot be understood."""

    exit_code = 8
    reference = "damaged"


class TooNewError(DamagedError):
    """A file of an instance was written by a newer version of Interlock, and is whole."""

    reference = "too-new"


class CancelledError(InterlockError):
    """The work was called off before its end, and undone."""

    exit_code = 130
    reference = "cancelled"


def _tree(kind: type[InterlockError]) -> Iterable[type[InterlockError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


BY_REFERENCE: dict[str, type[InterlockError]] = {kind.reference: kind for kind in _tree(InterlockError)}
