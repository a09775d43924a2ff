"""Parameters that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..cli import Session

F = TypeVar("F", bound=Callable[..., Any])
"""A function that is, or becomes, a command."""

pass_session = click.make_pass_decorator(Session)


class InstanceName(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """The name of an instance; completed from those that exist. What a name may be is the engine's to say."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        from ..fsm.home import Home

        instances = Home.from_environment().instances
        names = (path.name for path in instances.iterdir()) if instances.is_dir() else ()
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete) and name[0] != "."]


class Size(click.ParamType):  # type: ignore[type-arg] # likewise
    """A size in bytes, given as `512MiB` or `4G`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ..templates.values import size_bytes

        try:
            number = size_bytes(value)
        except ValueError as error:
            self.fail(f"{error}, found {value!r}", param, ctx)
        return number


name_argument = click.argument("name", type=InstanceName())


def timeout_option(what: str) -> Callable[[F], F]:
    """Return the option --timeout; `what` says what happens when it has passed."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0.0),
        metavar="SECONDS",
        help=f"{what} Default: the instance's own.",
    )


def wishes_options(command: F) -> F:
    """Add the options that say what the template leaves open, or overrule it."""
    for option in reversed(
        (
            click.option("--driver", default="qemu", show_default=True, help="What runs it: qemu, simulated, ..."),
            click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Virtual processors."),
            click.option("--memory", "memory_bytes", type=Size(), help="Memory, such as 2GiB."),
            click.option("--disk", "disk_bytes", type=Size(), help="Size of the disk, such as 20GiB."),
            click.option("--arch", type=click.Choice(["x86_64", "aarch64"]), help="Default: this host's."),
            click.option("--user", help="Login in the guest; default: yours."),
        )
    ):
        command = option(command)
    return command
