"""The program: `python -m interlock`, and what is installed as `interlock`. How it begins, and how it ends.

`--version` is answered at once. For everything else, before it is imported, signals are listened to, and each of the
standard streams leads somewhere. A plain command line needs no parser; any other is read by `cli`. In the end, whatever
it is, the user gets words on stderr and a documented exit code.
"""

import os
import sys

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .commands.plain import Work
    from .commands.session import Session


def main() -> "NoReturn":
    """Run the program on the process's arguments, and leave it with the documented exit code."""
    if sys.argv[1:] == ["--version"] and _print_version():
        sys.exit(0)
    called = _begin_call() if sys.argv[1:2] == ["remote-call"] else None
    from .host import cancellation

    cancellation.listen()
    from .commands.program import serve

    serve(lambda: run(called))


def run(typed: "Callable[[str], str] | None" = None) -> int:
    """Do what the process's arguments ask for, say what became of it, and return the exit code.

    `typed` is given where another machine asks: how commands for this one are typed there.
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
    """Return what another machine asks for beside commands, if it does."""
    if not words[0].startswith(":"):
        return None
    from .commands.called import part

    return part(words)


def _command_line() -> "Work":
    from .cli import command_line

    return command_line


def _outcome(work: "Work", session: "Session") -> int:
    """Do `work` and return the exit code, whatever becomes of it."""
    from .commands.program import stop_printing

    stdout = sys.stdout
    try:
        code = work(session)
        sys.stdout.flush()
    except BrokenPipeError:
        return stop_printing()
    except SystemExit as exit_:  # a command's own, that of completion, or click's for a broken pipe: it puts a stream
        return exit_.code if sys.stdout is stdout else stop_printing()  # type: ignore[return-value] # of its own there
    except Exception as error:  # noqa: BLE001 - where a command ends: whatever it is, the user gets words
        return _report(error, session)
    return code


def _report(error: Exception, session: "Session") -> int:
    """Say `error` on stderr and return its exit code."""
    from .commands.program import known
    from .errors import CancelledError
    from .host import cancellation

    reported = known(error)
    if cancellation.requested() and not isinstance(reported, CancelledError):
        reported = cancellation.error()  # the terminal is closed, say, that a command was writing to
    session.complain(reported, traceback=_traceback(error) if session.debug else None)
    return reported.exit_code


def _traceback(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _print_version() -> bool:
    from .version import __version__, answer

    return answer(f"interlock {__version__}\n")


if __name__ == "__main__":
    main()
