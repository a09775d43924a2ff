"""What `list` and `can` print. click is not imported here, because the import takes longer than either command."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError
from ..fsm import words
from ..fsm.records import Status
from ..fsm.states import State
from .stdout import Format, print_records, print_table, size, write
from .terminal import printable

if TYPE_CHECKING:
    from .session import Session

ILLEGAL = 3
"""Exit code of `can NAME TRIGGER` if the trigger is refused: that of illegal-transition."""


KEYS = frozenset(Status("", State.absent, Path()).to_json())
"""The keys of a record of `list --format json`."""

COLUMNS: dict[str, Callable[[Status], str]] = {
    "NAME": lambda status: status.name,
    "ARCH": lambda status: status.spec.arch if status.spec else "-",
    "CPUS": lambda status: str(status.spec.cpus) if status.spec else "-",
    "MEMORY": lambda status: size(status.spec.memory_bytes) if status.spec else "-",
    "DISK": lambda status: size(status.spec.disk_bytes) if status.spec else "-",
    "SSH": lambda status: str((status.observation and status.observation.ssh_port) or "-"),
    "STATUS": words.status,
}
"""Column title → its text in the table. STATUS is last, because its length varies most."""


class Listing(NamedTuple):
    """How instances are listed."""

    output_format: Format = "table"
    """Or a Go template, which prints a line for each instance."""
    filters: Sequence[tuple[str, str]] = ()
    sort: str = "name"
    """A key of the record; with a leading `-`, in reverse order."""
    columns: Sequence[str] = tuple(COLUMNS)


def list_instances(session: "Session", names: Sequence[str] = (), listing: Listing = Listing()) -> None:  # noqa: B008 - it is immutable
    """Print the instances `names`, or all; raise NotFoundError if one of `names` does not exist."""
    interlock = session.interlock
    if not names:
        shown = _print_statuses(session, interlock.instances(), listing)
        if not shown and sys.stdout.isatty() and not listing.filters:
            session.report("no instances; this makes one: interlock create web --template debian")
        return
    asked = [interlock.status(name) for name in names]
    _print_statuses(session, [status for status in asked if status.exists], listing)
    missing = [status.name for status in asked if not status.exists]
    for absent in missing[:-1]:
        session.complain(interlock.engine.not_found(absent), absent)
    if missing:
        session.about["instance"] = missing[-1]
        raise interlock.engine.not_found(missing[-1])


def show_verdicts(session: "Session", name: str, trigger: str | None = None, output_format: Format = "table") -> int:
    """Print what is legal for `name`, or whether `trigger` is legal, which the returned exit code says too."""
    verdicts = session.interlock.can(name)
    if trigger is not None:
        verdicts = [verdict for verdict in verdicts if verdict.trigger == trigger]
    typed = (verdict._replace(hint=verdict.hint and session.typed(verdict.hint)) for verdict in verdicts)
    print_records(
        (verdict.to_json() for verdict in typed),
        output_format,
        (
            ("TRIGGER", lambda record: record["trigger"]),
            ("LEGAL", lambda record: "yes" if record["legal"] else "already" if record["holds"] else "no"),
            ("COMMAND", lambda record: record["hint"] or "-"),
            ("WHY", lambda record: record["why"]),
        ),
    )
    return 0 if trigger is None or verdicts[0].legal or verdicts[0].holds else ILLEGAL


def _print_statuses(session: "Session", statuses: Iterable[Status], listing: Listing) -> bool:
    """Print `statuses`, for programs each one as it is read; return False for a table that would have no rows."""
    chosen = _sorted(matching(statuses, listing.filters), listing.sort)
    if "{{" in listing.output_format:
        _print_by_template(chosen, listing.output_format)
        return True
    if listing.output_format != "table":
        print_records((status.to_json() for status in chosen), listing.output_format, ())
        return True
    shown = list(chosen)
    if shown:
        print_table(listing.columns, [[cell(status, title) for title in listing.columns] for status in shown])
    for status in shown:
        propose_repair(session, status)
    return bool(shown)


def _print_by_template(statuses: Iterable[Status], template: str) -> None:
    from .go_template import compiled

    render = compiled(template, KEYS | {"status"})
    for status in statuses:
        try:
            text = render({**status.to_json(), "status": words.status(status)})
        except ValueError as error:
            raise UsageError(f"--format: {error}") from error
        write(printable(text) + "\n")


def _sorted(statuses: Iterable[Status], sort: str) -> Iterable[Status]:
    """Return `statuses` sorted by a key; those without a value come last."""
    if sort == "name":
        return statuses  # they are sorted by name already
    key = sort.removeprefix("-")
    known = [(status.to_json()[key], status) for status in statuses]
    with_value = [pair for pair in known if pair[0] is not None]
    with_value.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return [status for _, status in (*with_value, *(pair for pair in known if pair[0] is None))]


def matching(statuses: Iterable[Status], filters: Sequence[tuple[str, str]]) -> Iterable[Status]:
    """Yield those of `statuses` that match all `filters`, each a key and a pattern."""
    if not filters:
        return statuses
    from fnmatch import fnmatchcase

    records = ((status, status.to_json()) for status in statuses)
    return (
        status for status, known in records if all(fnmatchcase(_text(known[key]), pattern) for key, pattern in filters)
    )


def _text(value: object) -> str:
    """Return a value of a record as a filter sees it: as in JSON, without quotes."""
    return {None: "null", True: "true", False: "false"}.get(value) or str(value)  # type: ignore[call-overload]


def propose_repair(session: "Session", status: Status) -> None:
    """Propose the command that fixes or removes the instance if it is damaged."""
    if status.damage:
        session.hint(session.interlock.engine.way_out(status.name), why=status.damage, instance=status.name)


def cell(status: Status, title: str) -> str:
    """Return the text of the column `title`; every key of the record is a column, too."""
    if title in COLUMNS:
        return COLUMNS[title](status)
    value = status.to_json()[title.lower()]
    return "-" if value is None else _text(value)
