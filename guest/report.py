"""What failed in a guest, as its program (guest/interlock.sh) writes it.

running script 003 (system)
now failed 3 script 003 (system)
 the last lines of its output, each after a space
failed 3 script 003 (system)
 the same lines

`running` and `now failed` come as it happens; `failed` comes at the end, for every step whose last run failed.
"""

import re
from dataclasses import dataclass

from ..host.bounds import WORD_LENGTH, Words, clipped
from ..host.progress import Report

LINES = 20
"""How many of the last lines of a failure are kept."""

_FAILURES = 100
"""How many failures are kept."""

_STEPS = 200
_STEP_BYTES = 200
"""How many steps are reported while they run, and how much of each."""

_RUNNING = re.compile(r"running .+")
_NOW_FAILED, _FAILED = (re.compile(rf"{how} (\d{{1,3}}) (.+)") for how in ("now failed", "failed"))

_CONTROLS = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[^\[]|[^\n\t\x20-\x7e\x80-\U0010ffff]")
"""What a terminal would interpret: escape sequences, and control characters other than newline and tab."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A script, or a step of ours, that did not succeed in the guest."""

    name: str
    """`script 003 (system)`, `disk at /mnt/data`, `certificates`."""
    status: int
    """Its exit status; 0 for a step on the host, which does not have one."""
    output: tuple[str, ...]
    """Its last lines, safe to print on a terminal."""

    def __str__(self) -> str:
        if self.status:
            return f"{self.name} failed in the guest with status {self.status}"
        return f"{self.name} failed{f': {self.output[0]}' if self.output else ''}"


def lines(text: bytes) -> list[str]:
    """Return the lines of `text` that are not blank, safe to print on a terminal."""
    said = _CONTROLS.sub("", text.decode(errors="replace").replace("\r\n", "\n"))
    return [clipped(line.rstrip(), WORD_LENGTH) for line in said.splitlines() if line.strip()]


def bounded_words() -> Words:
    """Return a sink for a guest's output that keeps its beginning and its end, where the report is."""
    return Words(head=16 << 10, tail=64 << 10)


def parse(text: bytes) -> tuple[Failure, ...]:
    """Return the failures that `text` reports at the end, in its order; lines of any other form are skipped."""
    return _parse(text, _FAILED)


def parse_so_far(text: bytes) -> tuple[Failure, ...]:
    """Return the failures that `text` reports as they happen, before the end."""
    return _parse(text, _NOW_FAILED)


def _parse(text: bytes, form: re.Pattern[str]) -> tuple[Failure, ...]:
    failures: list[Failure] = []
    for line in lines(text):
        if found := form.fullmatch(line):
            if len(failures) < _FAILURES:
                failures.append(Failure(found[2], int(found[1]), ()))
        elif failures and line.startswith(" "):
            last = failures[-1]
            failures[-1] = Failure(last.name, last.status, (*last.output, line[1:])[-LINES:])
    return tuple(failures)


class Steps:
    """Reports each step that a guest begins, and each that fails, once.

    At most _STEPS are reported, because each is written to the journal.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._reported: list[str] = []
        self._rest = b""

    def hear(self, piece: bytes) -> None:
        """Take the next piece of output, of any size."""
        *whole, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[:_STEP_BYTES]
        for line in whole:
            for said in lines(line[:_STEP_BYTES]):
                if _RUNNING.fullmatch(said):
                    self._say(said)
                elif failed := _NOW_FAILED.fullmatch(said):
                    self.fail(Failure(failed[2], int(failed[1]), ()))

    def fail(self, failure: Failure) -> None:
        """Report `failure` unless it was reported before."""
        if (said := str(failure)) not in self._reported:
            self._say(said)

    def _say(self, step: str) -> None:
        if len(self._reported) < _STEPS:
            self._reported.append(step)
            self._report(step)
