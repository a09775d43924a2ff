"""The command lines that are typed most, understood without click, whose import costs more than they do.

    interlock list [NAME...]
    interlock can NAME [TRIGGER]
    interlock start NAME
    what a shell asks to complete a line

or one of these by a name of another program's, such as `ls`. Whatever is not exactly one of these, an option or a
mistake say, is the affair of `cli`, which has the words for it.
"""

from collections.abc import Callable, Mapping, Sequence

from ..fsm.table import TABLE
from ..host.home import NAME
from .session import FORMATS, Session

Work = Callable[[Session], int]
"""What is to be done; returns the exit code."""

_SETTINGS = ("INTERLOCK_QUIET", "INTERLOCK_DEBUG", "INTERLOCK_HOST")
"""What `cli` reads from the environment beside the command line, and a session does not."""

_COMPLETE = "_INTERLOCK_COMPLETE"
"""How a shell asks for a completion. Source: click, "Shell Completion"."""


def plain(words: Sequence[str], environment: Mapping[str, str]) -> Work | None:
    """Return what the command line `words` asks for, the program's name left out; None unless it is plain."""
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
