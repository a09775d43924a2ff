"""Drivers, which act on machines: the contract, those that come with Interlock, and how third-party ones are found.

No module here knows a state, reads a template or fetches an image.
"""

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ..errors import HostError

if TYPE_CHECKING:
    from .contract import Driver

GROUP = "interlock.drivers"
"""Entry-point group in which a package registers a subclass of `contract.Driver` under the name its specs use."""

OURS = {
    "ganeti": (".ganeti.driver", "GanetiDriver"),
    "lima": (".lima.driver", "LimaDriver"),
    "qemu": (".qemu.driver", "QemuDriver"),
    "simulated": (".simulated", "SimulatedDriver"),
}
"""Our own drivers: registered like any other, but found without listing the installed packages, which is slow."""


VARIABLE = "INTERLOCK_DRIVER"
DEFAULT = "qemu"


def default() -> str:
    """Return the name of the driver for instances that are created without naming one: $INTERLOCK_DRIVER, or `qemu`."""
    return os.environ.get(VARIABLE) or DEFAULT


def names() -> list[str]:
    """Return the names of the installed drivers, sorted."""
    from importlib.metadata import entry_points

    return sorted({*OURS, *(entry.name for entry in entry_points(group=GROUP))})


@cache
def find(name: str) -> "Driver":
    """Return the driver called `name`; raises HostError when none is installed or it cannot be loaded."""
    if name in OURS:
        module, kind = OURS[name]
        return cast("Driver", getattr(import_module(module, __package__), kind)())
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        try:
            return cast("Driver", entry.load()())
        except Exception as error:  # another package's code can raise anything
            raise HostError(f'driver "{name}" cannot be loaded: {error}', hint=f"pip show {entry.module}") from error
    raise HostError(f'there is no driver "{name}"; installed: {", ".join(names())}', hint="interlock doctor")
