"""How a program of ours begins and ends, whatever its command line is like: standard streams, and errors."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence

from ..errors import HostError, InterlockError
from ..host.deferred import defer

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

UNUSED = ("asyncio", "fnmatch", "inspect", "ipaddress", "linecache", "ntpath", "shlex", "textwrap", "uuid")
"""Modules that pathlib, logging, transitions, structlog and we ourselves import, and most commands never use."""

STDOUT, STDERR = 1, 2
"""The descriptors, which are there also where Python has no `sys.stdout`."""


def serve(work: "Callable[[], int]") -> "NoReturn":
    """Do `work`, and leave the program with the exit code that it returns. Signals are listened to already."""
    from ..host import cancellation

    defer(*UNUSED)
    gc.set_threshold(100_000)  # most commands end before garbage is worth looking for, which is a tenth of their cost
    os.umask(os.umask(0o077) & 0o077)  # one that takes the owner's own rights would lock us out of what we make
    _stand_in()
    try:
        code = work()
        gc.freeze()  # nothing that it made is looked through once more
        sys.exit(code)
    finally:
        cancellation.ignore()


def leave(ended: SystemExit) -> "NoReturn":
    """End the process as `ended` says, without taking its modules apart, which costs more than a listing itself.

    What is to be done at an exit is done, and what was printed is written. Where that fails, or where there may be
    threads, which Python waits for, `ended` is raised instead.
    """
    if "threading" in sys.modules or not isinstance(ended.code, int):
        raise ended
    atexit._run_exitfuncs()  # noqa: SLF001 - nothing public does what Python does
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        raise ended from None
    os._exit(ended.code)


def _stand_in() -> None:
    """Let /dev/null stand in for standard streams that are closed: a file of ours would get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - the lowest that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - it is open to the end


def become(argv: list[str]) -> "NoReturn":
    """Become another program, such as ssh, so that nothing stands between it and the caller.

    For a caller on another host that keeps this process on a leash, the program runs below it, and ends with it.
    """
    from ..host import cancellation
    from ..remote import serving

    sys.stdout.flush()
    if serving.on_leash():
        from ..host.run import run

        status = run(argv, stdout=STDOUT, stderr=STDERR).status
        sys.exit(status if status >= 0 else 128 - status)
    cancellation.step_aside()
    os.execvp(argv[0], argv)  # noqa: S606


def saying_open(line: Sequence[str]) -> list[str]:
    """Return the command line `line` of ssh, which then prints a line on stdout once its forwards are there."""
    return [line[0], "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo open", *line[1:]]


def stop_printing() -> int:
    """Return the exit code where the reader of our results has read enough, and let nothing more be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes stdout once more at its end
    return 128 + signal.SIGPIPE


def known(error: Exception, program: Sequence[str] = ("interlock",)) -> InterlockError:
    """Return `error` as one of ours; `program` is what was called."""
    match error:
        case InterlockError():
            return error
        case OSError():
            return HostError(f"{error.filename or 'the system'}: {error.strerror or error}")
        case _:
            import shlex

            return InterlockError(
                f"{type(error).__name__}: {error}; this is a defect of Interlock",
                hint=shlex.join([*program, "--debug", *sys.argv[1:]]),
            )
