"""Functions for stderr and stdout: the width of a terminal, whether it shows colours, and what it must not get."""

import os
from contextlib import suppress
from typing import TextIO

_USUAL_COLUMNS = 80
"""The width of a terminal that does not report one."""


def styled(stream: TextIO) -> bool:
    """True if `stream` is a terminal that shows colours and its user wants them. Source: no-color.org, term(7)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def wrapped(text: str, stream: TextIO, indent: int = 0) -> str:
    """Return `text` with its lines broken between words if `stream` is a terminal, which would break them anywhere.

    Lines after a break are indented by `indent`. A word that is longer than a line, such as a path, stays whole.
    """
    if not stream.isatty():
        return text
    import textwrap

    wrapper = textwrap.TextWrapper(
        columns(stream), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(line if len(line) <= wrapper.width else wrapper.fill(line) for line in text.split("\n"))


def columns(stream: TextIO) -> int:
    """Return the width of the terminal of `stream`; standard output may be another terminal, or not a terminal."""
    with suppress(ValueError):
        return max(int(os.environ.get("COLUMNS", "")), 1)
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    return _USUAL_COLUMNS


def printable(text: str) -> str:
    """Return `text` without control characters: text from a guest must not control the terminal that shows it."""
    if text.isprintable():
        return text  # the usual case
    return "".join(char if char.isprintable() or char in "\t\n" else "" for char in text)
