"""Connects the ssh of `ssh_control` to its guest, and lets sessions share the connection if the guest's server can.

Run by ssh as its ProxyCommand, with the address, the port, the link to make and the socket it is to lead to. The
connection is handed to ssh as it is, with the server's greeting still to be read (ProxyUseFdpass).

The server that cannot is dropbear from 2022.82 to 2024.85. When a session's process ends, it closes every other session
of the same connection that is open and has not received its command yet: that command never runs, and its ssh exits
with 255 and no message. A dropbear that hides its version counts as one of these. Source: dropbear, CHANGES, 2024.86,
and its pull request 326.

It imports only the standard library, and nothing of this package.
"""

import os
import re
import socket
import sys
import time
from pathlib import Path

_GREETING = re.compile(rb"^SSH-[^\n]*\n", re.MULTILINE)
"""Other lines may come before it. Source: RFC 4253, section 4.2."""

_DROPBEAR = re.compile(rb"^SSH-[^\n]*dropbear(?:_(\d+)\.(\d+))?", re.MULTILINE | re.IGNORECASE)

_FIRST, _MENDED = (2022, 82), (2024, 86)

_PEEK_BYTES = 4096
_TURN_S = 0.01
_PATIENCE_S = 30.0


def main(address: str, port: str, link: Path, place: str) -> None:
    """Hand a connection to `port` of `address` to the ssh at stdout; make `link` point to `place` if the connection may
    be shared, and remove the link otherwise.
    """
    with socket.create_connection((address, int(port)), _PATIENCE_S) as connection:
        shared = may_be_shared(_greeting(connection))
        connection.settimeout(None)
        link.unlink(missing_ok=True)
        if shared:
            link.symlink_to(place)
        with socket.socket(fileno=os.dup(sys.stdout.fileno())) as ssh:
            socket.send_fds(ssh, [b"\0"], [connection.fileno()])


def may_be_shared(greeting: bytes) -> bool:
    """Return whether the server that sent `greeting` keeps the sessions of one connection apart."""
    found = _DROPBEAR.search(greeting)
    if found is None:
        return True
    return found[1] is not None and not _FIRST <= (int(found[1]), int(found[2])) < _MENDED


def _greeting(connection: socket.socket) -> bytes:
    """Return what the server has sent, once its greeting is whole, and leave it to be read."""
    late = time.monotonic() + _PATIENCE_S
    while time.monotonic() < late:
        said = connection.recv(_PEEK_BYTES, socket.MSG_PEEK)
        if not said:
            break
        if _GREETING.search(said) or len(said) == _PEEK_BYTES:
            return said
        time.sleep(_TURN_S)  # what is there already would end the next call at once
    sys.exit("the guest's ssh server sent no greeting")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
