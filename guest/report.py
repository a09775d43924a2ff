"""What failed in a guest, as its program (guest/interlock.sh) tells it.

failed 3 script 003 (system)
 the last lines that it said, each after a blank
"""

import re
from dataclasses import dataclass

from ..host.bounds import WORD_LENGTH, Words, clipped

LINES = 20
"""As many of the last lines of a failure are kept."""

_FAILURES = 100
"""How many are heard of."""

_CONTROLS = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[^\[]|[^\n\t\x20-\x7e\x80-\U0010ffff]")
"""What a terminal would obey: escape sequences, and control characters other than line end and tabulator."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A script, or a step of ours, that did not succeed in the guest."""

    name: str
    """What it was: `script 003 (system)`, `disk at /mnt/data`, `certificates`."""
    status: int
    """Its exit status; 0 for a step of the host's, which has none."""
    output: tuple[str, ...]
    """The last lines that it said, safe to print on a terminal."""

    def __str__(self) -> str:
        if self.status:
            return f"{self.name} failed in the guest with status {self.status}"
        return f"{self.name} failed{f': {self.output[0]}' if self.output else ''}"


def lines(text: bytes) -> list[str]:
    """Return the lines of `text` that say something, as text that is safe to print on a terminal."""
    said = _CONTROLS.sub("", text.decode(errors="replace").replace("\r\n", "\n"))
    return [clipped(line.rstrip(), WORD_LENGTH) for line in said.splitlines() if line.strip()]


def bounded_words() -> Words:
    """Return what hears a guest: its first words and its last, which hold what it has to report, and no more."""
    return Words(head=16 << 10, tail=64 << 10)


def parse(text: bytes) -> tuple[Failure, ...]:
    """Return the failures that `text` tells of, in its order; what is none of its lines is passed over."""
    failures: list[Failure] = []
    for line in lines(text):
        if told := re.fullmatch(r"failed (\d{1,3}) (.+)", line):
            if len(failures) < _FAILURES:
                failures.append(Failure(told[2], int(told[1]), ()))
        elif failures and line.startswith(" "):
            last = failures[-1]
            failures[-1] = Failure(last.name, last.status, (*last.output, line[1:])[-LINES:])
    return tuple(failures)
