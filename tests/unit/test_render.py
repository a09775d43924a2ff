"""The drawings show the table, all of it and nothing else."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise, permutations
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from interlock.diagrams import exports, layout, render
from interlock.diagrams.formats import FORMATS
from interlock.diagrams.layout import INITIAL, Arrow, Box, Drawing, Point
from interlock.fsm import table
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import BY_PAIR, RULE, TABLE, By, Recovery, Row, Trigger

SVG = "{http://www.w3.org/2000/svg}"
TERMINAL_COLUMNS = 80

each_format = pytest.mark.parametrize("name", FORMATS)


def future_row(trigger: str, sources: tuple[State, ...], dest: State, doing: str | None = "working") -> Row:
    """Return a row of a trigger that does not exist yet."""
    return Row(cast("Trigger", trigger), sources, dest, why="A <future> & a row.", doing=doing)


FUTURE = (
    *TABLE,
    future_row("suspend", (State.running,), State.stopped),
    *(future_row("edit", (state,), state) for state in AT_REST),
    *(future_row("snapshot", (state,), state) for state in AT_REST),
    future_row("rebooted", (State.running,), State.running, doing=None),
    future_row("grow", (State.running,), State.running),
    future_row("adopt", (State.absent,), State.running),
    future_row("import", (State.absent,), State.stopped),
    future_row("restore", (State.created,), State.stopped),
)
"""Rows of every shape: self rows, observed and not, several between two states, and lanes that overlap above."""


@pytest.fixture(params=[TABLE, FUTURE], ids=["table", "future"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Row, ...]:
    """Use today's table, then one that has grown."""
    monkeypatch.setattr(table, "TABLE", request.param)
    return cast("tuple[Row, ...]", request.param)


# -- every format ------------------------------------------------------------------------------------------------------


@each_format
@pytest.mark.usefixtures("rows")
def test_format_names_every_state_and_every_trigger(name: str) -> None:
    """No state and no row with sources is missing; only the Promela model leaves out rows that the caller runs."""
    drawn = FORMATS[name][0](None)
    rows = [row for row in table.TABLE if row.sources and (name != "promela" or row.by is not By.caller)]

    assert [state for state in State if state not in drawn] == []
    assert [row.trigger for row in rows if row.trigger not in drawn] == []


@each_format
def test_format_without_a_row_does_not_name_its_trigger(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawing follows the table of the moment: a row taken out of it is not drawn."""
    monkeypatch.setattr(table, "TABLE", tuple(row for row in TABLE if row.trigger is not Trigger.exited))

    assert str(Trigger.exited) not in FORMATS[name][0](None)


@each_format
@pytest.mark.parametrize("state", State)
def test_format_marks_the_current_state(name: str, state: State) -> None:
    """A drawing for an instance differs for each state it can be in, and from the one for no instance.

    A format that is executed instead of drawn begins in that state; without an instance, in the initial state.
    """
    function = FORMATS[name][0]
    runs = name in ("scxml", "xstate", "promela")
    others = [function(other) for other in (None, *State) if (other or (INITIAL if runs else None)) is not state]

    assert function(state) not in others


@each_format
def test_format_is_the_same_each_time_and_ends_its_last_line(name: str) -> None:
    """Drawings are committed and compared, so they depend on the table alone."""
    function = FORMATS[name][0]

    assert function(None) == function(None)
    assert function(None).endswith("\n")


def test_renderer_has_no_lifecycle_of_its_own() -> None:
    """The renderer names no state and no trigger, neither as a word in a string nor as a member of an enum."""
    vocabulary = {*State, *Trigger}
    typed = set()
    for module in (render, layout, exports):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                typed |= {node.attr} if node.value.id in ("State", "Trigger") else set()
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                typed |= set(node.value.split()) if "\n" not in node.value and not node.value.endswith(".") else set()

    assert set() == vocabulary & typed


def test_renderer_is_cheap_to_import() -> None:
    """Drawing imports no library for state machines, terminals, logs, templates or command lines."""
    slow = {"transitions", "rich", "structlog", "pydantic", "click", "yaml"}
    code = "import sys, interlock.diagrams.render; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert set() == slow & set(loaded)


# -- the layout --------------------------------------------------------------------------------------------------------


def cells(arrow: Arrow) -> Iterator[Point]:
    """Yield the cells that `arrow` passes between its ends."""
    for begin, end in pairwise(arrow.points):
        columns = range(min(begin.column, end.column), max(begin.column, end.column) + 1)
        lines = range(min(begin.row, end.row), max(begin.row, end.row) + 1)
        yield from (Point(column, row) for column in columns for row in lines if (column, row) not in (begin, end))


def inside(box: Box, point: Point) -> bool:
    """True when `point` is in `box` or on its border."""
    (left, top), (right, bottom) = box.top_left, box.bottom_right
    return left <= point.column <= right and top <= point.row <= bottom


def corners(plan: Drawing) -> list[Point]:
    """Return the points where arrows turn."""
    return [point for arrow in plan.arrows for point in arrow.points[1:-1]]


@pytest.mark.usefixtures("rows")
def test_layout_arrows_join_the_borders_of_their_states() -> None:
    """An arrow begins on the border of its source and ends on the border of its destination, never on a corner."""
    plan = layout.drawing()
    boxes = {box.state: box for box in plan.boxes}
    for arrow in plan.arrows[1:]:
        assert arrow.edge
        for state, point in ((arrow.edge.source, arrow.points[0]), (arrow.edge.dest, arrow.points[-1])):
            (left, top), (right, bottom) = boxes[state].top_left, boxes[state].bottom_right
            on_side = point.column in (left, right) and top < point.row < bottom
            on_top_or_bottom = point.row in (top, bottom) and left < point.column < right

            assert on_side or on_top_or_bottom
    assert inside(boxes[INITIAL], plan.arrows[0].points[-1])


@pytest.mark.usefixtures("rows")
def test_layout_nothing_runs_through_a_box() -> None:
    """Between its ends an arrow touches no box, and no label covers one."""
    plan = layout.drawing()
    taken = [cell for arrow in plan.arrows for cell in cells(arrow)]
    taken += [
        Point(label.at.column + offset, label.at.row)
        for arrow in plan.arrows
        for label in arrow.labels
        for offset in range(len(label.text))
    ]

    assert [(box.state, cell) for box in plan.boxes for cell in taken if inside(box, cell)] == []


@pytest.mark.usefixtures("rows")
def test_layout_arrows_meet_at_most_by_crossing() -> None:
    """No two arrows share a stretch or a corner, so each can be followed from its beginning to its end."""
    plan = layout.drawing()
    for first, second in permutations(plan.arrows, 2):
        shared = set(cells(first)) & set(cells(second))

        assert shared.isdisjoint(corners(plan))
        assert not any(Point(cell.column + 1, cell.row) in shared for cell in shared)
        assert not any(Point(cell.column, cell.row + 1) in shared for cell in shared)


@pytest.mark.usefixtures("rows")
def test_layout_nested_arrows_do_not_cross() -> None:
    """If one arrow spans another, the two do not cross; only arrows that overlap in part have to."""
    spans = {
        arrow: sorted((layout.ORDER[arrow.edge.source], layout.ORDER[arrow.edge.dest]))
        for arrow in layout.drawing().arrows
        if arrow.edge
    }
    for outer, inner in permutations(spans, 2):
        (begin, end), (inner_begin, inner_end) = spans[outer], spans[inner]
        if begin <= inner_begin and inner_end <= end:
            assert set(cells(outer)).isdisjoint(cells(inner))


def test_layout_of_the_table_has_no_crossing() -> None:
    """Today's diagram is drawn without crossing arrows."""
    passed = [cell for arrow in layout.drawing().arrows for cell in set(cells(arrow))]

    assert len(set(passed)) == len(passed)


@pytest.mark.usefixtures("rows")
def test_layout_everything_lies_on_the_grid_and_labels_do_not_touch() -> None:
    """Nothing is cut off at an edge, and two labels on a line have at least one blank between them."""
    plan = layout.drawing()
    labels = sorted((label for arrow in plan.arrows for label in arrow.labels), key=lambda label: label.at[::-1])
    for label in labels:
        assert 0 <= label.at.row < plan.rows
        assert 0 <= label.at.column <= plan.columns - len(label.text)
    for label, after in pairwise(labels):
        assert label.at.row < after.at.row or label.at.column + len(label.text) < after.at.column
    for point in corners(plan):
        assert 0 <= point.column < plan.columns
        assert 0 <= point.row < plan.rows


@pytest.mark.usefixtures("rows")
def test_edges_merge_rows_between_the_same_states_but_not_the_observed() -> None:
    """There is one arrow for each pair of states and kind, and it carries every trigger of that pair and kind."""
    drawn = [(trigger, edge.source, edge.dest, edge.observed) for edge in layout.edges() for trigger in edge.triggers]
    expected = [
        (row.trigger, source, row.dest, row.observed) for row in table.TABLE if row.dest for source in row.sources
    ]
    kinds = [(edge.source, edge.dest, edge.observed) for edge in layout.edges()]

    assert sorted(expected) == sorted(drawn)
    assert len(set(kinds)) == len(kinds)


# -- single formats ----------------------------------------------------------------------------------------------------


def test_text_agrees_with_the_reviewed_drawing(golden: Path, agrees: Callable[..., None]) -> None:
    """`interlock diagram` prints the drawing that a person has reviewed."""
    agrees(golden / "lifecycle.txt", render.text())


@pytest.mark.parametrize("current", [None, *State])
def test_text_fits_a_terminal(current: State | None) -> None:
    """The drawing is not wrapped by a terminal of 80 columns, and no line ends in blanks."""
    lines = render.text(current).splitlines()

    assert max(map(len, lines)) <= TERMINAL_COLUMNS
    assert [line.rstrip() for line in lines] == lines


@pytest.mark.parametrize("current", [None, *State])
@pytest.mark.usefixtures("rows")
def test_svg_is_well_formed_and_says_what_it_shows(current: State | None) -> None:
    """The SVG parses; its title and description explain the diagram to readers who cannot see it."""
    root = ET.fromstring(render.svg(current))  # noqa: S314 - our own
    said = root.findtext(f"{SVG}desc") or ""

    assert root.findtext(f"{SVG}title") == render.TITLE
    assert [row.trigger for row in table.TABLE if row.sources and row.trigger not in said.lower()] == []
    assert (current is not None) == (f"This instance is {current}." in said)


def test_svg_draws_observed_rows_dashed_and_explains_the_dashes(rows: tuple[Row, ...]) -> None:
    """Only observed edges are dashed, and a legend says what that means."""
    root = ET.fromstring(render.svg())  # noqa: S314 - our own
    dashed = [path for path in root.iter(f"{SVG}path") if "observed" in path.get("class", "").split()]
    texts = [text.text for text in root.iter(f"{SVG}text")]

    assert len([edge for edge in layout.edges() if edge.observed]) + 1 == len(dashed)
    assert render.LEGEND in texts
    assert {row.observed for row in rows} == {True, False}


def test_svg_without_observed_rows_has_no_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is dashed, there is no legend."""
    monkeypatch.setattr(table, "TABLE", tuple(row for row in TABLE if not row.observed))

    assert render.LEGEND not in render.svg()
    assert render.LEGEND not in render.text()


def test_svg_follows_the_readers_colour_scheme() -> None:
    """It has colours for light and dark pages, and loads nothing from elsewhere."""
    drawn = render.svg()

    assert "prefers-color-scheme: dark" in drawn
    assert "href" not in drawn
    assert "@import" not in drawn


def test_mermaid_has_one_line_for_each_edge() -> None:
    """Each edge is a line, dotted where it is observed."""
    lines = [line.replace("--->", "-->").replace("..->", ".->") for line in render.mermaid().splitlines()]
    for edge in layout.edges():
        begin, end = ("-.", ".->") if edge.observed else ("--", "-->")

        assert f'  {edge.source} {begin} "{edge.label}" {end} {edge.dest}' in lines


@pytest.mark.usefixtures("rows")
def test_mermaid_arrow_that_begins_beside_a_loop_is_longer_and_so_is_the_loop() -> None:
    """Mermaid puts the label of a loop where the label of a short arrow would be, so one would hide the other."""
    lines = render.mermaid().splitlines()
    loops = {edge.source for edge in layout.edges() if edge.source is edge.dest}
    for edge in layout.edges():
        onward = list(State).index(edge.dest) >= list(State).index(edge.source)
        (line,) = (
            line
            for line in lines
            if f"  {edge.source} " in line and f'"{edge.label}"' in line and line.endswith(f" {edge.dest}")
        )

        assert (edge.source in loops and onward) == ("--->" in line or "..->" in line)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed, and only it knows what it accepts")
@pytest.mark.parametrize("current", [None, *State])
@pytest.mark.usefixtures("rows")
def test_dot_is_accepted_by_graphviz(current: State | None) -> None:
    """Graphviz draws each of our edges, and the one to the initial state."""
    done = subprocess.run(["dot", "-Tplain"], input=render.dot(current), capture_output=True, text=True, check=False)
    drawn = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("edge ")]

    assert done.stderr == ""
    assert sorted([["begin", INITIAL], *([edge.source, edge.dest] for edge in layout.edges())]) == sorted(drawn)


def test_json_holds_what_the_table_holds() -> None:
    """From the description, a program can tell which pairs are legal, and read every recovery rule."""
    shown = json.loads(render.json(State.running))
    pairs = {(row["trigger"], source): row["dest"] for row in shown["rows"] for source in row["sources"]}

    assert {pair: row.dest for pair, row in BY_PAIR.items()} == pairs
    assert [{"name": rule, "rule": RULE[rule]} for rule in Recovery] == shown["recovery"]
    assert (INITIAL, State.running) == (shown["initial"], shown["current"])
    assert list(State) == [state["name"] for state in shown["states"]]


def test_markdown_table_is_aligned() -> None:
    """All lines of a Markdown table have the same length, so that its source is readable too."""
    lines = render.rows_table().splitlines()

    assert {len(lines[0])} == set(map(len, lines))
