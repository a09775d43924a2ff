"""Runs a command in a guest to its end, for programs that want its output."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import DeadlineError, DriverError
from ..host.bounds import last_words
from ..host.run import run

OUTPUT_BYTES = 64 << 20
"""The most that a command may write to stdout or to stderr, because its output is kept in memory."""


class Completed(NamedTuple):
    """How a command ended in a guest, with its whole output."""

    status: int
    """Its exit status; 255 may also be ssh's own, where the connection broke."""
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Its standard output, as text without the last newline."""
        return self.stdout.decode(errors="replace").removesuffix("\n")

    @property
    def words(self) -> tuple[str, ...]:
        """Its last lines on standard error, or else on standard output: what to show when it failed."""
        return last_words(self.stderr) or last_words(self.stdout)

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `run --json` prints. Bytes that are not UTF-8 are replaced."""
        return {
            "status": self.status,
            "stdout": self.stdout.decode(errors="replace"),
            "stderr": self.stderr.decode(errors="replace"),
        }


def completed(line: Sequence[str], what: str, *, stdin: bytes | int = b"", timeout_s: float | None = None) -> Completed:
    """Run the host's command line `line`, which runs `what` in a guest, and return how that ended.

    Raises DeadlineError after `timeout_s` seconds, DriverError for more output than OUTPUT_BYTES. Both close the
    command's streams; a command that does not end because of that continues in the guest.
    """
    said, complained = bytearray(), bytearray()
    try:
        ended = run(
            line,
            stdin=stdin,
            stdout=_bounded(said, what),
            stderr=_bounded(complained, what),
            timeout_s=math.inf if timeout_s is None else timeout_s,
        )
    except DeadlineError as error:
        raise DeadlineError(
            f"{what} did not end in the guest within {timeout_s:g} s", details=last_words(bytes(complained or said))
        ) from error
    return Completed(ended.status, bytes(said), bytes(complained))


def _bounded(kept: bytearray, what: str) -> Callable[[bytes], None]:
    def hear(piece: bytes) -> None:
        if len(kept) + len(piece) > OUTPUT_BYTES:
            raise DriverError(
                f"{what} wrote more than {OUTPUT_BYTES >> 20} MiB; let it write to a file in the guest, and copy that"
            )
        kept.extend(piece)

    return hear
