"""The table in other languages: drawings for a terminal, a browser and two diagram tools, prose, and data.

Each function takes the state of an instance, which it marks, or None. Names, reasons and rules are read from the table
on each call: the words in this module are about drawing, not about the lifecycle.
"""

import json as jsonlib
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

from ..fsm import table, words
from ..fsm.states import PROMISE, State
from ..fsm.table import RULE, Row
from .layout import INITIAL, Arrow, Box, Label, Point, drawing, edges

TITLE = "The lifecycle of an instance"
LEGEND = "observed, not asked for"


# -- a terminal --------------------------------------------------------------------------------------------------------

LEFT, RIGHT, UP, DOWN = (-1, 0), (1, 0), (0, -1), (0, 1)
HEADS = {LEFT: "◄", RIGHT: "►", UP: "▲", DOWN: "▼"}  # none of these has an emoji's double width anywhere
LINES = {
    frozenset({LEFT, RIGHT}): "─",
    frozenset({UP, DOWN}): "│",
    frozenset({RIGHT, DOWN}): "╭",
    frozenset({LEFT, DOWN}): "╮",
    frozenset({RIGHT, UP}): "╰",
    frozenset({LEFT, UP}): "╯",
}
DASHED = {"─": "╌", "│": "┆"}
PLAIN_BOX, CURRENT_BOX = "┌─┐│└┘", "╔═╗║╚╝"


def text(current: State | None = None) -> str:
    """Return a drawing in box characters; a double border marks `current`."""
    plan = drawing()
    cells = [[" "] * plan.columns for _ in range(plan.rows)]
    for box in plan.boxes:
        _paint_box(cells, box, CURRENT_BOX if box.state is current else PLAIN_BOX)
    for arrow in plan.arrows:
        _paint_arrow(cells, arrow)
    lines = ["".join(row).rstrip() for row in cells]
    if any(arrow.dashed for arrow in plan.arrows):
        lines += ["", f"╌╌► {LEGEND}"]
    lines += ["", *(line for note in asides() for line in textwrap.wrap(note, plan.columns))] if asides() else []
    return "\n".join(lines) + "\n"


def _paint_box(cells: list[list[str]], box: Box, border: str) -> None:
    (left, top), (right, bottom) = box.top_left, box.bottom_right
    top_left, across, top_right, down, bottom_left, bottom_right = tuple(border)
    inside = across * (right - left - 1)
    cells[top][left : right + 1] = top_left + inside + top_right
    cells[bottom][left : right + 1] = bottom_left + inside + bottom_right
    for row in cells[top + 1 : bottom]:
        row[left] = row[right] = down
    _paint_label(cells, box.label)


def _paint_label(cells: list[list[str]], label: Label, margin: str = "") -> None:
    written, begin = f"{margin}{label.text}{margin}", label.at.column - len(margin)
    cells[label.at.row][begin : begin + len(written)] = written


def _paint_arrow(cells: list[list[str]], arrow: Arrow) -> None:
    """Paint `arrow` between the borders that it joins, with its head before the second one."""
    path = _path(arrow)
    for before, (column, row), after in zip(path, path[1:], path[2:], strict=False):
        line = LINES[frozenset({(before.column - column, before.row - row), (after.column - column, after.row - row)})]
        cells[row][column] = DASHED.get(line, line) if arrow.dashed else line
    (column, row), end = path[-2:]
    cells[row][column] = HEADS[end.column - column, end.row - row]
    if arrow.edge is None:
        cells[path[0].row][path[0].column] = "●"
    for label in arrow.labels:
        _paint_label(cells, label, margin=" ")


def _path(arrow: Arrow) -> list[Point]:
    """Return every cell that `arrow` passes, both ends included."""
    path = [arrow.points[0]]
    for column, row in arrow.points[1:]:
        while path[-1] != (column, row):
            here = path[-1]
            path.append(Point(here.column + _sign(column - here.column), here.row + _sign(row - here.row)))
    return path


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


# -- a browser ---------------------------------------------------------------------------------------------------------

CELL_WIDTH, CELL_HEIGHT = 9.0, 20.0
LETTER_WIDTH = 8.4
"""The width of a letter in the labels: 0.6 of the height of their monospaced font, 14 px."""
MARGIN = 24.0
CORNER = 9.0

STYLE = """\
.lifecycle { color: #57606a; font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
.lifecycle .paper { fill: #ffffff }
.lifecycle .line { fill: none; stroke: currentColor; stroke-width: 1.5 }
.lifecycle .observed { stroke-dasharray: 5 4 }
.lifecycle .head, .lifecycle .dot { fill: currentColor }
.lifecycle .trigger { fill: #1f2328 }
.lifecycle .legend { fill: currentColor; font-size: 12px }
.lifecycle .box { fill: #f6f8fa; stroke: currentColor; stroke-width: 1.5 }
.lifecycle .state { fill: #1f2328; font-weight: 600; text-anchor: middle }
.lifecycle .current .box { fill: #ddf4ff; stroke: #0969da; stroke-width: 3 }
.lifecycle .current .state { fill: #0550ae }
@media (prefers-color-scheme: dark) {
  .lifecycle { color: #9198a1 }
  .lifecycle .paper { fill: #0d1117 }
  .lifecycle .trigger, .lifecycle .state { fill: #f0f6fc }
  .lifecycle .box { fill: #21262d }
  .lifecycle .current .box { fill: #0c2d6b; stroke: #58a6ff }
  .lifecycle .current .state { fill: #cae8ff }
}
"""
"""The drawing has its own background, so that it is legible on a page that ignores the reader's colour scheme."""

MARKER = """\
<marker id="lifecycle-head" viewBox="0 0 10 10" markerWidth="10" markerHeight="10" markerUnits="userSpaceOnUse"
 refX="10" refY="5" orient="auto"><path class="head" d="M0 1 L10 5 L0 9 Z"/></marker>"""
HEAD = 'marker-end="url(#lifecycle-head)"'
"""Turns a path into an arrow. The tip of the marker is at the end of the path, on the border of a box."""


def svg(current: State | None = None) -> str:
    """Return a self-contained drawing in the reader's light or dark colours; a heavy border marks `current`."""
    plan = drawing()
    row, legend = plan.rows, []
    if any(arrow.dashed for arrow in plan.arrows):
        legend.append(_legend(row))
        row += 2
    notes = asides()
    legend += [_note(row + number, note) for number, note in enumerate(notes)]
    width = plan.columns * CELL_WIDTH + 2 * MARGIN
    height = (row + len(notes) + 1) * CELL_HEIGHT + 2 * MARGIN
    size = f'width="{width:g}" height="{height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lifecycle" {size} viewBox="0 0 {width:g} {height:g}"',
            ' role="img" aria-labelledby="lifecycle-title lifecycle-desc">',
            f'<title id="lifecycle-title">{TITLE}</title>',
            f'<desc id="lifecycle-desc">{escape(prose(current))}</desc>',
            f"<style>\n{STYLE}</style>",
            MARKER,
            f'<rect class="paper" {size} rx="{CORNER:g}"/>',
            *(_svg_arrow(arrow) for arrow in plan.arrows),
            *(_svg_box(box, current=box.state is current) for box in plan.boxes),
            *legend,
            "</svg>\n",
        ]
    )


def asides() -> list[str]:
    """Return the remarks about rows that do not move the state and so have no arrow: a line for each set of states."""
    by_sources: dict[tuple[State, ...], list[str]] = {}
    for row in table.TABLE:
        if row.dest is None and row.sources:
            by_sources.setdefault(row.sources, []).append(row.trigger)
    return [f"in {words.listed(where)}, staying there: {', '.join(triggers)}" for where, triggers in by_sources.items()]


def prose(current: State | None = None) -> str:
    """Return the diagram in sentences, for people who cannot see it."""
    said = [f"A life begins in {INITIAL}."]
    for edge in edges():
        which = f" ({LEGEND})" if edge.observed else ""
        way = f"stays in {edge.dest}" if edge.steps == 0 else f"leads from {edge.source} to {edge.dest}"
        said += [f"{trigger.capitalize()} {way}{which}." for trigger in edge.triggers]
    said += [f"{note[0].upper()}{note[1:]}." for note in asides()]
    if current:
        said.append(f"This instance is {current}.")
    return " ".join(said)


def _svg_box(box: Box, *, current: bool) -> str:
    (left, top), (right, bottom) = map(_pixel, (box.top_left, box.bottom_right))
    width, height = right - left, bottom - top
    x, y = left + width / 2, _pixel(box.label.at)[1]
    return (
        f'<g class="{"current" if current else "other"}"><title>{escape(PROMISE[box.state])}</title>'
        f'<rect class="box" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="{CORNER:g}"/>'
        f'<text class="state" x="{x:g}" y="{y:g}" dy="0.35em">{box.state}</text></g>'
    )


def _svg_arrow(arrow: Arrow) -> str:
    kind = "line observed" if arrow.dashed else "line"
    line = f'<path class="{kind}" d="{_svg_path([_pixel(point) for point in arrow.points])}" {HEAD}/>'
    if arrow.edge is None:
        x, y = _pixel(arrow.points[0])
        return f'<g>{line}<circle class="dot" cx="{x:g}" cy="{y:g}" r="6"/></g>'
    why = "\n".join(f"{row.trigger}: {row.why}" for row in arrow.edge.rows)
    return f"<g><title>{escape(why)}</title>{line}{''.join(map(_svg_label, arrow.labels))}</g>"


def _svg_path(pixels: list[tuple[float, float]]) -> str:
    """Return a path through `pixels` with rounded corners."""
    parts = [f"M{pixels[0][0]:g} {pixels[0][1]:g}"]
    for (x0, y0), (x, y), (x1, y1) in zip(pixels, pixels[1:], pixels[2:], strict=False):
        begin = x + CORNER * _sign(round(x0 - x)), y + CORNER * _sign(round(y0 - y))
        end = x + CORNER * _sign(round(x1 - x)), y + CORNER * _sign(round(y1 - y))
        parts.append(f"L{begin[0]:g} {begin[1]:g} Q{x:g} {y:g} {end[0]:g} {end[1]:g}")
    parts.append(f"L{pixels[-1][0]:g} {pixels[-1][1]:g}")
    return " ".join(parts)


def _svg_label(label: Label) -> str:
    """Return the text on a piece of background that interrupts the line under it."""
    cells = len(label.text)
    x, y = label.at.column * CELL_WIDTH + cells * CELL_WIDTH / 2 + MARGIN, _pixel(label.at)[1]
    width, height = cells * LETTER_WIDTH + CELL_WIDTH, CELL_HEIGHT
    return (
        f'<rect class="paper" x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}"/>'
        f'<text class="trigger" text-anchor="middle" x="{x:g}" y="{y:g}" dy="0.35em">{escape(label.text)}</text>'
    )


def _legend(rows: int) -> str:
    begin, end = _pixel(Point(0, rows + 1)), _pixel(Point(4, rows + 1))
    return (
        f'<path class="line observed" d="{_svg_path([begin, end])}" {HEAD}/>'
        f'<text class="legend" x="{end[0] + CELL_WIDTH:g}" y="{end[1]:g}" dy="0.35em">{LEGEND}</text>'
    )


def _note(row: int, text: str) -> str:
    x, y = _pixel(Point(0, row + 1))
    return f'<text class="legend" x="{x:g}" y="{y:g}" dy="0.35em">{escape(text)}</text>'


def _pixel(point: Point) -> tuple[float, float]:
    """Return the centre of the cell `point`, in units of the SVG."""
    return MARGIN + (point.column + 0.5) * CELL_WIDTH, MARGIN + (point.row + 0.5) * CELL_HEIGHT


# -- diagram tools -----------------------------------------------------------------------------------------------------


def mermaid(current: State | None = None) -> str:
    """Return a Mermaid flowchart. Its state diagrams would say more, but they cannot draw a dashed arrow."""
    lines = ["flowchart LR", f"  begin(( )) --> {INITIAL}"]
    lines += [f"  {state}({state})" for state in State]
    looping = {edge.source for edge in edges() if edge.steps == 0}
    for edge in edges():
        # Mermaid writes the label of a loop to the right of its state, over the label of a short arrow that starts
        # there. With two such arrows, one would still be in the way; a longer loop puts its label between them.
        longer = edge.steps >= 0 and edge.source in looping
        begin, end = ("-.", "..->" if longer else ".->") if edge.observed else ("--", "--->" if longer else "-->")
        lines.append(f'  {edge.source} {begin} "{edge.label}" {end} {edge.dest}')
    if asides():
        lines += [f'  asides["{"<br/>".join(asides())}"]', "  style asides fill:none,stroke:none"]
    if current:
        lines.append(f"  style {current} stroke-width:4px")
    return "\n".join(lines) + "\n"


def dot(current: State | None = None) -> str:
    """Return a graph for Graphviz."""
    lines = [
        "digraph lifecycle {",
        "  rankdir=LR; bgcolor=transparent",
        '  node [shape=box, style=rounded, fontname="Helvetica", color="#57606a", fontcolor="#57606a"]',
        '  edge [fontname="Courier", color="#57606a", fontcolor="#57606a"]',
        '  begin [shape=point, width=0.15, label=""]',
    ]
    lines += [f"  {state} [penwidth=3]" if state is current else f"  {state}" for state in State]
    lines.append(f"  begin -> {INITIAL}")
    for edge in edges():
        style = ", style=dashed" if edge.observed else ""
        lines.append(f'  {edge.source} -> {edge.dest} [label="{edge.label}"{style}]')
    if asides():
        label = r"\n".join(asides())
        lines.append(f'  label="{label}"; labelloc=b; fontname="Courier"; fontsize=10; fontcolor="#57606a"')
    return "\n".join([*lines, "}"]) + "\n"


# -- prose and data ----------------------------------------------------------------------------------------------------


def markdown(current: State | None = None) -> str:
    """Return the diagram, the states and the rows as GitHub renders them."""
    where = f"\nThis instance is **{current}**.\n" if current else ""
    return f"# {TITLE}\n{where}\n```mermaid\n{mermaid(current)}```\n\n{states_table(current)}\n{rows_table()}"


def states_table(current: State | None = None) -> str:
    """Return a Markdown table of the states: what each one promises, and what can be requested in it."""
    return markdown_table(
        ("state", "what is true in it", "what can be asked for"),
        [
            (
                f"**{state}**" if state is current else str(state),
                PROMISE[state],
                ", ".join(f"`{row.trigger}`" for row in table.legal(state)),
            )
            for state in State
        ],
    )


def rows_table() -> str:
    """Return a Markdown table of the rows."""
    return markdown_table(
        ("trigger", "from", "to", "cut short by a crash", "why"),
        [
            (
                f"`{row.trigger}`",
                ", ".join(row.sources) or "damage",
                row.dest or "the same",
                row.on_crash or "—",
                row.why,
            )
            for row in table.TABLE
        ],
    )


COMMAND = "python -m interlock.diagrams"


def notice(source: str) -> str:
    """Return the notice in a generated page that it is generated."""
    return (
        f"This page is generated from `{source}` by `{COMMAND}`:\nto change it, change that file and run the command."
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with columns aligned as text, so that its diffs are readable."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    lines = [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]
    return "\n".join(lines) + "\n"


def json(current: State | None = None) -> str:
    """Return the table as a JSON object; its key `current` is null without a current state."""
    return jsonlib.dumps(description(current), indent=2, ensure_ascii=False) + "\n"


def description(current: State | None = None) -> dict[str, Any]:
    """Return the table as an object of JSON values."""
    return {
        "initial": INITIAL,
        "current": current,
        "states": [
            {"name": state, "promise": PROMISE[state], "legal": [row.trigger for row in table.legal(state)]}
            for state in State
        ],
        "rows": [_row(row) for row in table.TABLE],
        "recovery": [{"name": name, "rule": rule} for name, rule in RULE.items()],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "trigger": row.trigger,
        "sources": row.sources,
        "dest": row.dest,
        "by": row.by,
        "observed": row.observed,
        "doing": row.doing,
        "done": row.done,
        "on_crash": row.on_crash,
        "holds": row.holds,
        "yields_to": row.yields_to,
        "guarded": row.guarded,
        "unsaved": row.unsaved,
        "takes": row.takes,
        "on_damage": row.on_damage,
        "why": row.why,
    }
