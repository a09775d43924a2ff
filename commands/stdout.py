"""How records are printed on stdout: as an aligned table for people, as JSON or YAML for programs.

JSON is one object per line, so a listing can be read as it arrives and can be cut after any line. Tables are aligned
here and not by rich, whose tables would take three times as long as all of `list`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..host import sizes
from .terminal import columns, printable, styled, wrapped

if TYPE_CHECKING:
    from ..fsm.records import Step

FORMATS = ("table", "json", "yaml")
Format = str
"""One of the formats."""

Record = dict[str, Any]

_FOLDED = 24
"""The minimal width of a folded column; with less room, it is printed below the row."""

_INDENT = 4
"""The indentation of a column that is printed below its row."""

_TIMES = ("_at", "since", "deadline")
"""The endings of keys whose values are times; JSON and YAML have them in UTC."""

COLOURS = {"running": 32, "damaged": 31, "starting": 33, "stopping": 33, "creating": 33}
"""First word of a status line → its colour, as a parameter of SGR; other words have no colour. Source: ECMA-48."""


def write(text: str) -> None:
    """Write `text` to stdout and flush it, because a program may be waiting for it."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_schema(schema: dict[str, Any], *, as_json: bool) -> None:
    """Print a JSON Schema: on one line with `as_json`, else indented, for a file."""
    write(json.dumps(schema, indent=None if as_json else 2) + "\n")


def print_records(
    records: Iterable[Record], output_format: Format, columns: Sequence[tuple[str, Callable[[Record], str]]]
) -> None:
    """Print `records`; `columns` are (title, text of a record) for the table, which hides keys without a column."""
    if output_format == "table":
        rows = [[text(record) for _, text in columns] for record in records]
        if rows:
            print_table([title for title, _ in columns], rows)
        return
    for record in records:
        print_record(record, output_format)


def print_record(record: Record, output_format: Format) -> None:
    """Print one record as JSON or YAML, or as `key  value` lines.

    JSON is ASCII, so that no terminal interprets text from a guest or a file name, and any encoding can show it.
    """
    if output_format == "json":
        write(json.dumps(record) + "\n")
    elif output_format == "yaml":
        import yaml

        write("---\n" + yaml.safe_dump(_plain(record), sort_keys=False, allow_unicode=True))
    else:
        flat = list(_flat(record))
        width = max(len(key) for key, _ in flat)
        for key, value in flat:
            indented = value.rstrip("\n").replace("\n", "\n" + " " * (width + 2))
            write(wrapped(f"{key:<{width}}  {indented}".rstrip(), sys.stdout, width + 2) + "\n")


class Result(Protocol):
    """The result of a command."""

    def to_json(self) -> Record: ...


def print_result(result: Result, output_format: Format) -> None:
    """Print the result of a command for programs, as people have read it on stderr; print a dry run for both."""
    if output_format != "table":
        print_record(result.to_json(), output_format)
    else:
        write("".join(f"{line}\n" for step in getattr(result, "steps", None) or () for line in _foreseen(step)))


def _foreseen(step: "Step") -> Iterator[str]:
    """Yield the lines about `step` of a dry run."""
    import shlex

    from ..fsm import words

    effects = step.effects
    yield words.foreseen(step)
    for label, texts in (("makes", effects.appear), ("removes", effects.vanish), ("note", effects.notes)):
        for text in texts:
            yield f"  {label:<7}  {printable(text)}"
    if effects.command:
        yield f"  {'runs':<7}  {printable(shlex.join(effects.command))}"


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` under `titles`, with two spaces between columns and no padding after the last.

    On a terminal that is too narrow, the columns that do not fit are folded; elsewhere, a row is one line.
    """
    table = [titles, *([printable(cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    terminal = sys.stdout.isatty()
    colour = styled(sys.stdout)
    fold = _fold(widths) if terminal else None
    lines = []
    for row in table:
        kept, rest = (row[: fold.kept], fold.lines(row)) if fold else (row, [])
        cells = [f"{cell:<{width}}" for cell, width in zip(kept, widths, strict=False)]
        if fold and fold.beside and rest:
            cells.append(rest.pop(0).lstrip())
        lines.append("  ".join([_coloured(cell) if colour else cell for cell in cells]).rstrip())
        lines += rest
    write("\n".join(lines) + "\n")


class _Fold(NamedTuple):
    """How to fold the rows of a table that is wider than the terminal."""

    kept: int
    """The number of columns that stay as they are."""
    indent: int
    width: int
    beside: bool
    """True if the rest begins on the line of the row, in the remaining width; False if it is below the row."""

    def lines(self, row: Sequence[str]) -> list[str]:
        """Return the lines of the cells that are not kept, each cell on new lines. Words, such as paths, stay whole."""
        import textwrap

        margin = " " * self.indent
        wrapper = textwrap.TextWrapper(
            self.width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
        )
        return [line for cell in row[self.kept :] for line in wrapper.wrap(cell)]


def _fold(widths: Sequence[int]) -> _Fold | None:
    """Return how to fold a table with columns of `widths` for this terminal; None if it fits."""
    width, end = columns(sys.stdout), -2
    for number, column in enumerate(widths):
        start, end = end + 2, end + 2 + column
        if end > width:
            beside = width - start >= _FOLDED
            return _Fold(number, start if beside else _INDENT, width, beside)
    return None


def size(number: int | None) -> str:
    """Return bytes as people read them: `512 MiB`, `1.5 GiB`, `-` for an unknown size."""
    return "-" if number is None else sizes.in_words(number)


def local_time(moment: str) -> str:
    """Return the ISO 8601 `moment` in local time, with the offset: `2026-03-01 14:02:59 +0100`."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError):
        return moment


def _coloured(cell: str) -> str:
    """Return `cell` with its first word in the colour of that word, if it has one."""
    word = cell.split(" ", 1)[0]
    return f"\x1b[{COLOURS[word]}m{word}\x1b[0m{cell[len(word) :]}" if word in COLOURS else cell


def _flat(record: Record, prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                yield from _flat(item, f"{prefix}{key}[{number}].")
        elif isinstance(value, list):
            yield prefix + key, printable(", ".join(str(item) for item in value))
        else:
            yield prefix + key, "-" if value is None else printable(_shown(key, value))


def _shown(key: str, value: Any) -> str:
    """Return a value as people read it; the endings of our keys show which values are times."""
    return local_time(value) if key.endswith(_TIMES) and isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    """Return `value` with plain strings in place of enum members, which YAML would write as Python objects."""
    return json.loads(json.dumps(value))
