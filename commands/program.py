"""How our programs begin and end, independent of their command lines: standard streams and errors."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence

from ..errors import HostError, InterlockError
from ..host.deferred import defer

TYPE_CHECKING = False  # as in `typing`, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

UNUSED = ("asyncio", "fnmatch", "inspect", "ipaddress", "linecache", "ntpath", "shlex", "textwrap", "uuid")
"""Modules that pathlib, logging, transitions, structlog and Interlock import, but most commands never use."""

STDOUT, STDERR = 1, 2
"""The descriptors, which can be used even if `sys.stdout` is None."""


def serve(work: "Callable[[], int]") -> "NoReturn":
    """Do `work`, and exit with the exit code that it returns. The program listens to signals already."""
    from ..host import cancellation

    defer(*UNUSED)
    gc.set_threshold(100_000)  # garbage collection is a tenth of the cost of most commands, which end soon
    os.umask(os.umask(0o077) & 0o077)  # a umask for the owner would lock us out of our own files
    _stand_in()
    try:
        code = work()
        gc.freeze()  # no last garbage collection of what it made
        sys.exit(code)
    finally:
        cancellation.ignore()


def leave(ended: SystemExit) -> "NoReturn":
    """End the process as `ended` says, without the teardown of its modules, which takes longer than a listing.

    Exit handlers run, and printed output is flushed. If that fails, or if there may be threads that Python has to wait
    for, `ended` is raised instead.
    """
    threading = sys.modules.get("threading")
    if (threading and threading.active_count() > 1) or not isinstance(ended.code, int):
        raise ended
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public function for this
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        raise ended from None
    os._exit(ended.code)


def _stand_in() -> None:
    """Open /dev/null in place of closed standard streams, whose numbers a file of ours would get otherwise."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - gets the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - stays open until the end


def become(argv: list[str]) -> "NoReturn":
    """Replace this process by another program, such as ssh, so that nothing is between it and the caller.

    If a caller on another host controls this process, the program runs as a child process instead, and ends with it.
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
    """Return the ssh command line `line`, changed so that ssh prints a line on stdout once its forwards are open."""
    return [line[0], "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo open", *line[1:]]


def stop_printing() -> int:
    """Stop printing, because the reader of our results has closed the pipe, and return the exit code for that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes stdout once more at its end
    return 128 + signal.SIGPIPE


def known(error: Exception, program: Sequence[str] = ("interlock",)) -> InterlockError:
    """Return `error` as one of our errors; `program` is the program that was called."""
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
