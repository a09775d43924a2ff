"""Parameters that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..errors import UsageError
from ..host import sizes
from .session import Session
from .stdout import FORMATS

F = TypeVar("F", bound=Callable[..., Any])
"""A function that is, or becomes, a command."""

pass_session = click.make_pass_decorator(Session)


class Group(click.Group):
    """A group of commands about one kind of object; --json may be typed before the command, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        json_option(self)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            from .instead import meaning_in_group, proposal

            meant = meaning_in_group(args, self)
            if meant is None and not ctx.resilient_parsing:
                raise UsageError(f'there is no command "{self.name} {args[0]}"', hint=proposal(ctx, self, args))
            args = meant or args
        return super().resolve_command(ctx, args)


class Named(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """A text that shells can complete: `completes` is one of `completing.KINDS`, or the words themselves."""

    name = "text"

    def __init__(self, completes: str | tuple[str, ...], name: str = name) -> None:
        self.completes, self.name = completes, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002 - click's signature
        return str(value)


class InstanceName(Named):
    """The name of an instance; completed from those that exist. The engine decides which names are valid."""

    def __init__(self) -> None:
        super().__init__("instance", "name")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        session = ctx and ctx.find_object(Session)
        if ctx and session and param and param.nargs == 1:
            session.bind(str(value), ctx.info_name)
        return str(value)


class Size(click.ParamType):  # type: ignore[type-arg] # likewise
    """A size in bytes, given as `512MiB` or `4G`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = sizes.size_bytes(value)
        except ValueError as error:
            self.fail(f"{error}, found {value!r}", param, ctx)
        return number


def _as_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).as_json = True


def chosen_format(ctx: click.Context, _: click.Parameter, value: str) -> str:
    """Return the format that --format names; --json, which has been read by now, takes precedence."""
    return "json" if ctx.ensure_object(Session).as_json else value


def _json_option(text: str) -> Callable[[F], F]:
    return click.option("--json", is_flag=True, is_eager=True, expose_value=False, callback=_as_json, help=text)


json_option = _json_option("Print the result, or the error, as a JSON object.")
"""For a command without --format: its result has only one form for people and one for programs."""

json_format_option = _json_option("Same as --format json; errors are printed as JSON objects, too.")


def format_option(command: F) -> F:
    """Give `command` --format and --json; it gets the format of its results as `output_format`."""
    option = click.option(
        "--format",
        "output_format",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        callback=chosen_format,
        help="Output format: a table, JSON lines, or YAML.",
    )
    return option(json_format_option(command))


dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
"""For a command that does not move an instance."""


def _dry_run(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).dry_run = True


def outcome_options(command: F) -> F:
    """Give `command`, which moves an instance, --dry-run, --format and --json."""
    dry_run = click.option(
        "--dry-run",
        is_flag=True,
        expose_value=False,
        callback=_dry_run,
        help="Only say what would be done: transitions, files, the hypervisor's command line.",
    )
    return format_option(dry_run(command))


name_argument = click.argument("name", type=InstanceName())
optional_name_argument = click.argument("name", required=False, type=InstanceName())


on_failure_option = click.option(
    "--on-failure",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="What to do with a guest that does not answer in time.",
)


def timeout_option(what: str, default: str = "Default: the instance's own.") -> Callable[[F], F]:
    """Return the option --timeout; `what` says what it limits, and `default` which limit applies without it."""
    return click.option(
        "--timeout", "timeout_s", type=click.FloatRange(min=0.0), metavar="SECONDS", help=f"{what} {default}".rstrip()
    )
