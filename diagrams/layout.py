"""The layout of the drawn table: positions of boxes, arrows and labels on a grid of character cells.

The terminal and the SVG use the same layout. It is computed, so a new row needs no new drawing:

- The states are side by side, in the order of `State`, in which an instance passes through them.
- Rows with the same source and destination share an arrow, but observed rows have their own arrow, and so has a row
  whose name would make the label between neighbours too long.
- Neighbours are joined by straight arrows, one below the other. A longer arrow runs in a lane: forward arrows above the
  boxes, backward arrows below. A row that leads back to its source is a loop on top of its box.
- If two lanes overlap, the shorter one is nearer to the boxes, and lanes that turn the same way leave a box in such an
  order that nested lanes never cross.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..fsm import table
from ..fsm.states import State
from ..fsm.table import Row

INITIAL = next(iter(State))
"""The state in which every life begins: that of a name to which nothing has happened yet."""

ORDER = {state: number for number, state in enumerate(State)}

BOX_COLUMNS = 4
"""The columns that a box needs besides its widest content: two sides and two blanks."""

ARROW_COLUMNS = 5
"""The columns that a straight arrow needs besides its label: `─ label ─►`."""

LABEL_COLUMNS = 12
"""The longest label that several rows may share; then the next row gets another arrow, so that a terminal is enough."""

PORT_GAP = 2
"""The columns between the ends of two arrows at the top or bottom of a box."""


class Edge(NamedTuple):
    """All rows of one kind (observed or requested) that lead from `source` to `dest`."""

    source: State
    dest: State
    rows: tuple[Row, ...]

    @property
    def observed(self) -> bool:
        """True if nobody requests it; it is drawn dashed."""
        return self.rows[0].observed

    @property
    def triggers(self) -> tuple[str, ...]:
        return tuple(str(row.trigger) for row in self.rows)

    @property
    def label(self) -> str:
        """The triggers in one line: `stop, kill`."""
        return ", ".join(self.triggers)

    @property
    def steps(self) -> int:
        """How many states forward it leads; negative if it leads back."""
        return ORDER[self.dest] - ORDER[self.source]


class Point(NamedTuple):
    """A cell of the grid, counted from the top left."""

    column: int
    row: int


class Label(NamedTuple):
    """A line of text; its first character is in the cell `at`."""

    text: str
    at: Point


class Box(NamedTuple):
    """The box of a state. Its border runs through the cells of its corners."""

    state: State
    top_left: Point
    bottom_right: Point
    label: Label


class Arrow(NamedTuple):
    """A line through `points`, with right angles; the first and the last point are on the borders that it joins."""

    points: tuple[Point, ...]
    labels: tuple[Label, ...] = ()
    edge: Edge | None = None
    """None for the arrow without a source, which shows where a life begins."""

    @property
    def dashed(self) -> bool:
        return self.edge is not None and self.edge.observed


class Drawing(NamedTuple):
    """Everything to draw, on a grid of `columns` by `rows` cells."""

    columns: int
    rows: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def edges() -> list[Edge]:
    """Return the arrows of the diagram, in the table's order; a row that does not move the state has no arrow."""
    merged: dict[tuple[State, State, bool], list[Row]] = {}
    for row in table.TABLE:
        if row.dest is None:
            continue
        for source in row.sources:
            merged.setdefault((source, row.dest, row.observed), []).append(row)
    return [Edge(source, dest, tuple(rows)) for (source, dest, _), rows in merged.items()]


def drawing() -> Drawing:
    """Return the layout of the table."""
    return _Layout(edges()).drawing()


_Ports = Mapping[State, Sequence[Edge | None]]
"""State → the arrows that end on one side of its box, from left to right; None is the arrow without a source."""


class _Layout:
    """Computes the sizes from the edges, then the positions from the sizes."""

    def __init__(self, found: Sequence[Edge]) -> None:
        self.straight = {state: _to_next(state, found) for state in State}
        self.above = _lanes(edge for edge in found if edge.steps > 1)
        self.below = _lanes(edge for edge in found if edge.steps < -1)
        self.tops: _Ports = {state: _top_ports(state, self.above, found) for state in State}
        self.bottoms: _Ports = {state: _bottom_ports(state, self.below) for state in State}

        # From top to bottom: lanes, the loops' labels, loops, boxes, lanes.
        self.labels_top = max(self.above.values(), default=0)
        self.loops_top = self.labels_top + max((len(edge.rows) for edge in found if edge.steps == 0), default=0)
        self.top = self.loops_top + 2
        reach = max(1, *(len(parallel) for parallel in self.straight.values()))
        self.middle = self.top + reach
        self.bottom = self.middle + reach
        self.rows = self.bottom + max(self.below.values(), default=-1) + 2

        # From left to right: each box, and the gap that its straight arrows need.
        self.left: dict[State, int] = {}
        self.right: dict[State, int] = {}
        self.columns = 0
        for state in State:
            content = max(len(state), _columns(self.tops[state]), _columns(self.bottoms[state]))
            self.left[state] = self.columns
            self.right[state] = self.columns + (content | 1) + BOX_COLUMNS - 1  # odd: a single arrow ends in the middle
            gap = max((len(edge.label) + ARROW_COLUMNS for edge in self.straight[state]), default=0)
            self.columns = self.right[state] + 1 + gap

    def drawing(self) -> Drawing:
        arrows = [self._entry()]
        for parallel in self.straight.values():
            arrows += [self._straight(edge, number, len(parallel)) for number, edge in enumerate(parallel)]
        arrows += [self._loop(edge) for ports in self.tops.values() for edge in ports if edge and edge.steps == 0]
        arrows += [self._lane(edge, self.top, self.labels_top - level, self.tops) for edge, level in self.above.items()]
        for edge, level in self.below.items():
            arrows.append(self._lane(edge, self.bottom, self.bottom + 1 + level, self.bottoms))
        return Drawing(self.columns, self.rows, tuple(self._box(state) for state in State), tuple(arrows))

    def _box(self, state: State) -> Box:
        left, right = self.left[state], self.right[state]
        return Box(state, Point(left, self.top), Point(right, self.bottom), _centred(state, left, right, self.middle))

    def _entry(self) -> Arrow:
        column = self._port(INITIAL, None, self.tops)
        return Arrow((Point(column, self.loops_top), Point(column, self.top)))

    def _straight(self, edge: Edge, number: int, among: int) -> Arrow:
        """Return the `number`th arrow of the `among` arrows between two neighbours."""
        row = self.middle + 1 - among + 2 * number
        if edge.steps > 0:
            begin, end = self.right[edge.source], self.left[edge.dest]
            label = _centred(edge.label, begin + 1, end - 2, row)  # next to the arrowhead, which takes up a cell
        else:
            begin, end = self.left[edge.source], self.right[edge.dest]
            label = _centred(edge.label, end + 2, begin - 1, row)
        return Arrow((Point(begin, row), Point(end, row)), (label,), edge)

    def _loop(self, edge: Edge) -> Arrow:
        left = self._port(edge.source, edge, self.tops)
        right = left + _columns([edge]) - 1
        corners = (left, self.top), (left, self.loops_top), (right, self.loops_top), (right, self.top)
        first = self.loops_top - len(edge.rows)
        labels = tuple(_centred(trigger, left, right, row) for row, trigger in enumerate(edge.triggers, first))
        return Arrow(tuple(Point(*corner) for corner in corners), labels, edge)

    def _lane(self, edge: Edge, side: int, row: int, ports: _Ports) -> Arrow:
        begin, end = self._port(edge.source, edge, ports), self._port(edge.dest, edge, ports)
        points = Point(begin, side), Point(begin, row), Point(end, row), Point(end, side)
        return Arrow(points, (_centred(edge.label, min(begin, end), max(begin, end), row),), edge)

    def _port(self, state: State, what: Edge | None, ports: _Ports) -> int:
        """Return the first column of the end of `what`; all ends on a side are centred together."""
        beside = ports[state]
        margin = self.right[state] - self.left[state] + 1 - _columns(beside)
        before = sum(_columns([port]) + PORT_GAP for port in beside[: beside.index(what)])
        return self.left[state] + margin // 2 + before


def _to_next(state: State, found: Sequence[Edge]) -> list[Edge]:
    """Return the edges between `state` and the next state: first those that lead forward, then those that lead back."""
    lower = ORDER[state]
    joining = [edge for edge in found if abs(edge.steps) == 1 and _span(edge)[0] == lower]
    return [part for edge in sorted(joining, key=lambda edge: -edge.steps) for part in _parts(edge)]


def _parts(edge: Edge) -> Iterator[Edge]:
    """Yield `edge` as one or more arrows, so that no label is too long."""
    first, rest = edge._replace(rows=edge.rows[:1]), edge.rows[1:]
    while rest and len(first._replace(rows=(*first.rows, rest[0])).label) <= LABEL_COLUMNS:
        first, rest = first._replace(rows=(*first.rows, rest[0])), rest[1:]
    yield first
    if rest:
        yield from _parts(edge._replace(rows=rest))


def _lanes(long: Iterable[Edge]) -> dict[Edge, int]:
    """Return the lane of each edge: lane 1 is nearest to the boxes; overlapping edges do not share a lane."""
    lanes: dict[Edge, int] = {}
    for edge in sorted(long, key=lambda edge: abs(edge.steps)):
        begin, end = _span(edge)
        under = (lane for other, lane in lanes.items() if begin < _span(other)[1] and _span(other)[0] < end)
        lanes[edge] = 1 + max(under, default=0)
    return lanes


def _top_ports(state: State, lanes: Mapping[Edge, int], found: Sequence[Edge]) -> list[Edge | None]:
    """Return the arrows that end on top of `state`. Loops are lower than any lane, so they fit between the lanes."""
    entry = [None] if state is INITIAL else []
    loops = [edge for edge in found if edge.source is edge.dest is state]
    return [*entry, *_leftward(state, lanes), *loops, *_rightward(state, lanes)]


def _bottom_ports(state: State, lanes: Mapping[Edge, int]) -> list[Edge | None]:
    """Return the arrows that end at the bottom of the box of `state`."""
    return [*_leftward(state, lanes), *_rightward(state, lanes)]


def _leftward(state: State, lanes: Mapping[Edge, int]) -> list[Edge]:
    """Return the lanes that leave the box of `state` to the left: outer lanes start to the right of inner ones."""
    return sorted((edge for edge in lanes if _span(edge)[1] == ORDER[state]), key=lambda edge: lanes[edge])


def _rightward(state: State, lanes: Mapping[Edge, int]) -> list[Edge]:
    """Return the lanes that leave the box of `state` to the right: outer lanes start to the left of inner ones."""
    return sorted((edge for edge in lanes if _span(edge)[0] == ORDER[state]), key=lambda edge: -lanes[edge])


def _span(edge: Edge) -> tuple[int, int]:
    """Return the positions of the two states that it joins, the left one first."""
    first, last = sorted((ORDER[edge.source], ORDER[edge.dest]))
    return first, last


def _columns(ports: Sequence[Edge | None]) -> int:
    """Return the width of `ports` side by side. A loop is wider than its labels; any other end takes one column."""
    widths = [max(map(len, port.triggers)) + 2 if port and port.steps == 0 else 1 for port in ports]
    return sum(widths) + PORT_GAP * (len(widths) - 1)


def _centred(text: str, first: int, last: int, row: int) -> Label:
    """Return `text` as a label centred between the columns `first` and `last`."""
    return Label(text, Point(first + (last - first + 1 - len(text)) // 2, row))
