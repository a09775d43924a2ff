"""How a program of ours exits without the time that Python takes to unload its modules."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from interlock.commands.program import leave

class Late:
    def __del__(self):
        print("taken apart")

late = Late()
late.itself = late
atexit.register(lambda: print("handler"))
sys.stdout.write("printed ")
{begin}
leave(SystemExit({code}))
"""
THREAD = """
import threading, time
threading.Thread(target=lambda: (threading.main_thread().join(), print("thread "))).start()
"""


@pytest.mark.parametrize(
    ("begin", "code", "expected"),
    [
        ("", 3, (3, "printed handler\n")),
        ("sys.stdout.flush(); sys.stdout.close()", 3, (3, "printed ")),
        (THREAD, 3, (3, "printed thread \nhandler\ntaken apart\n")),
        ("", "'words'", (1, "printed handler\ntaken apart\n")),
    ],
    ids=["at once", "without a stdout", "after threads", "with words"],
)
def test_leave_does_what_an_exit_does_and_skips_what_it_may(begin, code, expected):
    """Handlers run and output is written; if there are threads or an exit message, Python exits as usual."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(begin=begin, code=code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == expected
