"""The command line: parse, call, print, exit code.

Commands are loaded when they are used: `COMMANDS` is all that `--help` needs to know of them. Results go to stdout,
everything else to stderr. Exit codes are those of `errors`; `shell` passes the guest's.
"""

import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from .commands.session import FORMATS, TYPED, Session
from .errors import CancelledError, HostError, InterlockError, UsageError
from .fsm.table import TABLE
from .host import cancellation
from .version import __version__

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Lifecycle": {
        "create": ("lifecycle", "Create an instance from a template; it is not started."),
        "start": ("lifecycle", "Start an instance that exists; never creates one."),
        "up": ("lifecycle", "Create an instance if it is absent, then start it."),
        "stop": ("lifecycle", "Shut an instance down; --force ends it at once."),
        "kill": ("lifecycle", "End an instance's hypervisor at once."),
        "restart": ("lifecycle", "Stop an instance, then start it."),
        "reset": ("lifecycle", "Throw an instance's disk away for a fresh one."),
        "delete": ("lifecycle", "Remove an instance; --force kills it first."),
        "resume": ("lifecycle", "Let a paused guest continue."),
        "provision": ("lifecycle", "Re-run provisioning in a running instance."),
        "protect": ("lifecycle", "Make reset and delete of an instance impossible."),
        "unprotect": ("lifecycle", "Remove the protection set by `protect`."),
        "repair": ("lifecycle", "Mend an instance that is listed as damaged."),
    },
    "Status": {
        "list": ("reading", "List the instances and what is happening to them."),
        "inspect": ("reading", "Show all that is known of an instance."),
        "history": ("reading", "Show every transition of an instance."),
        "watch": ("watching", "Show what happens to instances, as it happens."),
        "can": ("reading", "Show what is legal now, and for what is not, why."),
        "diagram": ("reading", "Draw the lifecycle; with a name, mark its state."),
    },
    "Guest": {
        "shell": ("guest", "Log in to a guest, or run a command in it."),
        "logs": ("guest", "Show the logs of an instance."),
    },
    "Host": {
        "doctor": ("host", "Check this host, and say how to mend it."),
        "image": ("images", "Build, import, list and delete images."),
        "disk": ("disks", "Create, list, resize and delete disks that outlive instances."),
        "template": ("templates", "List, show, check and copy templates."),
        "help": ("help", "Explain a command or a topic."),
    },
}
"""Section → command → (module of the package `commands`, summary). A test holds the summaries against the commands.

A row of the table that has no entry here gets one: `commands.rows` makes its command.
"""

_NAMED = {name for section in COMMANDS.values() for name in section}
COMMANDS["Lifecycle"] |= {row.trigger: ("rows", row.why) for row in TABLE if row.recorded and row.trigger not in _NAMED}

STDOUT = 1
"""The descriptor, which is there also where Python has no `sys.stdout`."""


class Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is called or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        for section in COMMANDS.values():
            if cmd_name in section:
                module = import_module(f".commands.{section[cmd_name][0]}", __package__)
                command: click.Command | None = getattr(module, f"{cmd_name}_command", None)
                return command or module.command(cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:  # as it is while a shell completes
            from .commands.instead import proposal

            hint = proposal(ctx, self, args, movers=tuple(COMMANDS["Lifecycle"]))
            raise UsageError(f'there is no command "{name}"', hint=hint)
        ctx.meta[TYPED] = list(args)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option in the session as soon as it is read, so that an error in what follows is reported as asked."""
    setattr(ctx.obj, str(param.name), value)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done or already so, 2 usage, 3 illegal transition, 4 not found, 5 busy, 6 driver failed, "
    "7 deadline passed, 8 damaged, 130 cancelled.",
)
@click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    envvar="INTERLOCK_LOG_FORMAT",
    expose_value=False,
    callback=_remember,
    help="How messages are written to stderr; default: human on a terminal, logfmt elsewhere.",
)
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    envvar="INTERLOCK_QUIET",
    expose_value=False,
    callback=_remember,
    help="Write errors and warnings to stderr, and nothing else.",
)
@click.option(
    "--debug", is_flag=True, envvar="INTERLOCK_DEBUG", expose_value=False, callback=_remember, help="Show tracebacks."
)
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


def main() -> NoReturn:
    """Run the program on the process's arguments, and leave it with the documented exit code."""
    os.umask(os.umask(0o077) & 0o077)  # one that takes the owner's own rights would lock us out of what we make
    session = Session()
    stdout = sys.stdout
    try:
        code = cli.main(prog_name="interlock", standalone_mode=False, obj=session) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        code = _stop_printing()
    except SystemExit as exit_:  # a command's own, that of completion, or click's for a broken pipe: it puts a stream
        code = exit_.code if sys.stdout is stdout else _stop_printing()  # of its own in the place of stdout then
    except click.exceptions.NoArgsIsHelpError as error:
        code = _show_help(error, session)
    except Exception as error:  # noqa: BLE001 - where a command ends: whatever it is, the user gets words
        code = _report(error, session)
    if cancellation.requested() and code != CancelledError.exit_code:
        code = _report(cancellation.error("; what was asked for had come to its end"), session)
    sys.exit(code)


def _stop_printing() -> int:
    """Return the exit code where the reader of our results has read enough, and let nothing more be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes stdout once more at its end
    return 128 + signal.SIGPIPE


def _show_help(error: click.exceptions.NoArgsIsHelpError, session: Session) -> int:
    """Show people the help of a command that was given nothing; to programs that is a mistake like any other."""
    if session.stderr.log_format != "human":
        return _report(click.UsageError("a command is missing", error.ctx), session)
    click.echo(error.format_message(), err=True)
    return error.exit_code


def _report(error: Exception, session: Session) -> int:
    """Say `error` on stderr and return its exit code."""
    known = _translated(error)
    if cancellation.requested() and not isinstance(known, CancelledError):
        known = cancellation.error()  # the terminal is closed, say, that a command was writing to
    session.stderr.error(known, traceback=_traceback(error) if session.debug else None)
    return known.exit_code


def _traceback(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _translated(error: Exception) -> InterlockError:
    match error:
        case InterlockError():
            return error
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "interlock"
            return UsageError(error.format_message().rstrip("."), hint=f"{command} --help")
        case click.ClickException():
            return UsageError(error.format_message())
        case click.Abort():
            return CancelledError("cancelled")
        case OSError():
            return HostError(f"{error.filename or 'the system'}: {error.strerror or error}")
        case _:
            import shlex

            return InterlockError(
                f"{type(error).__name__}: {error}; this is a defect of Interlock",
                hint=shlex.join(["interlock", "--debug", *sys.argv[1:]]),
            )
