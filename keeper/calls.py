"""How a keeper is called: by what starts an instance that needs one. It need not be there, and nobody waits for it.

    root/keeper/lock     held by the keeper of this home for as long as it serves
    root/keeper/calls    a FIFO; each line in it asks the keeper to look at the instances
    root/keeper/log      what it did (log.old: what it did before)

A call must not be lost between the last look of a keeper that ends and its end. So a keeper closes the FIFO first,
looks once more, and ends then; and one that is begun by a call waits for the lock until somebody reads the FIFO.
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
    """Let a keeper of `home` look at its instances soon; one is begun if there is none.

    A keeper that cannot be begun is no error: what it would have done is not done. None is begun by a program that is
    no Python, such as one that embeds it.
    """
    if heard(home) or "python" not in Path(sys.executable or "").name:
        return
    program = [sys.executable, "-P", "-m", "interlock.keeper", str(home.root)]
    # Each thread of a C library's own memory pool costs as much as what the thread does.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with suppress(InterlockError, OSError):
        run(["sh", "-c", _DETACHED, "sh", *program], cwd=Path("/"), env=environment, leaves=True)


def heard(home: Home) -> bool:
    """Return whether a keeper of `home` reads its FIFO, after writing a line to it."""
    return files.call(folder(home) / CALLS)
