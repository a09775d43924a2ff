"""The contents of the view as text: the table of instances, facts about the chosen one, the lifecycle, the keys.

Nothing here depends on a terminal: each function makes rich texts from its arguments, no wider than the given width.
"""

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from ..commands.stdout import COLOURS, size
from ..commands.terminal import printable
from ..diagrams.layout import Edge, drawing, edges
from ..diagrams.render import text as drawn
from ..fsm import words
from ..fsm.records import Status
from ..fsm.states import State
from ..fsm.table import BY_TRIGGER, Trigger
from .keys import LETTER_OF
from .looking import Seen

if TYPE_CHECKING:
    from ..guest.agent import Load

TITLES = ("NAME", "STATUS", "CPU", "MEMORY", "UPTIME")

_NAME, _CPU, _MEMORY, _UPTIME, _GAP = 20, 6, 9, 11, 2
"""The widths of the columns, at most _NAME for the first one, and the gap between them. STATUS gets the rest."""

_ANSI_BLACK = 30
"""The SGR parameter of the first foreground colour. Source: ECMA-48."""

_KEY_COLUMNS = 15
"""The column where the reasons of the keys begin."""

WAYS_ROWS = 4
"""How many rows the small drawing of the lifecycle takes."""


def title(everyone: Sequence[Seen], width: int) -> Text:
    """Return the first line: how many instances there are in each state, and what all of them use."""
    there = [state for state in State if any(it.status.state is state for it in everyone)]
    counts = [f"{sum(it.status.state is state for it in everyone)} {state}" for state in there]
    used = [it.status.observation.usage for it in everyone if it.status.observation and it.status.observation.usage]
    busy = sum(it.cpu_percent or 0.0 for it in everyone)
    left = f"interlock  {', '.join(counts) or 'no instances'}"
    right = f"cpu {_percent(busy)}  memory {size(sum(it.resident_bytes for it in used))}" if used else ""
    return Text(f"{left}{right:>{max(0, width - len(left))}}", style="bold")


def table(everyone: Sequence[Seen], chosen: str | None, width: int, height: int) -> Text:
    """Return the titles and a line for each instance, as many as fit, the chosen one among them."""
    name = min(max([len(TITLES[0]), *(len(it.status.name) for it in everyone)]), _NAME)
    status = max(len(TITLES[1]), width - name - _CPU - _MEMORY - _UPTIME - 4 * _GAP)
    line = Text(no_wrap=True).append(_row(TITLES, name, status), style="bold underline")
    at = next((number for number, it in enumerate(everyone) if it.status.name == chosen), 0)
    room = max(height - 1, 1)
    first = max(0, min(at - room // 2, len(everyone) - room))
    lines = [line]
    for seen in everyone[first : first + room]:
        text = Text(_row(cells(seen), name, status), no_wrap=True)
        begin = name + _GAP
        text.stylize(_style(seen.status), begin, begin + status)
        if seen.status.name == chosen:
            text.stylize("reverse")
        lines.append(text)
    return Text("\n", no_wrap=True).join(lines)


def cells(seen: Seen) -> tuple[str, ...]:
    """Return the text of each column for an instance."""
    status, used = seen.status, seen.status.observation.usage if seen.status.observation else None
    busy, memory = _percent(seen.cpu_percent), size(used.resident_bytes if used else None)
    return status.name, words.status(status), busy, memory, words.duration(used.uptime_s) if used else "-"


def known(seen: Seen, load: "Load | None", width: int) -> Text:
    """Return the facts about an instance in three lines: its whole status, its sizes, and the load of its guest."""
    status, spec, observed = seen.status, seen.status.spec, seen.status.observation
    said = words.status(status)
    parts: list[str] = []
    if spec:
        parts = [
            spec.driver,
            spec.arch,
            f"{spec.cpus} cpu{'s' * (spec.cpus != 1)}",
            f"memory {size(spec.memory_bytes)}",
        ]
        parts.append(f"disk {size(spec.disk_bytes)}")
    if observed and observed.ssh_port:
        parts.append(f"ssh port {observed.ssh_port}")
    if observed and observed.accelerator:
        parts.append(observed.accelerator)
    head = Text().append(f"{status.name}  ", style="bold").append(printable(said), style=_style(status))
    lines = (head, Text(printable(" · ".join(parts))), _guest(load) if load and observed and observed.alive else Text())
    return Text("\n").join(_cut(line, width) for line in lines)


def _guest(load: "Load") -> Text:
    of_minutes = " ".join(f"{number:.2f}" for number in load.load)
    return Text(f"guest · load {of_minutes} · {size(load.available_bytes)} free · up {words.duration(load.uptime_s)}")


def lifecycle(status: Status, width: int, height: int) -> Text:
    """Return the drawing of the lifecycle, with the state of `status` marked: whole if there is room for it."""
    plan = drawing()
    if plan.columns <= width and plan.rows <= height:
        return whole_lifecycle(status.state)
    return _ways(status, width)


def whole_lifecycle(current: State, *, with_notes: bool = False) -> Text:
    """Return the drawing that `interlock diagram` prints, with the box of `current` in bold."""
    plan = drawing()
    lines = drawn(current).splitlines()
    texts = [Text(line, no_wrap=True) for line in (lines if with_notes else lines[: plan.rows])]
    box = next(box for box in plan.boxes if box.state is current)
    for text in texts[box.top_left.row : box.bottom_right.row + 1]:
        text.stylize("bold", box.top_left.column, box.bottom_right.column + 1)
    return Text("\n", no_wrap=True).join(texts)


def _ways(status: Status, width: int) -> Text:
    """Return the states side by side, that of `status` marked, and where the arrows from it lead."""
    top, middle, bottom = Text(), Text(), Text()
    for state in State:
        here = state is status.state
        left, across, right, side, low_left, low_right = "╔═╗║╚╝" if here else "┌─┐│└┘"
        style, inner = "bold" if here else "", across * (len(state) + 2)
        top.append(f"{left}{inner}{right}", style).append("  ")
        middle.append(f"{side} {state} {side}", style).append("  ")
        bottom.append(f"{low_left}{inner}{low_right}", style).append("  ")
    return Text("\n", no_wrap=True).join(_cut(line, width) for line in (top, middle, bottom, _from_here(status)))


def _from_here(status: Status) -> Text:
    """Return the transition that is under way, or the arrows that begin in the state of `status`."""
    if working := status.under_way:
        row = BY_TRIGGER[working.trigger]
        return Text(f"{row.doing}: {working.source} ═► {row.leads_to(working.source)}", style="bold")
    return Text("   ".join(_arrow(edge) for edge in edges() if edge.source is status.state))


def _arrow(edge: Edge) -> str:
    return f"{edge.label} {'╌╌►' if edge.observed else '──►'} {edge.dest}"


def keys(triggers: Iterable[Trigger], others: Iterable[tuple[str, str]], width: int) -> Text:
    """Return the keys of `triggers`, and below them `others`, keys with their words."""
    asked = _wrapped([(LETTER_OF[trigger], str(trigger)) for trigger in triggers], width)
    return asked.append("\n").append(_wrapped(others, width))


def _wrapped(pairs: Iterable[tuple[str, str]], width: int) -> Text:
    lines, column = Text(), 0
    for key, word in pairs:
        long = len(key) + 1 + len(word)
        if column and column + _GAP + long > width:
            lines.append("\n")
            column = 0
        elif column:
            lines.append(" " * _GAP)
            column += _GAP
        lines.append(key, style="bold reverse").append(f" {word}")
        column += long
    return lines


def _row(texts: Sequence[str], name: int, status: int) -> str:
    widths = (name, status, _CPU, _MEMORY, _UPTIME)
    fitted = [_fitted(printable(text), width) for text, width in zip(texts, widths, strict=True)]
    left = [f"{text:<{width}}" for text, width in zip(fitted[:2], widths[:2], strict=True)]
    right = [f"{text:>{width}}" for text, width in zip(fitted[2:], widths[2:], strict=True)]
    return (" " * _GAP).join((*left, *right))


def _fitted(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _percent(busy: float | None) -> str:
    if busy is None:
        return "-"
    return f"{busy:.1f}%" if busy < 9.95 else f"{busy:.0f}%"  # noqa: PLR2004 - below, a tenth is worth saying


def _style(status: Status) -> Style:
    """Return the colour that the status has in `interlock list`."""
    colour = COLOURS.get(words.status(status).split(" ", 1)[0])
    return Style() if colour is None else Style(color=f"color({colour - _ANSI_BLACK})")


def whole_rows() -> int:
    """Return how many rows the whole drawing takes."""
    return drawing().rows


def explained(width: int) -> Text:
    """Return each key that asks for a trigger, with the reason of its row; wrapped lines are aligned."""
    text = Text()
    for trigger, letter in LETTER_OF.items():
        first, *rest = wrap(BY_TRIGGER[trigger].why, max(width - _KEY_COLUMNS, _KEY_COLUMNS))
        text.append(f" {letter} ", style="bold reverse").append(f" {trigger:<10} {first}\n")
        text.append("".join(f"{'':{_KEY_COLUMNS}}{line}\n" for line in rest))
    return text
