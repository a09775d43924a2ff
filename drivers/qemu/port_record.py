"""Which ports of the host lead into a running guest through the shared connection, as it is recorded.

    runtime/ports.json    the ways that the connection may have open, and which process the connection is

Apart from `open_ports`, which writes it, because a list of instances reads this alone.
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
"""The problem of a way that ssh is being asked for, or to close."""


def current(runtime: Path) -> tuple[Actor | None, tuple[OpenPort, ...]]:
    """Return the connection that is open now and its ways, those that are pending too; (None, ()) without one."""
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
