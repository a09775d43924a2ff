"""The most frequent command lines, parsed without click, because importing click takes longer than they do.

    interlock list [NAME...]
    interlock can NAME [TRIGGER]
    interlock start NAME
    the request of a shell to complete a line

or one of these by a name from another program, such as `ls`. Everything else, such as a line with an option or a
mistake, is left to `cli`, which has the error messages.
"""

from collections.abc import Callable, Mapping, Sequence

from ..fsm.table import TABLE
from ..host.home import NAME
from .session import FORMATS, Session

Work = Callable[[Session], int]
"""Does the work of a command line, and returns the exit code."""

_SETTINGS = ("INTERLOCK_QUIET", "INTERLOCK_DEBUG", "INTERLOCK_HOST")
"""Environment variables that `cli` reads in addition to the command line, and that a session does not read."""

_COMPLETE = "_INTERLOCK_COMPLETE"
"""How a shell asks for a completion. Source: click, "Shell Completion"."""


def plain(words: Sequence[str], environment: Mapping[str, str]) -> Work | None:
    """Return the work that `words`, the command line without the program's name, ask for; None unless it is plain."""
    if _COMPLETE in environment:
        return _completion(environment)
    unknown_format = environment.get("INTERLOCK_LOG_FORMAT", "human") not in FORMATS
    if unknown_format or any(it in environment for it in _SETTINGS) or any(word.startswith("-") for word in words):
        return None
    match words:
        case ["list", *names]:
            return lambda session: _list(session, names)
        case ["can", name, *trigger] if not trigger or trigger in [[row.trigger] for row in TABLE if not row.observed]:
            return lambda session: _can(session, name, *trigger)
        case ["start", name] if NAME.fullmatch(name):
            return lambda session: _start(session, name)
    return _by_another_name(words, environment)


def _by_another_name(words: Sequence[str], environment: Mapping[str, str]) -> Work | None:
    from .instead import meaning

    meant = meaning(words) if words else None
    return plain(meant, environment) if meant else None


def _list(session: Session, names: Sequence[str]) -> int:
    from .listing import list_instances

    if len(names) == 1:
        session.bind(names[0], "list")
    list_instances(session, names)
    return 0


def _can(session: Session, name: str, trigger: str | None = None) -> int:
    from .listing import show_verdicts

    session.bind(name, "can")
    return show_verdicts(session, name, trigger)


def _start(session: Session, name: str) -> int:
    session.bind(name, "start")
    session.pass_message_on(session.interlock.start(name))
    return 0


def _completion(environment: Mapping[str, str]) -> Work | None:
    from .completing import SCRIPTS, answer

    shell, _, asked = environment[_COMPLETE].partition("_")
    if shell not in SCRIPTS or asked not in ("source", "complete"):
        return None

    def work(_: Session) -> int:
        from .stdout import write

        write(SCRIPTS[shell] if asked == "source" else answer(shell, environment))
        return 0

    return work
