"""Commands that take several instances: which ones are meant, and what happens to each.

The instances are worked on in parallel, each by its own thread, with no more threads than this host can handle. A
failure does not stop the others: it is reported when it happens, and the exit code is that of the first instance that
failed, in the order in which they were named.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from ..errors import CancelledError, InterlockError, UsageError
from ..fsm.table import BOOTS, BY_TRIGGER, Trigger
from .listing import KEYS, matching
from .options import F, InstanceName
from .session import Session
from .stdout import Format, print_result

if TYPE_CHECKING:
    from ..api import Interlock
    from ..fsm.engine import Outcome


class Which(TypedDict):
    """What `names_argument` and `format_option` pass to a command."""

    names: tuple[str, ...]
    everything: bool
    filters: tuple[tuple[str, str], ...]
    output_format: Format


Ask = Callable[["Interlock", str], "Outcome"]
"""The call that a command makes for each instance, by its name."""

UNCHOSEN = "name the instances, or choose them with --all or --filter"
"""The error of a command line that selects no instance."""

MANY = 32
"""How many instances are worked on at once if no guest is booted, which costs the host little."""


class Filter(click.ParamType):  # type: ignore[type-arg] # generic in newer releases of click
    """A condition on instances: KEY=PATTERN, with a key of `list --format json`."""

    name = "filter"
    completes = tuple(sorted(f"{key}=" for key in KEYS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, pattern = str(value).partition("=")
        if not equals or key not in KEYS:
            self.fail(f"{value!r}: expected KEY=PATTERN, where KEY is one of {', '.join(sorted(KEYS))}", param, ctx)
        return key, pattern


filter_option = click.option(
    "--filter",
    "filters",
    type=Filter(),
    multiple=True,
    metavar="KEY=PATTERN",
    help="Instances with a matching key of `list --format json`: state=running. All filters must match.",
)


def names_argument(function: F) -> F:
    """Give a command any number of NAMES, `--all` and `--filter`; `each` determines which instances are meant."""
    everything = click.option("--all", "-a", "everything", is_flag=True, help="All instances.")
    return click.argument("names", nargs=-1, type=InstanceName())(everything(filter_option(function)))


def each(session: Session, trigger: Trigger, ask: Ask, **which: Unpack[Which]) -> "list[Outcome]":
    """Call `ask` for each instance that is meant, print the outcomes for programs, and return them.

    If one failed, end the command with the exit code of the first that failed.
    """
    chosen = _chosen(session, trigger, which)
    if len(chosen) != 1:
        return _at_once(session, trigger, ask, chosen, which["output_format"])
    session.bind(chosen[0], trigger)
    outcome = ask(session.interlock, chosen[0])
    print_result(outcome, which["output_format"])
    return [outcome]


def _chosen(session: Session, trigger: Trigger, which: Which) -> list[str]:
    """Return the names of the instances that are meant."""
    names, everything, filters = which["names"], which["everything"], which["filters"]
    if names and (everything or filters):
        raise UsageError(f"{UNCHOSEN}, but not both", hint="interlock list")
    if names:
        return list(dict.fromkeys(names))
    if not everything and not filters:
        raise UsageError(UNCHOSEN, hint="interlock list")
    found = [status.name for status in matching(session.interlock.instances(), filters)]
    if not found:
        conditions = " ".join("=".join(condition) for condition in filters)
        session.report(f"no instance {f'matches {conditions}' if filters else 'exists'}: nothing to {trigger}")
    return found


def _at_once(
    session: Session, trigger: Trigger, ask: Ask, chosen: Sequence[str], output_format: Format
) -> "list[Outcome]":
    from concurrent.futures import ThreadPoolExecutor, as_completed

    def work(name: str) -> "Outcome":
        return ask(session.about_one(name, trigger).interlock, name)

    workers = (os.cpu_count() or 1) if BY_TRIGGER[trigger] is BOOTS else MANY
    failures: dict[str, Exception] = {}
    outcomes = []
    with ThreadPoolExecutor(max(1, min(workers, len(chosen)))) as threads:
        asked = {threads.submit(work, name): name for name in chosen}
        for done in as_completed(asked):
            name = asked[done]
            error = done.exception()
            if error is None:
                outcomes.append(done.result())
                print_result(outcomes[-1], output_format)
            elif isinstance(error, Exception):
                failures[name] = error
                if isinstance(error, InterlockError) and not isinstance(error, CancelledError):
                    session.complain(error, name)
            else:
                raise error
    if failures:
        first = next(failures[name] for name in chosen if name in failures)
        if isinstance(first, CancelledError) or not isinstance(first, InterlockError):
            raise first
        click.get_current_context().exit(first.exit_code)
    return outcomes
