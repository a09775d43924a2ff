"""The picture of the tests' coverage of the table: how often each row was taken from each source, and how it ended.

tests/tally.py counts while the tests run and writes tests/transitions.jsonl, from which docs/coverage.svg is drawn. The
possible outcomes of a row follow from its columns, so a new row gets its cells, and an empty cell fails a complete run.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple
from xml.sax.saxutils import escape

from ..fsm.states import State
from ..fsm.table import TABLE, By, Recovery, Row, Trigger


class Outcome(StrEnum):
    """How a transition can end once it has begun."""

    done = "done"
    failed = "failed"
    cancelled = "cancelled"
    finished = "finished"
    undone = "undone"


MEANING = {
    Outcome.done: "done",
    Outcome.failed: "failed",
    Outcome.cancelled: "called off",
    Outcome.finished: "crashed, then finished",
    Outcome.undone: "crashed, then undone",
}
"""Outcome → the title of its column in the picture."""

RECOVERED = {
    Recovery.roll_back: (Outcome.undone,),
    Recovery.probe: (Outcome.finished, Outcome.undone),
    Recovery.redo: (Outcome.finished,),
    Recovery.abandon: (Outcome.undone,),
    Recovery.let_run: (Outcome.finished, Outcome.undone),
}
"""Rule → how an operation that was cut short by a crash can end."""

SIMULATED, REAL = "simulated", "qemu"
"""The suites in the picture: simulated machines and real ones."""


class Cell(NamedTuple):
    """One outcome of one row from one source, in one suite."""

    suite: str
    trigger: Trigger
    source: State
    outcome: Outcome


def outcomes(row: Row) -> tuple[Outcome, ...]:
    """Return the possible outcomes of `row`. Work of the caller has no outcome: the engine only allows it."""
    if row.by is By.caller:
        return ()
    if row.observed:
        return (Outcome.done,)
    recovered = RECOVERED[row.on_crash] if row.on_crash else ()
    if row.on_crash is Recovery.let_run and row.dest is None:  # it saves no memory to finish the work from
        recovered = (Outcome.undone,)
    # Repeatable work of the engine on its own files ends at once and does not check for a signal.
    at_once = row.by is By.engine and row.on_crash is Recovery.redo and not row.needs
    return (Outcome.done, Outcome.failed, *(() if at_once else (Outcome.cancelled,)), *recovered)


def cells(suite: str) -> Iterator[Cell]:
    """Yield every cell of `suite` that is possible by the table, in the table's order."""
    for row in TABLE:
        for source in row.sources:
            for outcome in outcomes(row):
                yield Cell(suite, row.trigger, source, outcome)


def dumps(counts: Mapping[Cell, int]) -> str:
    """Return the counts as lines of JSON, in the table's order: suite, trigger, source, outcome, count."""
    lines = [
        json.dumps({**cell._asdict(), "count": counts[cell]}) + "\n"
        for suite in (SIMULATED, REAL)
        for cell in cells(suite)
        if counts.get(cell)
    ]
    return "".join(lines)


def loads(lines: Iterable[str]) -> dict[Cell, int]:
    """Return the counts that `dumps` wrote. Lines about triggers, states or outcomes of another table are left out."""
    possible = {tuple(map(str, cell)): cell for suite in (SIMULATED, REAL) for cell in cells(suite)}
    counts = {}
    for record in map(json.loads, lines):
        count = record.pop("count")
        if cell := possible.get(tuple(record.values())):
            counts[cell] = count
    return counts


# -- the picture -------------------------------------------------------------------------------------------------------

TITLE = "Each transition that the tests took, and how it ended"
MARGIN, LINE, LABEL, COLUMN = 24, 24, 232, 132
"""In units of the SVG: the margin, the height of a row, the width of the rows' names, and the width of a column."""

STYLE = """\
.coverage { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
.coverage text { fill: #1f2328 } .coverage .head { font-weight: 600 }
.coverage .small { fill: #57606a; font-size: 12px }
.coverage .paper { fill: #ffffff } .coverage .real { fill: #aceebb } .coverage .simulated { fill: #ddf4ff }
.coverage .never { fill: #ff8182 }
@media (prefers-color-scheme: dark) {
  .coverage text { fill: #f0f6fc } .coverage .small { fill: #9198a1 } .coverage .paper { fill: #0d1117 }
  .coverage .real { fill: #1a5c2e } .coverage .simulated { fill: #0c2d6b } .coverage .never { fill: #a40e26 }
}
"""

LEGEND = (
    ("real", "simulated machines · real ones"),
    ("simulated", "simulated machines only"),
    ("never", "never, though the table allows it"),
)


def svg(counts: Mapping[Cell, int]) -> str:
    """Return the picture: a line for each row and source, a column for each outcome, and the counts in the cells."""
    pairs = [(row, source) for row in TABLE if outcomes(row) for source in row.sources]
    width = 2 * MARGIN + LABEL + COLUMN * len(Outcome)
    top = MARGIN + 2 * LINE
    height = top + LINE * (len(pairs) + 2) + MARGIN
    drawn = [_text(MARGIN, MARGIN + LINE // 2, "row, source", "head")]
    for number, outcome in enumerate(Outcome):
        drawn += [
            _text(_left(number) + COLUMN // 2, MARGIN + LINE // 2 + 14 * line, words, "head", anchor="middle")
            for line, words in enumerate(_broken(MEANING[outcome]))
        ]
    for line, (row, source) in enumerate(pairs):
        y = top + LINE * line
        drawn.append(_text(MARGIN, y + LINE // 2, f"{row.trigger} from {source}"))
        for number, outcome in enumerate(Outcome):
            if outcome in outcomes(row):
                seen = [counts.get(Cell(suite, row.trigger, source, outcome), 0) for suite in (SIMULATED, REAL)]
                drawn.append(_cell(_left(number), y, f"{row.trigger} from {source}: {MEANING[outcome]}", seen))
    x, y = MARGIN, top + LINE * (len(pairs) + 1)
    for kind, words in LEGEND:
        drawn += [f'<rect class="{kind}" x="{x}" y="{y + 4}" width="16" height="16" rx="3"/>']
        drawn += [_text(x + 24, y + LINE // 2, words, "small")]
        x += 24 + 8 * len(words) + 24
    size = f'width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="coverage" {size} viewBox="0 0 {width} {height}"',
            ' role="img" aria-labelledby="coverage-title">',
            f'<title id="coverage-title">{TITLE}</title>',
            f"<style>\n{STYLE}</style>",
            f'<rect class="paper" {size} rx="9"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _cell(x: int, y: int, title: str, seen: list[int]) -> str:
    simulated, real = seen
    kind = "real" if real else "simulated" if simulated else "never"
    words = f"{simulated} · {real}" if real else str(simulated)
    box = f'<rect class="{kind}" x="{x + 2}" y="{y + 2}" width="{COLUMN - 4}" height="{LINE - 4}" rx="3"/>'
    count = _text(x + COLUMN // 2, y + LINE // 2, words, anchor="middle")
    return f"<g><title>{escape(title)}</title>{box}{count}</g>"


def _left(column: int) -> int:
    return MARGIN + LABEL + COLUMN * column


def _broken(words: str) -> list[str]:
    first, _, rest = words.partition(", ")
    return [f"{first},", rest] if rest else [words]


def _text(x: int, y: int, words: str, kind: str = "", *, anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x}" y="{y}" dy="0.35em" text-anchor="{anchor}">{escape(words)}</text>'
