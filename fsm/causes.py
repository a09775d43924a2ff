"""Whatever work raises, as one of our errors: what stands in the journal, and what is raised to the caller."""

import errno
import os

from ..errors import CancelledError, DriverError, InterlockError


def as_error(error: BaseException) -> InterlockError:
    """Return `error` as one of ours, for the journal: an interruption, a failing disk, or a driver's defect."""
    match error:
        case InterlockError():
            return error
        case KeyboardInterrupt() | SystemExit():
            return CancelledError("cancelled by a signal")
        case OSError():
            return DriverError(f"{_refused(error)}: {error.strerror or error}")
        case _:
            return DriverError(f"{type(error).__name__}: {error}")


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}


def _refused(error: OSError) -> str:
    """Return what `error` is about: a file where it names one, the disk where only a disk fails so, else the call."""
    if error.filename:
        return os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    if error.errno in _OF_THE_DISK:
        return "the disk"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"the system, in {trace.tb_frame.f_code.co_name}" if trace else "the system"
