"""Turns whatever the work raises into one of our errors, which is written to the journal and raised to the caller."""

import errno
import os

from ..errors import CancelledError, DriverError, InterlockError


def as_error(error: BaseException) -> InterlockError:
    """Return `error` as one of our errors: an interruption, a failing disk, or a defect of a driver."""
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
    """Return what `error` is about: the file that it names, else the disk for errors of disks, else the function."""
    if error.filename:
        return os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    if error.errno in _OF_THE_DISK:
        return "the disk"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"the system, in {trace.tb_frame.f_code.co_name}" if trace else "the system"
