"""The record of the host's ports that lead into a running guest through the shared connection.

    runtime/ports.json    the forwards that the connection may have open, and which process the connection is

Separate from `open_ports`, which writes the record, so that `list` needs to import only this module.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...fsm.records import OpenPort
from ...host import process
from ...host.files import read_own
from ...host.process import Actor

PORTS = "ports.json"

PENDING = "pending"
"""The problem of a forward that ssh is being asked to open or close."""


def current(runtime: Path) -> tuple[Actor | None, tuple[OpenPort, ...]]:
    """Return the connection that is open now and its forwards, including pending ones; (None, ()) without one."""
    try:
        data: dict[str, Any] = json.loads(read_own(runtime / PORTS))
        connection, ports = Actor(**data["connection"]), tuple(OpenPort(**port) for port in data["ports"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, ()
    return (connection, ports) if process.alive(connection) else (None, ())


def seen(runtime: Path) -> tuple[OpenPort, ...]:
    """Return the ports of the connection that is open now; nothing without one."""
    return tuple(port for port in current(runtime)[1] if port.problem != PENDING)


def written(connection: Actor | None, ports: Sequence[OpenPort]) -> bytes:
    """Return the content of the record."""
    known = {"connection": connection and connection._asdict(), "ports": [port._asdict() for port in ports]}
    return json.dumps(known).encode() + b"\n"
