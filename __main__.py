"""The program, `python -m interlock` or the installed `interlock`: how it begins, and how it ends.

`--version` is answered at once. Otherwise, the program first listens to signals and makes sure that every standard
stream is open, and only then imports the rest. A plain command line needs no parser; `cli` reads all others. However
the program ends, the user gets a message on stderr and a documented exit code.
"""

import os
import sys

TYPE_CHECKING = False  # as in `typing`, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .commands.plain import Work
    from .commands.session import Session


def main() -> "NoReturn":
    """Run the program on the process's arguments, and exit with the documented exit code."""
    if sys.argv[1:] == ["--version"] and _print_version():
        sys.exit(0)
    called = _begin_call() if sys.argv[1:2] == ["remote-call"] else None
    from .host import cancellation

    cancellation.listen()
    from .commands.program import serve

    serve(lambda: run(called))


def run(typed: "Callable[[str], str] | None" = None) -> int:
    """Do what the process's arguments ask for, report the result, and return the exit code.

    `typed` is given for a call from another machine: it returns a command for this machine as it is typed there.
    """
    from .commands.plain import plain
    from .commands.session import Session
    from .errors import CancelledError
    from .host import cancellation

    session = Session()
    session.typed = typed or session.typed
    code = _outcome((typed and _part(sys.argv[1:])) or plain(sys.argv[1:], os.environ) or _command_line(), session)
    if cancellation.requested() and code != CancelledError.exit_code:
        code = _report(cancellation.error("; what was asked for had come to its end"), session)
    return code


def _begin_call() -> "Callable[[str], str]":
    from .remote.serving import begin, typed

    begin()
    return typed


def _part(words: list[str]) -> "Work | None":
    """Return the work that another machine asks for; None if it asks for an ordinary command."""
    if not words[0].startswith(":"):
        return None
    from .commands.called import part

    return part(words)


def _command_line() -> "Work":
    from .cli import command_line

    return command_line


def _outcome(work: "Work", session: "Session") -> int:
    """Do `work` and return the exit code, however the work ends."""
    from .commands.program import stop_printing

    stdout = sys.stdout
    try:
        code = work(session)
        sys.stdout.flush()
    except BrokenPipeError:
        return stop_printing()
    except SystemExit as exit_:  # from a command, from completion, or from click at a broken pipe, where click
        return exit_.code if sys.stdout is stdout else stop_printing()  # type: ignore[return-value] # replaces stdout
    except Exception as error:  # noqa: BLE001 - a command ends here: whatever the error is, the user gets a message
        return _report(error, session)
    return code


def _report(error: Exception, session: "Session") -> int:
    """Say `error` on stderr and return its exit code."""
    from .commands.program import known
    from .errors import CancelledError
    from .host import cancellation

    reported = known(error)
    if cancellation.requested() and not isinstance(reported, CancelledError):
        reported = cancellation.error()  # the command failed because of the signal: its terminal was closed, say
    session.complain(reported, traceback=_traceback(error) if session.debug else None)
    return reported.exit_code


def _traceback(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _print_version() -> bool:
    from .version import __version__, answer

    return answer(f"interlock {__version__}\n")


def program() -> "NoReturn":
    """Do what `main` does, and end the process without taking its modules apart. No caller is returned to."""
    try:
        main()
    except SystemExit as ended:
        from .commands.program import leave

        leave(ended)


if __name__ == "__main__":
    program()
