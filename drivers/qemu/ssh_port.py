"""The local TCP port behind which the guest's sshd answers.

The port is chosen once and kept for as long as nobody else has it. An instance may insist on one; then it is that port
or none.

network.json    {"ssh_port": 23118, "schema": 1}, and what a newer version may add, which is kept
"""

import json
from pathlib import Path
from typing import Any

from ...errors import HostError, TooNewError
from ...fsm.schema import check_schema
from ...host.files import read_own
from ..contract import Report, Site

RECORD = "network.json"

_SCHEMA = 1

_PORTS = range(20000, 32768)
"""Below the ports that Linux gives to outgoing connections (32768 and up), so that none of those takes one of ours."""

_LAST = 65535

REFUSED = "Could not set up host forwarding rule"
"""What QEMU says when another program took the port after it was found free."""


def recorded(directory: Path) -> int | None:
    """Return the port of the instance in `directory`; None before its first start."""
    try:
        port = _read(directory).get("ssh_port")
    except TooNewError:
        return None
    return port if type(port) is int and 0 < port <= _LAST else None


def choose(site: Site, report: Report) -> int:
    """Return the port to start with, recorded: the one it had, or a new one, said so, where that one is taken.

    Raises DriverError naming its owner when the instance insists on a port and that one is taken, TooNewError when a
    newer version has written the record in a form that this one cannot keep.
    """
    import zlib

    from . import host_ports

    _read(site.directory)
    old, wanted = recorded(site.directory), site.spec.ssh_port
    if wanted:
        host_ports.check_free("127.0.0.1", wanted)
        if old != wanted:
            _record(site, wanted)
        return wanted
    if old is not None and host_ports.free(old):
        return old
    promised = {forward.host_port for forward in site.spec.forwards}
    # Begins at a place of the instance's own, so that instances started together do not all try the same port, and
    # one that is down finds its port again: another that looks for one begins elsewhere.
    first = zlib.crc32(site.spec.instance_id.encode()) % len(_PORTS)
    for step in range(len(_PORTS)):
        port = _PORTS[(first + step) % len(_PORTS)]
        if port != old and port not in promised and host_ports.free(port):
            break
    else:
        raise HostError(f"no TCP port from {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1")
    if old is not None:
        report(f"another program took port {old}: ssh moves to port {port}")
    _record(site, port)
    return port


def _read(directory: Path) -> dict[str, Any]:
    """Return the record; an empty one where it is missing or damaged. Raises TooNewError for one of a newer schema."""
    path = directory / RECORD
    try:
        record = json.loads(read_own(path))
        check_schema(record, _SCHEMA, path)
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return dict(record)


def _record(site: Site, port: int) -> None:
    from ...host.files import write_whole

    record = {**_read(site.directory), "ssh_port": port, "schema": _SCHEMA}
    write_whole(site.directory / RECORD, json.dumps(record).encode() + b"\n")
