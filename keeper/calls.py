"""How a start calls the keeper that its instance needs. The caller does not wait, and no keeper need be running.

    root/keeper/lock     held by the keeper of this home for as long as it serves
    root/keeper/calls    a FIFO; each line in it asks the keeper to look at the instances
    root/keeper/log      what it did (log.old: what it did before)

A call must not be lost between a keeper's last look and its end. So a keeper closes the FIFO first, looks once more,
and only then ends; a keeper that a call launches waits for the lock as long as nobody reads the FIFO.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import InterlockError
from ..host import files
from ..host.home import Home
from ..host.run import run

LOCK, CALLS, LOG = "lock", "calls", "log"

_DETACHED = '"$@" </dev/null >/dev/null 2>&1 &'


def folder(home: Home) -> Path:
    """Return where the keeper of `home` has its files."""
    return home.root / "keeper"


def call(home: Home) -> None:
    """Have a keeper of `home` look at its instances soon; a keeper is launched if none is running.

    It is not an error if it cannot be launched: only its work is not done. A program whose executable is not Python,
    such as one that embeds Python, does not launch a keeper.
    """
    if heard(home) or "python" not in Path(sys.executable or "").name:
        return
    program = [sys.executable, "-P", "-m", "interlock.keeper", str(home.root)]
    # The C library's memory pool for each thread would cost as much as what the thread does.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with suppress(InterlockError, OSError):
        run(["sh", "-c", _DETACHED, "sh", *program], cwd=Path("/"), env=environment, leaves=True)


def heard(home: Home) -> bool:
    """Return whether a keeper of `home` reads its FIFO, after writing a line to it."""
    return files.call(folder(home) / CALLS)
