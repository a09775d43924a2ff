"""Completion in a shell when another host is meant: that host's names, as long as asking it is quick."""

from .address import find
from .connection import Connection
from .greeting import COMPLETE

PATIENCE_S = 3.0


def asked(host: str, shell: str, words: list[str], begun: str) -> str | None:
    """Return the output for `shell`, from the Interlock of `host`; None if `host` is this one.

    A user who presses a key must not wait for a new connection: if none is open, nothing is offered.
    """
    found = find(host)
    if found is None:
        return None
    connection = Connection(found)
    if not connection.is_open():
        return ""
    ended = connection.call([COMPLETE, shell, begun, *words], timeout_s=PATIENCE_S)
    return ended.stdout.decode() if ended.status == 0 else ""
