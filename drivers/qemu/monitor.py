"""Commands to a hypervisor's monitor, and their answers or the error.

The monitor is a unix socket in the runtime directory. It serves one client at a time, and a hypervisor that hangs
accepts a connection and never answers. So every answer has a limit of a few seconds, and connections are kept short.
A command that waits for the host's disk, such as `stop`, may take as long as the work that it is part of (`within`).
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ...errors import DeadlineError, DriverError
from ...fsm.port import Deadline
from ...host import cancellation

SOCKET = "qmp.sock"

TIMEOUT_S = 3.0
"""An idle monitor answers in a millisecond, one under full load in tens of them."""


_LONGEST_BYTES = 1 << 20
"""Real answers to these commands are less than a thousandth of this size."""


class MonitorError(DriverError):
    """The hypervisor did not do what its monitor was asked for. It may be alive all the same."""


class LateError(MonitorError):
    """The hypervisor has not answered in time. It may still carry out the command."""


def within(deadline: Deadline) -> float:
    """Return how long to wait for an answer in work that has `deadline`."""
    return max(TIMEOUT_S, deadline.remaining_s)


def execute(runtime: Path, command: str, timeout_s: float = TIMEOUT_S) -> object:
    """Return what the hypervisor of the runtime directory answers to `command`; raise MonitorError if it does not."""
    with Monitor(runtime, timeout_s) as monitor:
        return monitor.ask(command)


class Monitor:
    """A conversation with the hypervisor of a runtime directory, for commands that belong together.

    Uses neither a thread nor an event loop, so that a host short of resources can still end its guests.
    Source: QEMU, docs/interop/qmp-spec.txt.
    """

    def __init__(self, runtime: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = str(runtime / SOCKET)
        self._timeout_s = timeout_s
        self._said = bytearray()

    def __enter__(self) -> Self:
        """Connect; raises MonitorError if the hypervisor does not answer in time."""
        deadline = Deadline(self._timeout_s)
        with _refusals("a connection", self._timeout_s):
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.settimeout(0)
                self._socket.connect(self._path)
                lines = _Lines(self._socket, self._said, deadline)
                lines.after("QMP")
                self._send("qmp_capabilities")
                lines.after("return", "error")
            except BaseException:
                self._socket.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str, descriptor: int | None = None, **arguments: object) -> object:
        """Return the answer to `command`, sent with `descriptor` if given; raise MonitorError on an error or no answer.

        An underscore in the name of an argument stands for a hyphen.
        """
        with _refusals(command, self._timeout_s):
            self._send(command, descriptor, arguments)
            answer = _Lines(self._socket, self._said, Deadline(self._timeout_s)).after("return", "error")
            if "error" in answer:
                raise MonitorError(f"the monitor refused {command}: {answer['error'].get('desc')}")
            return answer["return"]

    def _send(self, command: str, descriptor: int | None = None, arguments: dict[str, object] | None = None) -> None:
        named = {name.replace("_", "-"): value for name, value in (arguments or {}).items()}
        request = json.dumps({"execute": command, **({"arguments": named} if named else {})}).encode() + b"\n"
        socket.send_fds(self._socket, [request], [] if descriptor is None else [descriptor])


@contextmanager
def _refusals(command: str, timeout_s: float) -> Iterator[None]:
    """Raise what goes wrong with `command` as a MonitorError."""
    try:
        yield
    except DeadlineError as err:
        raise LateError(f"the monitor did not answer {command} in {timeout_s:.1f} s") from err
    except (OSError, ValueError, EOFError, AttributeError, RecursionError) as err:
        raise MonitorError(f"the monitor refused {command}: {err}") from err


class _Lines:
    """The lines that a monitor sends until `deadline`; `said` holds what was received but not parsed yet."""

    def __init__(self, monitor: socket.socket, said: bytearray, deadline: Deadline) -> None:
        self._monitor, self._deadline, self._said = monitor, deadline, said

    def after(self, *keys: str) -> dict[str, Any]:
        """Return the next message that has one of `keys`; events in between are skipped."""
        while True:
            line, newline, rest = self._said.partition(b"\n")
            if newline:
                self._said[:] = rest
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("it does not speak QMP")
                if any(key in message for key in keys):
                    return message
                continue
            if self._deadline.passed:
                raise DeadlineError("no answer")
            if cancellation.readable(self._deadline.remaining_s, [self._monitor.fileno()]):
                piece = self._monitor.recv(65536)
                if not piece:
                    raise EOFError("it hung up")
                if len(self._said) > _LONGEST_BYTES:
                    raise EOFError("its output does not end")
                self._said += piece
