"""Runs the real program in a separate process, without the time that its imports take.

`Forked` starts one Python that imports the program. Each run is a fork of it: a process with its own memory,
descriptors, environment and exit code, which calls `main` and exits without Python's cleanup. The functional tests
run the program a thousand times, and most of that time was spent on imports and on the cleanup. Tests of what happens
before or after `main`, or of Python's own environment, start a new Python.

This file is also the program of that Python. A request is one datagram, with the three standard streams; the answers
are the process's id and then its wait status.
"""

import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

REQUEST_BYTES = 1 << 17
PRELOADED = (
    "difflib",
    "interlock.__main__",
    "interlock.cli",
    "interlock.creation.editing",
    "interlock.creation.plan",
    "interlock.creation.templates",
    "interlock.drivers.simulated",
    "interlock.fsm.instance",
    "interlock.images.library",
    "interlock.log",
    "rich.progress",
    "rich.table",
    "structlog",
)
"""The modules that most runs import, besides the commands."""


class Forked:
    """A Python process that has imported the program; it ends with the context."""

    def __enter__(self) -> Self:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._server.wait()

    def run(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """Return the result of the program run with `arguments`; after `timeout_s` seconds, kill it (TimeoutError)."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, Path("/dev/null").open() as stdin:
            request = json.dumps([list(map(str, arguments)), str(cwd), dict(env)]).encode()
            streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
            socket.send_fds(self._ours, [request], streams)
            pid = int(self._ours.recv(32))
            self._ours.settimeout(timeout_s)
            try:
                status = int(self._ours.recv(32))
            except TimeoutError:
                os.kill(pid, 9)
                raise
            finally:
                self._ours.settimeout(None)
            said = []
            for stream in (stdout, stderr):
                stream.seek(0)
                said.append(stream.read().decode())
        return subprocess.CompletedProcess(["interlock", *arguments], os.waitstatus_to_exitcode(status), *said)


def serve(connection: socket.socket) -> None:
    """Answer requests, one after the other, until the connection is closed."""
    from interlock import commands

    modules = [f"interlock.commands.{module.name}" for module in pkgutil.iter_modules(commands.__path__)]
    for name in (*PRELOADED, *modules):
        importlib.import_module(name)
    gc.freeze()  # so that a garbage collection in a fork does not copy all objects
    while True:
        request, streams, *_ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not request:
            return
        pid = os.fork()
        if not pid:
            connection.close()
            become(*json.loads(request), streams)
        for stream in streams:
            os.close(stream)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(status).encode())


def become(arguments: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> None:
    """Run the program with `arguments` in this process; this does not return."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["interlock", *arguments]
    from interlock.__main__ import main

    try:
        main()
    except SystemExit as ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(ended.code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
