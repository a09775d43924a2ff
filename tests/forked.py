"""The real program in a process of its own, without the time that its imports take.

`Forked` starts one Python that has imported the program. Each run is a fork of it: a process with its own memory,
descriptors, environment and exit code, which calls `main` and exits without taking its modules apart. The functional
tests run the program a thousand times, and most of that time went into imports and into Python's last moments. Tests of
what happens before or after `main`, or of Python's own environment, start a Python of their own.

This file is also that Python's program. A request is one datagram, with the three standard streams; the answers are
the process's id and then its wait status.
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
"""What most runs import, beside the commands."""


class Forked:
    """A Python that has imported the program, for as long as the context lasts."""

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
        """Return what the program did with `arguments`; kill it after `timeout_s` seconds (TimeoutError)."""
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
    """Answer requests, one after the other, until nobody is there to ask."""
    from interlock import commands

    modules = [f"interlock.commands.{module.name}" for module in pkgutil.iter_modules(commands.__path__)]
    for name in (*PRELOADED, *modules):
        importlib.import_module(name)
    gc.freeze()  # a collection in a fork need not copy what is there already
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
    """Be the program that was called with `arguments`; this does not return."""
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
