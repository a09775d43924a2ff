"""`interlock help`: the help of a command, or a topic that no single command explains."""

import textwrap
from collections.abc import Callable
from itertools import takewhile

import click

from ..errors import BY_REFERENCE, UsageError
from .options import Named, json_option, pass_session
from .session import Session
from .stdout import print_record

LOGGING = """\
Messages go to stderr, results to stdout.

  interlock --log-format json start web    one JSON object per line, as in schemas/log.schema.json
  interlock --log-format logfmt start web  key=value; the default where stderr is no terminal
  interlock --log-format human start web   sentences and progress; the default on a terminal
  interlock --quiet start web              errors and warnings only
  interlock --debug start web              errors with their traceback

INTERLOCK_LOG_FORMAT, INTERLOCK_QUIET and INTERLOCK_DEBUG do the same for every command.
"""

ENVIRONMENT = """\
INTERLOCK_HOME        where everything is kept; default: interlock/ in XDG_DATA_HOME, by default ~/.local/share
XDG_RUNTIME_DIR       where sockets are kept while machines run
INTERLOCK_HOST        the host of the instances, like --host; see `interlock help hosts`
INTERLOCK_LOG_FORMAT  human, logfmt or json; see `interlock help logging`
INTERLOCK_QUIET       1: errors and warnings only
INTERLOCK_DRIVER      the driver for `create` without --driver: qemu (default), lima, simulated
INTERLOCK_LIMACTL     the limactl of the driver lima; default: the first on PATH
INTERLOCK_DEBUG       1: show tracebacks
NO_COLOR, TERM        NO_COLOR=1 or TERM=dumb: no colours
COLUMNS               the width to wrap lines at, instead of the terminal's own

In INTERLOCK_HOME:
  instances/NAME/     spec.json, journal.jsonl, disks, keys and logs of one instance
  images/  disks/     what instances are made of, and disks that outlive them
  keys/  locks/       the ssh key of this home, and a lock for each name
"""

TEMPLATES = """\
A template describes a machine: image, processors, memory, mounts, ports, scripts. Only `create` and `up` read one.

  interlock template list                         lists the built-in ones
  interlock create web --template debian          uses a built-in one
  interlock create web --template ./web.yaml      uses a file, in Lima's format
  interlock create web --template https://example.com/web.yaml
  interlock template validate ./web.yaml          lists every mistake, with its line
  interlock template schema >template.schema.json   writes a JSON Schema for an editor

docs/templates.md explains every key.
"""

HOSTS = """\
Work with instances on another host, through the Interlock installed there. ssh must log in without asking anything.

  interlock --host ssh://me@build.example.org list
  interlock --host ssh://me@build.example.org:2222/srv/vms list    with the home /srv/vms there
  interlock --host build shell web                                 a name from hosts.yaml
  interlock --host build copy site.tar web:                        copies from this host into a guest there
  interlock --host build tunnel web 8080:80                        forwards a port of this host
  interlock list --all-hosts                                       this host and all in hosts.yaml

~/.config/interlock/hosts.yaml:
  build: ssh://me@build.example.org

INTERLOCK_HOST does the same for every command; --host local is this host. See docs/remote.md.
"""

COMPLETION = """\
Completion of commands, options, paths, and everything that has a name:

  bash   eval "$(_INTERLOCK_COMPLETE=bash_source interlock)"    in ~/.bashrc
  zsh    eval "$(_INTERLOCK_COMPLETE=zsh_source interlock)"     in ~/.zshrc
  fish   _INTERLOCK_COMPLETE=fish_source interlock | source     in ~/.config/fish/config.fish
"""


def lifecycle() -> str:
    """Return the diagram, and what each row of the table does."""
    from ..diagrams.render import text
    from ..fsm.table import TABLE

    rows = "".join(f"  {row.trigger:<10} {row.why}\n" for row in TABLE)
    return f"{text()}\n{rows}\n`interlock can NAME` says what is legal now, and why the rest is not.\n"


def exit_codes() -> str:
    """Return each exit code with its references."""
    codes: dict[int, list[str]] = {}
    for reference, kind in BY_REFERENCE.items():
        codes.setdefault(kind.exit_code, []).append(reference)
    texts = [f"  {code:>3}  {', '.join(references)}" for code, references in sorted(codes.items())]
    lines = "".join(
        f"{textwrap.fill(text, 100, subsequent_indent=' ' * 7, break_on_hyphens=False)}\n" for text in texts
    )
    return f"    0  done, or already so\n{lines}\n`shell` ends with the exit code of the command in the guest.\n"


def names() -> str:
    """Return the names of other programs: those that work here, and what to type instead of the others."""
    from .instead import INSTEAD, REMARKS, SAME

    def section(words: dict[str, str]) -> str:
        return "".join(
            f"  {word:<14} interlock {command}{f'  ({REMARKS[word]})' if word in REMARKS else ''}\n"
            for word, command in words.items()
        )

    return (
        f"Names that other programs use and that work here too:\n\n{section(SAME)}\n"
        f"Names that are answered with a hint, because their meaning differs between programs:\n\n{section(INSTEAD)}"
    )


TOPICS: dict[str, Callable[[], str]] = {
    "lifecycle": lifecycle,
    "exit-codes": exit_codes,
    "logging": lambda: LOGGING,
    "environment": lambda: ENVIRONMENT,
    "names": names,
    "templates": lambda: TEMPLATES,
    "hosts": lambda: HOSTS,
    "completion": lambda: COMPLETION,
}
"""Name of the topic → the function that returns its text."""


def _meant(words: tuple[str, ...]) -> list[str]:
    """Return the names of the command that `words` mean, which may begin with a name from another program."""
    from .instead import meaning

    meant = meaning(words) if words else None
    return list(takewhile(lambda word: not word.startswith("-"), meant)) if meant else list(words)


@click.command("help")
@click.argument("words", type=Named("topic"), nargs=-1, metavar="[COMMAND|TOPIC]")
@json_option
@pass_session
def help_command(session: Session, words: tuple[str, ...]) -> None:
    """Explain a command or a topic: lifecycle, exit-codes, logging, environment, names, templates, hosts, completion.

    \b
    interlock help start
    interlock help exit-codes
    """
    text = _text(words)
    if session.as_json:
        print_record({"about": " ".join(words), "text": text}, "json")
    else:
        click.echo(text, nl=False)


def _text(words: tuple[str, ...]) -> str:
    if len(words) == 1 and words[0] in TOPICS:
        return TOPICS[words[0]]()
    root = click.get_current_context().find_root()
    command, context = root.command, root
    for word in _meant(words):
        inner = command.get_command(context, word) if isinstance(command, click.Group) else None
        if inner is None:
            raise UsageError(
                f'there is no command or topic "{" ".join(words)}"; topics: {", ".join(TOPICS)}', hint="interlock help"
            )
        context = click.Context(inner, info_name=word, parent=context)
        command = inner
    topics = "" if words else f"\nTopics: {', '.join(TOPICS)} (interlock help TOPIC)\n"
    return f"{command.get_help(context)}\n{topics}"
