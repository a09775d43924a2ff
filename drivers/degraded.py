"""What failed in the guest of a running machine, kept on the host while it runs and until it succeeds.

degraded.txt    the error's message, then its details, one a line. The guest itself remembers what failed across its
                boots (guest/interlock.sh), and is asked at each start
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..host.bounds import clipped
from ..host.files import open_own, remove_tree
from .contract import DegradedError, Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..guest.report import Failure

RECORD = "degraded.txt"

_CHARACTERS = 16384
_LINES = 100
"""How much is kept: more than the last lines of a handful of scripts. A guest can have a hundred that fail."""

_MESSAGE_CHARACTERS = 200
"""As much as a line of `list` has room for."""


def record(site: Site, failures: "Sequence[Failure]") -> DegradedError | None:
    """Record `failures` for `site` and return them as one error; without any, record nothing and return None."""
    from ..host.files import write_whole

    if not failures:
        forget(site.directory)
        return None
    first, *others = failures
    words = str(first)
    if others:
        words += f", and {len(others)} more: {', '.join(failure.name for failure in others)}"
    details = [line for failure in failures for line in _lines(failure)]
    text = clipped("\n".join([clipped(words, _MESSAGE_CHARACTERS), *details]), _CHARACTERS)
    write_whole(site.directory / RECORD, text.encode())
    return _error(site, text)


def seen(site: Site) -> DegradedError | None:
    """Return the error that `record` returned last; None when nothing failed."""
    try:
        with open(site.directory / RECORD, encoding="utf-8", errors="replace", opener=open_own) as file:
            return _error(site, file.read(_CHARACTERS + 1))
    except OSError:
        return None


def forget(directory: Path) -> None:
    """Remove the record: the machine starts again, or nothing has failed."""
    remove_tree(directory / RECORD)


def _error(site: Site, text: str) -> DegradedError:
    """Return the error that the record `text` describes, of bounded length; what is cut off is marked."""
    words, *details = clipped(text, _CHARACTERS).split("\n")
    if len(details) > _LINES:
        details[_LINES:] = ["…"]
    return DegradedError(clipped(words, _MESSAGE_CHARACTERS), details=details, hint=f"interlock provision {site.name}")


def _lines(failure: "Failure") -> list[str]:
    status = f"exit status {failure.status}" if failure.status else "failed"
    return [f"{failure.name}: {status}", *(f"  {line}" for line in failure.output)]
