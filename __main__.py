"""The program: `python -m interlock`, and what is installed as `interlock`.

Before anything else is imported, signals are listened to, and each of the standard streams leads somewhere.
"""

import os
import sys

from .host import cancellation

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the program on the process's arguments, and leave it with the documented exit code."""
    cancellation.listen()
    _stand_in()
    from . import cli

    try:
        cli.main()
    finally:
        cancellation.ignore()


def _stand_in() -> None:
    """Let /dev/null stand in for standard streams that are closed: a file of ours would get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - the lowest that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - it is open to the end


if __name__ == "__main__":
    main()
