"""How work reports its progress."""

import time
from collections.abc import Callable

Report = Callable[[str], None]
"""Called with each step that the work reaches, in words for people (`waiting for ssh`). May raise to cancel it."""


def unheard(_: str) -> None:
    """Report to nobody."""


_STEPS = 3
_OBSERVED_S = 5.0
"""How many steps and seconds must have passed before the rest is estimated."""

_STEADY = 2.0
"""The pace is steady if the last step was at most this many times faster or slower than the average."""


class Pace:
    """Estimates how long the rest of counted work takes, once its pace is steady."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = 0
        self._marks: list[tuple[float, int]] = []
        """Times, and the count reached at each."""

    def left(self, done: int, total: int) -> str:
        """Record that `done` of `total` is reached, and return words such as `, about 2 min left`, or an empty text."""
        if total != self._total or not self._marks:  # the work has grown, so earlier marks do not measure the rest
            self._total, self._marks = total, []
        self._marks.append((self._clock(), done))
        if len(self._marks) <= _STEPS or done >= total:
            return ""
        (first_s, first), (last_s, last), (now_s, _) = self._marks[0], *self._marks[-2:]
        if now_s - first_s < _OBSERVED_S or now_s == last_s or done == first:
            return ""
        pace, recent = (done - first) / (now_s - first_s), (done - last) / (now_s - last_s)
        if not pace / _STEADY <= recent <= pace * _STEADY:
            return ""
        minutes = round((total - done) / pace / 60)
        return f", about {minutes} min left" if minutes else ", less than 1 min left"
