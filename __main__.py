"""The program: `python -m interlock`, and what is installed as `interlock`. How it begins, and how it ends.

`--version` is answered at once. For everything else, before it is imported, signals are listened to, and each of the
standard streams leads somewhere. A plain command line needs no parser; any other is read by `cli`. In the end, whatever
it is, the user gets words on stderr and a documented exit code.
"""

import os
import sys

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from typing import NoReturn

    from .commands.plain import Work
    from .commands.session import Session
    from .errors import InterlockError

STDOUT = 1
"""The descriptor, which is there also where Python has no `sys.stdout`."""


def main() -> "NoReturn":
    """Run the program on the process's arguments, and leave it with the documented exit code."""
    if sys.argv[1:] == ["--version"] and _print_version():
        sys.exit(0)
    from .host import cancellation

    cancellation.listen()
    _stand_in()
    try:
        sys.exit(run())
    finally:
        cancellation.ignore()


def run() -> int:
    """Do what the process's arguments ask for, say what became of it, and return the exit code."""
    from .commands.plain import plain
    from .commands.session import Session
    from .errors import CancelledError
    from .host import cancellation

    os.umask(os.umask(0o077) & 0o077)  # one that takes the owner's own rights would lock us out of what we make
    session = Session()
    code = _outcome(plain(sys.argv[1:], os.environ) or _command_line(), session)
    if cancellation.requested() and code != CancelledError.exit_code:
        code = _report(cancellation.error("; what was asked for had come to its end"), session)
    return code


def _command_line() -> "Work":
    from .cli import command_line

    return command_line


def _outcome(work: "Work", session: "Session") -> int:
    """Do `work` and return the exit code, whatever becomes of it."""
    stdout = sys.stdout
    try:
        code = work(session)
        sys.stdout.flush()
    except BrokenPipeError:
        return _stop_printing()
    except SystemExit as exit_:  # a command's own, that of completion, or click's for a broken pipe: it puts a stream
        return exit_.code if sys.stdout is stdout else _stop_printing()  # type: ignore[return-value] # of its own there
    except Exception as error:  # noqa: BLE001 - where a command ends: whatever it is, the user gets words
        return _report(error, session)
    return code


def _stop_printing() -> int:
    """Return the exit code where the reader of our results has read enough, and let nothing more be printed."""
    import signal

    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes stdout once more at its end
    return 128 + signal.SIGPIPE


def _report(error: Exception, session: "Session") -> int:
    """Say `error` on stderr and return its exit code."""
    from .errors import CancelledError
    from .host import cancellation

    known = _known(error)
    if cancellation.requested() and not isinstance(known, CancelledError):
        known = cancellation.error()  # the terminal is closed, say, that a command was writing to
    session.stderr.error(known, traceback=_traceback(error) if session.debug else None)
    return known.exit_code


def _traceback(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _known(error: Exception) -> "InterlockError":
    """Return `error` as one of ours."""
    from .errors import HostError, InterlockError

    match error:
        case InterlockError():
            return error
        case OSError():
            return HostError(f"{error.filename or 'the system'}: {error.strerror or error}")
        case _:
            import shlex

            return InterlockError(
                f"{type(error).__name__}: {error}; this is a defect of Interlock",
                hint=shlex.join(["interlock", "--debug", *sys.argv[1:]]),
            )


def _print_version() -> bool:
    """Print the version; False where stdout takes nothing, which is for `cli` to deal with."""
    from .version import __version__

    try:
        os.write(1, f"interlock {__version__}\n".encode())
    except OSError:
        return False
    return True


def _stand_in() -> None:
    """Let /dev/null stand in for standard streams that are closed: a file of ours would get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - the lowest that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - it is open to the end


if __name__ == "__main__":
    main()
