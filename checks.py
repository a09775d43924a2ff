"""`doctor`: what Interlock needs on this host, whether it is there, and the command that installs or fixes it."""

import os
import shutil
from collections.abc import Iterator

from . import drivers
from .errors import InterlockError
from .fsm.records import Check
from .host import sizes
from .host.home import Home
from .images import tools

FEW_BYTES = 2 << 30
"""With less free space, building the debian image fails half-way."""


def checks(home: Home) -> Iterator[Check]:
    """Yield the findings about the home (which need not be usable), about each driver, and about building images."""
    yield _home(home)
    for name in drivers.names():
        try:
            yield from drivers.find(name).checks(home.runtime)
        except InterlockError as error:
            yield Check(f"driver {name}", ok=False, finding=error.message, mend=error.hint, essential=False)
    yield _image_building()


def _image_building() -> Check:
    lacking = dict(tools.missing())
    if not lacking:
        return Check("image build", ok=True, finding="everything it needs is there", essential=False)
    finding = f"lacks {', '.join(lacking)}"
    mend = f"apt install {' '.join(sorted(set(lacking.values())))}"
    return Check("image build", ok=False, finding=finding, mend=mend, essential=False)


def _home(home: Home) -> Check:
    try:
        home.prepare()
        free = shutil.disk_usage(home.root).free
    except InterlockError as error:
        return Check("home", ok=False, finding=error.message, mend=error.hint)
    except OSError as error:
        return Check("home", ok=False, finding=f"{error.filename}: {os.strerror(error.errno or 0)}")
    return Check("home", ok=free > FEW_BYTES, finding=f"{home.root}, {sizes.in_words(free)} free", essential=False)
