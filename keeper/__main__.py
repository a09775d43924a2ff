"""The keeper as a process of its own: `python -P -m interlock.keeper HOME`, which `calls.call` runs. It ends by itself.

It handles no signal, because it may be killed at any moment.
"""

import sys
from pathlib import Path

from ..drivers import find
from ..host.home import Home
from .keeper import Keeper

if __name__ == "__main__":
    Keeper(Home.at(Path(sys.argv[1])), find).serve()
