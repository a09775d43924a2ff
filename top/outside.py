"""Running a program that has the terminal to itself while the view is suspended."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def on_terminal(argv: Sequence[str], pause: bool) -> int:
    """Run `argv` on this process's terminal and return its exit status. The program itself handles Ctrl-C.

    Interlock, run this way, acts on this host, as the view does, whatever INTERLOCK_HOST says. With `pause`, the
    program's output stays until Enter is pressed. Must be called in the main thread.
    """
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)  # not SIG_IGN, which the program would inherit
    environment = {key: value for key, value in os.environ.items() if key != "INTERLOCK_HOST"}
    try:
        status = subprocess.call(argv, env=environment)
        if pause:
            sys.stdout.write("\nPress Enter to return. ")
            sys.stdout.flush()
            sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    return status
