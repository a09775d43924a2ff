"""How records are printed on stdout: as an aligned table for people, as JSON or YAML for programs.

JSON is one object per line, so that a listing can be read as it arrives and ends cleanly after any line. Tables are
aligned here and not by rich, whose tables would take three times as long as all of `list`.
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
"""One of them."""

Record = dict[str, Any]

_FOLDED = 24
"""The least width of a folded column; with less, it goes beneath the row..."""

_INDENT = 4
"""...this far from the margin."""

_TIMES = ("_at", "since", "deadline")
"""How the keys of times end in our records; JSON and YAML have them in UTC."""

COLOURS = {"running": 32, "damaged": 31, "starting": 33, "stopping": 33, "creating": 33}
"""By the first word of a status line, as a parameter of SGR; others keep the terminal's own colour. Source: ECMA-48."""


def write(text: str) -> None:
    """Write `text` to stdout, now: a program may wait for it."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_schema(schema: dict[str, Any], *, as_json: bool) -> None:
    """Print a JSON Schema: on one line with `as_json`, else indented, for a file."""
    write(json.dumps(schema, indent=None if as_json else 2) + "\n")


def print_records(
    records: Iterable[Record], output_format: Format, columns: Sequence[tuple[str, Callable[[Record], str]]]
) -> None:
    """Print `records`; `columns` are (title, text of a record) of the table form, which hides what has no column."""
    if output_format == "table":
        rows = [[text(record) for _, text in columns] for record in records]
        if rows:
            print_table([title for title, _ in columns], rows)
        return
    for record in records:
        print_record(record, output_format)


def print_record(record: Record, output_format: Format) -> None:
    """Print one record as JSON or YAML, or as `key  value` lines.

    JSON is ASCII: whatever a guest or a file name put into it, no terminal interprets it and any encoding can show it.
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
    """What came of a command."""

    def to_json(self) -> Record: ...


def print_result(result: Result, output_format: Format) -> None:
    """Print the result of a command for programs; people have read it on stderr. That of a dry run is for both."""
    if output_format != "table":
        print_record(result.to_json(), output_format)
    else:
        write("".join(f"{line}\n" for step in getattr(result, "steps", None) or () for line in _foreseen(step)))


def _foreseen(step: "Step") -> Iterator[str]:
    """Yield the lines of a dry run about `step`."""
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

    On a terminal that is too narrow, what does not fit on the line is folded; elsewhere, a row is one line.
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
    """How the rows of a table that is wider than the terminal continue."""

    kept: int
    """The number of columns that stay as they are."""
    indent: int
    width: int
    beside: bool
    """True when the rest begins on the row's own line, in a column as wide as the terminal has room; else beneath."""

    def lines(self, row: Sequence[str]) -> list[str]:
        """Return the cells that are not kept, each begun on a line of its own. Words, such as paths, stay whole."""
        import textwrap

        margin = " " * self.indent
        wrapper = textwrap.TextWrapper(
            self.width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
        )
        return [line for cell in row[self.kept :] for line in wrapper.wrap(cell)]


def _fold(widths: Sequence[int]) -> _Fold | None:
    """Return how to fold a table with columns of `widths` for this terminal; None when there is room for it."""
    width, end = columns(sys.stdout), -2
    for number, column in enumerate(widths):
        start, end = end + 2, end + 2 + column
        if end > width:
            beside = width - start >= _FOLDED
            return _Fold(number, start if beside else _INDENT, width, beside)
    return None


def size(number: int | None) -> str:
    """Return bytes as people read them: `512 MiB`, `1.5 GiB`, `-` for what is not known."""
    return "-" if number is None else sizes.in_words(number)


def local_time(moment: str) -> str:
    """Return the ISO 8601 `moment` as the clock on the wall shows it, with its offset: `2026-03-01 14:02:59 +0100`."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError):
        return moment


def _coloured(cell: str) -> str:
    """Return `cell` with its first word in that word's colour, if it has one."""
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
    """Return a fact as people read it: by the names of our records, times end in `_at` or are `since` or a deadline."""
    return local_time(value) if key.endswith(_TIMES) and isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    """Return `value` with plain strings in place of enum members, which YAML would write as Python objects."""
    return json.loads(json.dumps(value))
