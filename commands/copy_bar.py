"""The progress bar of a copy at a terminal: how much of how much, how fast, and how long it will take."""

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ..fsm.words import duration
from ..host.sizes import about
from .terminal import printable, styled

if TYPE_CHECKING:
    from ..guest.copying import Copied, Copying
    from .session import Session

_SIGNALLED = 128
"""Shells add this to the number of the signal that ended a program. Source: POSIX, Shell Command Language, 2.8.2."""


class _Figures(ProgressColumn):
    """The progress in figures: `12.3 of 100.0 MiB · 4.1 MiB/s · 22 s left`."""

    def render(self, task: Task) -> Text:
        known = [about(task.completed) if task.total is None else f"{about(task.completed)} of {about(task.total)}"]
        if task.speed:
            known.append(f"{about(task.speed)}/s")
        if left_s := round(task.time_remaining or 0):
            known.append(f"{left_s} s left" if left_s < 60 else f"{duration(left_s)} left")  # noqa: PLR2004 - a minute
        return Text(" · ".join(known))


def copy(session: "Session", copying: "Copying") -> int:
    """Copy, showing the progress and the result; return the exit status of the program that copied."""
    console = Console(stderr=True, highlight=False, no_color=not styled(sys.stderr))
    began_s = time.monotonic()
    rest = b""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), _Figures(Column(no_wrap=True)))
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        bar.add_task(f"copying by {copying.backend}", total=copying.total_bytes)
        (task,) = bar.tasks

        def heard(copied: "Copied") -> None:
            bar.update(task.id, completed=copied.done_bytes)

        def complained(piece: bytes) -> None:
            nonlocal rest
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                console.out(printable(line.decode(errors="replace")))

        status = copying.run(heard, complained)
        if rest:
            complained(b"\n")
    if status == 0:
        session.report(_result(copying, round(task.completed), time.monotonic() - began_s))
    return status if status >= 0 else _SIGNALLED - status


def _result(copying: "Copying", done_bytes: int, seconds: float) -> str:
    total = copying.total_bytes
    said = f"copied {about(done_bytes if total is None else total)} by {copying.backend} in {duration(seconds)}"
    if copying.backend == "rsync" and total is not None and done_bytes < total:
        return f"{said}; {about(done_bytes)} of it differed"
    return said
