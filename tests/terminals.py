"""Terminals for programs and shells that tests run."""

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

DEADLINE_S = 300
"""How long a shell may take to do what was typed."""


def on_terminal(command: Sequence[str], environment: Mapping[str, str], typed: bytes = b"") -> tuple[int, str]:
    """Run `command` at a terminal, with `typed` as its input; return the exit code and the terminal's output."""
    leader, follower = pty.openpty()
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with subprocess.Popen(command, env=environment, start_new_session=True, **streams) as process:
        os.close(follower)
        os.write(leader, typed)
        received = b""
        with suppress(OSError):  # reading fails once the last writer is gone
            while chunk := os.read(leader, 1024):
                received += chunk
    os.close(leader)
    return process.returncode, received.decode()


class Shell:
    """A real shell at a terminal."""

    def __init__(self, argv, environment):
        self.leader, follower = pty.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
        self.process = subprocess.Popen(argv, env=environment, **streams)
        os.close(follower)
        self.said = b""

    def type(self, text, expected):
        """Type `text`, and return once the terminal shows `expected` after it."""
        self.said = b""
        os.write(self.leader, text.encode())
        end = time.monotonic() + DEADLINE_S
        while expected.encode() not in self.said:
            ready, _, _ = select.select([self.leader], [], [], max(0, end - time.monotonic()))
            assert ready, self.said
            self.said += os.read(self.leader, 4096)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)


@contextmanager
def shells(folder: Path, program: str, text: str) -> Iterator[Callable[..., Shell]]:
    """Yield a function that starts a shell with the home `folder`, and with `program`, made of `text`, on its PATH;
    all shells are ended afterwards.
    """
    programs, begun = folder / "bin", []
    programs.mkdir()
    (programs / program).write_text(text)
    (programs / program).chmod(0o755)

    def start(name: str, *arguments: str) -> Shell:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "xterm"}
        environment |= {"PS1": "@ ", "ZDOTDIR": str(folder)}
        begun.append(Shell(["setsid", "--ctty", name, *arguments], environment))
        return begun[-1]

    yield start
    for one in begun:
        one.close()
