"""The program `limactl`: its start and its end.

Every failure ends with one fatal line on stderr and exit code 1; `shell` and `copy` pass on the exit code of ssh and
scp, as limactl does.
"""

import sys
from collections.abc import Sequence

TYPE_CHECKING = False  # as in `typing`, but without importing it
if TYPE_CHECKING:
    from typing import NoReturn

    from .session import Session

FAILED = 1
"""The exit code of every failure."""


def main() -> "NoReturn":
    """Run limactl on the process's arguments, and exit with its exit code."""
    if sys.argv[1:] == ["--version"] and _print_version():
        sys.exit(0)
    from ..host import cancellation

    cancellation.listen()
    from ..commands.program import leave, serve

    try:
        serve(lambda: run(sys.argv[1:]))
    except SystemExit as ended:
        leave(ended)


def run(words: Sequence[str]) -> int:
    """Do what the command line `words` asks for, and return the exit code."""
    from ..commands.program import known, stop_printing
    from ..host import cancellation
    from .session import Session

    session = Session()
    try:
        code = _work(session, words)
        sys.stdout.flush()
    except BrokenPipeError:
        return stop_printing()
    except SystemExit:
        raise
    except Exception as error:  # noqa: BLE001 - where a command ends: the user gets a message for any error
        if session.debug:
            import traceback

            session.stderr.debug("".join(traceback.format_exception(error)))
        session.report(cancellation.error() if cancellation.requested() else known(error, ("limactl",)))
        return FAILED
    return code


def _work(session: "Session", words: Sequence[str]) -> int:
    from importlib import import_module

    if words[:1] in (["__complete"], ["__completeNoDesc"]):
        from .completion import answer

        return answer(words)
    from .commands import COMMANDS, ELSEWHERE
    from .flags import read
    from .version import version_line

    call = read(words, COMMANDS, ELSEWHERE)
    session.adopt(call)
    if call.flags.get("version"):
        sys.stdout.write(version_line())
        return 0
    if call.flags.get("help") or not call.command.does:
        from .help import help_text

        sys.stdout.write(help_text(call))
        return 0
    module, _, function = call.command.does.partition(":")
    return int(getattr(import_module(f".{module}", __package__), function)(session, call))


def _print_version() -> bool:
    from ..version import answer
    from .version import version_line

    return answer(version_line())


if __name__ == "__main__":
    main()
