"""One command to a hypervisor's monitor, and its answer or the error.

The monitor is a unix socket in the runtime directory. It serves one client at a time, and a hypervisor that hangs
accepts a connection and never answers. So every call connects, asks and closes within a few seconds.
"""

import json
import socket
from pathlib import Path
from typing import Any

from ...errors import DeadlineError, DriverError
from ...fsm.port import Deadline
from ...host import cancellation

SOCKET = "qmp.sock"

TIMEOUT_S = 3.0
"""An idle monitor answers in a millisecond, one under full load in tens of them."""


_LONGEST_BYTES = 1 << 20
"""Real answers to these commands have less than a thousandth of it."""


class MonitorError(DriverError):
    """The hypervisor did not answer on its monitor. It may be alive all the same."""


def execute(runtime: Path, command: str, timeout_s: float = TIMEOUT_S) -> object:
    """Return what the hypervisor of the runtime directory answers to `command`; raise MonitorError if it does not.

    Uses neither a thread nor an event loop, so that a host short of resources can still end its guests.
    Source: QEMU, docs/interop/qmp-spec.txt.
    """
    deadline = Deadline(timeout_s)
    try:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(0)
            monitor.connect(str(runtime / SOCKET))
            lines = _Lines(monitor, deadline)
            lines.after("QMP")
            for request in ("qmp_capabilities", command):
                monitor.send(json.dumps({"execute": request}).encode() + b"\n")
                answer = lines.after("return", "error")
            if "error" in answer:
                raise MonitorError(f"the monitor refused {command}: {answer['error'].get('desc')}")
            return answer["return"]
    except DeadlineError as err:
        raise MonitorError(f"the monitor did not answer in {timeout_s:.1f} s") from err
    except (OSError, ValueError, EOFError, AttributeError, RecursionError) as err:
        raise MonitorError(f"the monitor refused {command}: {err}") from err


class _Lines:
    """The lines that a monitor sends until `deadline`."""

    def __init__(self, monitor: socket.socket, deadline: Deadline) -> None:
        self._monitor, self._deadline = monitor, deadline
        self._said = bytearray()

    def after(self, *keys: str) -> dict[str, Any]:
        """Return the next message that has one of `keys`; events in between are skipped."""
        while True:
            line, newline, rest = self._said.partition(b"\n")
            if newline:
                self._said = rest
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
                    raise EOFError("it talks without end")
                self._said += piece
