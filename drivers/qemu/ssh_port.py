"""The local TCP port behind which the guest's sshd answers.

The port is chosen once and kept until another program takes it. If the spec names a port, no other is used.

network.json    {"ssh_port": 23118, "schema": 1}, and what a newer version adds, which is kept
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
"""Below the ports that Linux gives to outgoing connections (32768 and up), so that those take none of ours."""

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
    """Return the port to start with, and record it: the one it had, or a new one, reported, if that is taken.

    Raises DriverError naming the owner when the spec names a port that is taken, TooNewError when a newer version wrote
    the record in a form that this one cannot keep.
    """
    old, port = recorded(site.directory), chosen(site)
    if old is not None and old != port and not site.spec.ssh_port:
        report(f"another program took port {old}: ssh moves to port {port}")
    if old != port:
        _record(site, port)
    return port


def chosen(site: Site) -> int:
    """Return the port that `choose` would choose now, and raise what it would; nothing is recorded."""
    import zlib

    from . import host_ports

    _read(site.directory)
    old, wanted = recorded(site.directory), site.spec.ssh_port
    if wanted:
        host_ports.check_free("127.0.0.1", wanted)
        return wanted
    if old is not None and host_ports.free(old):
        return old
    promised = {forward.host_port for forward in site.spec.forwards}
    # Each instance begins its search at a place of its own: those that start together do not all try the same port, and
    # one that is down is likely to find its port free when it starts again.
    first = zlib.crc32(site.spec.instance_id.encode()) % len(_PORTS)
    for step in range(len(_PORTS)):
        port = _PORTS[(first + step) % len(_PORTS)]
        if port != old and port not in promised and host_ports.free(port):
            return port
    raise HostError(f"no TCP port from {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1")


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
