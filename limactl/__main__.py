"""The program `limactl`: how it begins and how it ends.

Every failure ends with one fatal line on stderr and exit code 1; `shell` and `copy` pass on the exit code of ssh and
scp, as limactl does.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..commands.program import known, stand_in, stop_printing
from ..errors import UsageError
from ..host import cancellation
from .commands import COMMANDS, ELSEWHERE
from .flags import GLOBAL, Call, Command, Flag, read
from .home import LIMA_VERSION
from .session import Session

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from typing import NoReturn

FAILED = 1
"""The exit code of every failure."""


def main() -> "NoReturn":
    """Run limactl on the process's arguments, and leave it with the exit code."""
    cancellation.listen()
    stand_in()
    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        cancellation.ignore()


def run(words: Sequence[str]) -> int:
    """Do what the command line `words` asks for, and return the exit code."""
    os.umask(os.umask(0o077) & 0o077)  # one that takes the owner's own rights would lock us out of what we make
    session = Session()
    try:
        code = _work(session, words)
        sys.stdout.flush()
    except BrokenPipeError:
        return stop_printing()
    except SystemExit:
        raise
    except Exception as error:  # noqa: BLE001 - where a command ends: whatever it is, the user gets words
        if session.debug:
            import traceback

            session.stderr.debug("".join(traceback.format_exception(error)))
        session.report(cancellation.error() if cancellation.requested() else known(error, ("limactl",)))
        return FAILED
    return code


def _work(session: Session, words: Sequence[str]) -> int:
    call = read(words, COMMANDS, ELSEWHERE)
    session.adopt(call)
    if call.flags.get("version"):
        sys.stdout.write(f"limactl version {LIMA_VERSION}\n")
        return 0
    if call.flags.get("help") or not call.command.does:
        sys.stdout.write(_help(call))
        return 0
    module, _, function = call.command.does.partition(":")
    return int(getattr(import_module(f".{module}", __package__), function)(session, call))


def _help(call: Call) -> str:
    """Return the help of the command, or the list of those there are."""
    name, command = " ".join(filter(None, ("limactl", call.name))), call.command
    text = f"{command.summary or 'Lima: Linux virtual machines, by Interlock'}\n\nUsage:\n  {name} {command.usage}\n"
    if not command.does:
        place = COMMANDS.get(call.name, COMMANDS)
        if isinstance(place, Command):
            raise UsageError(f'unknown command "{call.name}" for "limactl"')
        lines = [(word, it.summary if isinstance(it, Command) else ", ".join(it)) for word, it in place.items()]
        text += "\nCommands:\n" + "".join(f"  {word:<16}{summary}\n" for word, summary in lines)
    return text + _flags("Flags", command.flags) + _flags("Global Flags", GLOBAL)


def _flags(title: str, flags: Sequence[Flag]) -> str:
    lines = [(f"-{it.short}, " if it.short else "    ") + f"--{it.name}" for it in flags if not it.refused]
    texts = [it.help for it in flags if not it.refused]
    shown = "".join(f"  {line:<26}{text}\n" for line, text in zip(lines, texts, strict=True))
    return f"\n{title}:\n{shown}" if shown else ""


if __name__ == "__main__":
    main()
