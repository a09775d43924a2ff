"""The version, and the answer of `--version`, which needs no other import."""

import os

__version__ = "0.1.0"

CONTRACT = 1
"""The version of what docs/contract.md promises: two Interlocks with the same version can work together."""


def answer(line: str) -> bool:
    """Print `line`, which has the version; return False if stdout cannot be written to, for the caller to report."""
    try:
        os.write(1, line.encode())
    except OSError:
        return False
    return True
