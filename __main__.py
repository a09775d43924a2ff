"""The program: `python -m interlock`, and what is installed as `interlock`.

`--version` is answered at once. For everything else, before it is imported, signals are listened to, and each of the
standard streams leads somewhere.
"""

import os
import sys

TYPE_CHECKING = False  # what `typing` calls so, without its import
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the program on the process's arguments, and leave it with the documented exit code."""
    if sys.argv[1:] == ["--version"] and _print_version():
        sys.exit(0)
    from .host import cancellation

    cancellation.listen()
    _stand_in()
    from . import cli

    try:
        cli.main()
    finally:
        cancellation.ignore()


def _print_version() -> bool:
    """Print the version; False where stdout takes nothing, which is for `cli` to deal with."""
    from .version import __version__

    try:
        os.write(1, f"interlock {__version__}\n".encode())
    except OSError:
        return False
    return True


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
