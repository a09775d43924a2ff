"""What `list` and `can` print. click is not loaded here: it costs more than either of them does."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..fsm import words
from .stdout import Format, print_records, print_table, size

if TYPE_CHECKING:
    from ..fsm.records import Status
    from .session import Session

ILLEGAL = 3
"""Exit code of `can NAME TRIGGER` when the table has no such row: that of illegal-transition."""


def list_instances(session: "Session", names: Sequence[str] = (), output_format: Format = "table") -> None:
    """Print the instances `names`, or all; raise NotFoundError when there is no instance of one of them."""
    interlock = session.interlock
    if not names:
        if not _print_statuses(session, interlock.instances(), output_format) and sys.stdout.isatty():
            session.report("no instances; this makes one: interlock create web --template debian")
        return
    asked = [interlock.status(name) for name in names]
    _print_statuses(session, [status for status in asked if status.exists], output_format)
    missing = [status.name for status in asked if not status.exists]
    for absent in missing[:-1]:
        session.complain(interlock.engine.not_found(absent), absent)
    if missing:
        session.about["instance"] = missing[-1]
        raise interlock.engine.not_found(missing[-1])


def show_verdicts(session: "Session", name: str, trigger: str | None = None, output_format: Format = "table") -> int:
    """Print what is legal for `name`, or whether `trigger` is; return the exit code, which says the latter."""
    verdicts = session.interlock.can(name)
    if trigger is not None:
        verdicts = [verdict for verdict in verdicts if verdict.trigger == trigger]
    print_records(
        (verdict.to_json() for verdict in verdicts),
        output_format,
        (
            ("TRIGGER", lambda record: record["trigger"]),
            ("LEGAL", lambda record: "yes" if record["legal"] else "already" if record["holds"] else "no"),
            ("COMMAND", lambda record: record["hint"] or "-"),
            ("WHY", lambda record: record["why"]),
        ),
    )
    return 0 if trigger is None or verdicts[0].legal or verdicts[0].holds else ILLEGAL


def _print_statuses(session: "Session", statuses: "Iterable[Status]", output_format: Format) -> bool:
    """Print `statuses`, for programs each as it is read; return False for a table that would have no row."""
    if output_format != "table":
        print_records((status.to_json() for status in statuses), output_format, ())
        return True
    shown = list(statuses)
    rows = [_row(status) for status in shown]
    if rows:
        print_table(("NAME", "ARCH", "CPUS", "MEMORY", "DISK", "SSH", "STATUS"), rows)
    for status in shown:
        propose_repair(session, status)
    return bool(rows)


def propose_repair(session: "Session", status: "Status") -> None:
    """Propose the way out to people when an instance is damaged."""
    if status.damage:
        session.hint(session.interlock.engine.way_out(status.name), why=status.damage, instance=status.name)


def _row(status: "Status") -> list[str]:
    spec, seen = status.spec, status.observation
    port = seen.ssh_port if seen and seen.alive else None
    return [
        status.name,
        spec.arch if spec else "-",
        str(spec.cpus) if spec else "-",
        size(spec.memory_bytes) if spec else "-",
        size(spec.disk_bytes) if spec else "-",
        str(port) if port else "-",
        # Last, because it is as long as what there is to say.
        words.status(status),
    ]
