"""What failed in the guest of a machine that runs: told once when it is found out, and seen by whoever looks later.

degraded.txt    the words of the error; gone when the machine starts anew, or its scripts succeed
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import DegradedError, Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...guest.report import Failure

RECORD = "degraded.txt"

_CHARACTERS = 200
"""As much as a line of `list` has room for."""


def record(site: Site, failures: "Sequence[Failure]") -> DegradedError | None:
    """Keep with `site` what `failures` came to, and return it as an error; None, and nothing kept, without any."""
    from ...host.files import write_whole

    if not failures:
        forget(site.directory)
        return None
    first, *others = failures
    words = f"{first.name} failed{_how(first)}"
    if others:
        words += f", and {len(others)} more: {', '.join(failure.name for failure in others)}"
    write_whole(site.directory / RECORD, words.encode())
    details = [line for failure in failures for line in _told(failure)]
    return DegradedError(words, details=details, hint=f"interlock provision {site.name}")


def seen(directory: Path) -> str | None:
    """Return `degraded: ...` for a machine in whose guest something failed; None for any other."""
    try:
        with open(directory / RECORD, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - for `list`
            return f"degraded: {file.read(_CHARACTERS)}"
    except OSError:
        return None


def forget(directory: Path) -> None:
    """Forget what failed: the machine starts anew, or nothing failed any more."""
    with suppress(FileNotFoundError):
        (directory / RECORD).unlink()


def _told(failure: "Failure") -> list[str]:
    status = f"exit status {failure.status}" if failure.status else "failed"
    return [f"{failure.name}: {status}", *(f"  {line}" for line in failure.output)]


def _how(failure: "Failure") -> str:
    if failure.status:
        return f" in the guest with status {failure.status}"
    return f": {failure.output[0]}" if failure.output else ""
