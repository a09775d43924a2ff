"""The guest's serial port: often the only sign of what it does."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...errors import DriverError
from ...guest.report import lines
from ...host.files import read_own
from . import logs

_TAIL_BYTES = 8192
_LINES = 15

_PANIC = "Kernel panic - not syncing"


def tail(directory: Path) -> list[str]:
    """Return the last lines that the guest wrote, safe to print on a terminal."""
    with suppress(OSError):
        return lines(read_own(directory / logs.SERIAL.file, _TAIL_BYTES, tail=True))[-_LINES:]
    return []


class Watch:
    """Looks at the log while a guest boots: calls `on_sign` when it grows, raises DriverError when the kernel panics.

    Before a guest has loaded the driver of its panic device, the log is the only place where a panic shows.
    """

    def __init__(self, directory: Path, on_sign: Callable[[], None]) -> None:
        self._directory = directory
        self._on_sign = on_sign
        self._seen = self._size()

    def look(self) -> None:
        """Read what was written since the last look."""
        size = self._size()
        if size == self._seen:
            return
        self._seen = size
        self._on_sign()
        for line in tail(self._directory):
            if _PANIC in line:
                raise DriverError(f"the guest's kernel panicked:{line.partition(_PANIC)[2].removeprefix(':')}")

    def _size(self) -> int:
        try:
            return (self._directory / logs.SERIAL.file).stat().st_size
        except OSError:
            return 0
