"""The command lines that are typed most, understood without click, whose import costs more than they do.

    interlock list [NAME...]
    interlock can NAME [TRIGGER]
    interlock start NAME
    the completion of an instance's name

or one of these by a name of another program's, such as `ls`. Whatever is not exactly one of these, an option or a
mistake say, is the affair of `cli`, which has the words for it.
"""

from collections.abc import Callable, Mapping, Sequence

from ..fsm.table import TABLE
from ..host.home import NAME, Home
from .session import FORMATS, Session

Work = Callable[[Session], int]
"""What is to be done; returns the exit code."""

_SETTINGS = ("INTERLOCK_QUIET", "INTERLOCK_DEBUG")
"""What `cli` reads from the environment beside the command line, and a session does not."""

_COMPLETE = "_INTERLOCK_COMPLETE"
"""How a shell asks for a completion. Source: click, "Shell Completion"."""

_COMPLETED = {"bash_complete": "plain,{}\n", "zsh_complete": "plain\n{}\n_\n"}
"""How a shell wants a word; fish says otherwise where the cursor is. Source: click, "Adding Support for a Shell"."""


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
    """Return what completes the first argument of a command about an instance."""
    from .index import ABOUT_AN_INSTANCE

    form, typed = _COMPLETED.get(environment[_COMPLETE]), environment.get("COMP_WORDS", "")
    words = typed.split()
    if form is None or environment.get("COMP_CWORD") != "2" or any(sign in typed for sign in "'\"\\"):
        return None
    if len(words) < 2 or words[1] not in ABOUT_AN_INSTANCE or "".join(words[2:3]).startswith("-"):  # noqa: PLR2004
        return None
    return lambda _: _complete(form, "".join(words[2:3]))


def _complete(form: str, begun: str) -> int:
    from .stdout import write

    write("".join(map(form.format, names_beginning(begun))))
    return 0


def names_beginning(begun: str) -> list[str]:
    """Return the names of the instances that a shell offers after `begun`."""
    return [name for name in Home.from_environment().names() if name.startswith(begun)]
