"""The command line: what can be typed, and what it calls.

Commands are imported when they are used: `COMMANDS` is all that `--help` needs to know about them. Results go to
stdout, everything else to stderr. Exit codes are those of `errors`; `shell` and `run` return the guest's.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import dropwhile, takewhile
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from .commands.index import COMMANDS
from .commands.options import Named, json_option
from .commands.session import FORMATS, TYPED, Session
from .errors import CancelledError, UsageError
from .version import __version__


class Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is called or its help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        for section in COMMANDS.values():
            if cmd_name in section:
                place = section[cmd_name][0]
                module = import_module(f".{place}" if "." in place else f".commands.{place}", __package__)
                command: click.Command | None = getattr(module, f"{cmd_name.replace('-', '_')}_command", None)
                return command or module.command(cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.obj and ctx.obj.host and not ctx.resilient_parsing:
            self._hand_over(ctx, args)
        if self.get_command(ctx, args[0]) is None:
            from .commands.instead import meaning, proposal

            meant = meaning(args)
            if meant is None and not ctx.resilient_parsing:  # which is set while a shell completes
                hint = proposal(ctx, self, args, movers=tuple(COMMANDS["Lifecycle"]))
                raise UsageError(f'there is no command "{args[0]}"', hint=hint)
            args = meant or args
            if args[0].startswith("-"):  # an option of the program itself
                self.make_context(ctx.info_name, args, obj=ctx.obj)
        ctx.meta[TYPED] = list(args)
        return super().resolve_command(ctx, args)

    def _hand_over(self, ctx: click.Context, args: list[str]) -> None:
        """Hand the command line over to the machine that --host names, unless that is this one, and exit."""
        from .remote.address import find

        host = find(ctx.obj.host)
        if host is not None:
            from .commands.afar import hand_over

            by_environment = ctx.get_parameter_source("host") is ParameterSource.ENVIRONMENT
            code = hand_over(ctx, self, host, args, by_environment=by_environment)
            if code is not None:
                ctx.exit(code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option in the session as soon as it is read, so that later errors are already reported accordingly."""
    setattr(ctx.obj, str(param.name), value)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Names that other programs use, such as ls, rm and ssh, work too: interlock help names.\n\n"
    "Exit codes: 0 done or already so, 2 usage, 3 illegal transition, 4 not found, 5 busy, 6 driver failed, "
    "7 deadline passed, 8 damaged, 130 cancelled.",
)
@click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    envvar="INTERLOCK_LOG_FORMAT",
    expose_value=False,
    callback=_remember,
    help="Format of messages on stderr; default: human on a terminal, logfmt elsewhere.",
)
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    envvar="INTERLOCK_QUIET",
    expose_value=False,
    callback=_remember,
    help="Write only errors and warnings to stderr.",
)
@click.option(
    "--debug", is_flag=True, envvar="INTERLOCK_DEBUG", expose_value=False, callback=_remember, help="Show tracebacks."
)
@click.option(
    "--host",
    type=Named("host"),
    metavar="HOST",
    envvar="INTERLOCK_HOST",
    expose_value=False,
    callback=_remember,
    help="Run the command on another host: ssh://[user@]host[:port][/home], or a name from hosts.yaml.",
)
@json_option
@click.version_option(__version__, prog_name="interlock", message="%(prog)s %(version)s")
def cli() -> None:
    """Manage Linux virtual machines whose lifecycle is an explicit state machine.

    \b
    interlock create web --template tiny    absent  → created
    interlock start web                     created → running
    interlock shell web -- uname -a
    interlock stop web                      running → stopped
    interlock delete web                    stopped → absent
    """


def command_line(session: Session) -> int:
    """Do what the process's arguments ask for, and return the exit code; raises UsageError for mistakes in them."""
    words = sys.argv[1:]
    asked = _asked_in_json(words)
    if asked.version:
        return _print_version()
    try:
        given = ["help", *asked.path, "--json"] if asked.help else words
        return cli.main(given, prog_name="interlock", standalone_mode=False, obj=session) or 0
    except UsageError:
        session.as_json = session.as_json or asked.json
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        return _show_help(error, session)
    except click.UsageError as error:
        session.as_json = session.as_json or asked.json
        raise _mistake(error) from error
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error
    except click.Abort as error:
        raise CancelledError("cancelled") from error


class _Asked(NamedTuple):
    """What a command line with --json asks for, as far as it can be read despite mistakes."""

    json: bool = False
    path: tuple[str, ...] = ()
    """The names of the command, as far as they are valid."""
    help: bool = False
    version: bool = False


def _asked_in_json(words: list[str]) -> _Asked:
    """Return what `words` ask for, ignoring mistakes; a --json that belongs to the guest's command does not count.

    Click itself stops at the first mistake, and prints help and version as plain text.
    """
    if "--json" not in words:
        return _Asked()
    from .commands.instead import meaning

    command: click.Command | None = cli
    context: click.Context | None = None
    found: set[str] = set()
    path: list[str] = []
    rest = list(words)
    while command:
        lenient = {**command.context_settings, "ignore_unknown_options": True, "resilient_parsing": True}
        context = click.Context(command, parent=context, **lenient)
        options, rest, _ = command.make_parser(context).parse_args(rest)
        found |= options.keys()
        helping = command.get_help_option(context)
        if helping and helping.name in options:
            found.add("help")
        if not isinstance(command, click.Group):
            break
        rest = list(dropwhile(lambda word: word.startswith("-"), rest))
        if rest and command is cli and command.get_command(context, rest[0]) is None:
            rest = meaning(rest) or rest
        command = command.get_command(context, rest[0]) if rest else None
        if command:
            path.append(rest.pop(0))
        elif "--json" in takewhile(lambda word: word != "--", rest):
            found.add("json")
    if "json" not in found:
        return _Asked()
    return _Asked(
        json=True, path=tuple(path), help="help" in found, version="version" in found or rest[:1] == ["--version"]
    )


def _print_version() -> int:
    from .commands.stdout import print_record

    print_record({"name": "interlock", "version": __version__}, "json")
    return 0


def _show_help(error: click.exceptions.NoArgsIsHelpError, session: Session) -> int:
    """Show people the help of a command that was typed without arguments; for programs, it is a usage error."""
    if session.stderr.log_format != "human":
        raise _mistake(click.UsageError("a command is missing", error.ctx)) from error
    click.echo(error.format_message(), err=True)
    return error.exit_code


def _mistake(error: click.UsageError) -> UsageError:
    command = error.ctx.command_path if error.ctx else _named(sys.argv[1:])
    return UsageError(error.format_message().rstrip("."), hint=f"{command} --help")


def _named(words: Sequence[str]) -> str:
    """Return the command that `words` name: click does not say which command's option lacks its value."""
    command: click.Command = cli
    path = "interlock"
    for word in words:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found:
            command, path = found, f"{path} {word}"
    return path
