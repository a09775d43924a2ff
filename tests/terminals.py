"""A terminal of its own for a program that tests run."""

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


def on_terminal(command: Sequence[str], environment: Mapping[str, str], typed: bytes = b"") -> tuple[int, str]:
    """Run `command` to its end while `typed` is typed; return its exit code, and what its terminal received."""
    leader, follower = pty.openpty()
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with subprocess.Popen(command, env=environment, start_new_session=True, **streams) as process:
        os.close(follower)
        os.write(leader, typed)
        received = b""
        with suppress(OSError):  # the terminal's end: its last writer is gone
            while chunk := os.read(leader, 1024):
                received += chunk
    os.close(leader)
    return process.returncode, received.decode()
