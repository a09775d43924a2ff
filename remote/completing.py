"""What a shell offers to complete where another host is meant: that host's names, as long as asking it is quick."""

from .address import find
from .connection import Connection
from .greeting import COMPLETE

PATIENCE_S = 3.0


def asked(host: str, shell: str, words: list[str], begun: str) -> str | None:
    """Return what `shell` is to read, as the Interlock of `host` says; None where `host` is this one.

    Nobody who presses a key waits for a connection to be made: where none is open, nothing is offered.
    """
    found = find(host)
    if found is None:
        return None
    connection = Connection(found)
    if not connection.is_open():
        return ""
    ended = connection.call([COMPLETE, shell, begun, *words], timeout_s=PATIENCE_S)
    return ended.stdout.decode() if ended.status == 0 else ""
