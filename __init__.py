"""Interlock: Linux virtual machines whose lifecycle is an explicit finite-state machine.

The public API. Each name is loaded when it is first used: `interlock --help` pays for none of what leads to drivers
and templates, and the program listens to signals before it imports anything else.
"""

TYPE_CHECKING = False  # what `typing` calls so, without its import

if TYPE_CHECKING:
    from .api import Interlock
    from .creation.wishes import Wishes
    from .disks import Disk
    from .errors import (
        BusyError,
        CancelledError,
        DamagedError,
        DeadlineError,
        DegradedError,
        DriverError,
        HostError,
        IllegalTransitionError,
        ImageError,
        InterlockError,
        InvalidNameError,
        InvalidTemplateError,
        NotFoundError,
        OutOfReachError,
        ProtectedError,
        TooNewError,
        UnreadableError,
        UntrustedTemplateError,
        UsageError,
    )
    from .fsm.events import Event
    from .fsm.happening import Happening
    from .fsm.records import Check, Observation, Operation, Status
    from .fsm.spec import Spec
    from .fsm.states import State
    from .fsm.table import TABLE, Row, Trigger
    from .images.source import Kernel, Place, Source
    from .images.store import Image
    from .log import structlog_announcer
    from .version import __version__

__all__ = [
    "TABLE",
    "BusyError",
    "CancelledError",
    "Check",
    "DamagedError",
    "DeadlineError",
    "DegradedError",
    "Disk",
    "DriverError",
    "Event",
    "Happening",
    "HostError",
    "IllegalTransitionError",
    "Image",
    "ImageError",
    "Interlock",
    "InterlockError",
    "InvalidNameError",
    "InvalidTemplateError",
    "Kernel",
    "NotFoundError",
    "Observation",
    "Operation",
    "OutOfReachError",
    "Place",
    "ProtectedError",
    "Row",
    "Source",
    "Spec",
    "State",
    "Status",
    "TooNewError",
    "Trigger",
    "UnreadableError",
    "UntrustedTemplateError",
    "UsageError",
    "Wishes",
    "__version__",
    "structlog_announcer",
]


_HOMES = {
    "log": ("structlog_announcer",),
    "api": ("Interlock",),
    "creation.wishes": ("Wishes",),
    "disks": ("Disk",),
    "fsm.events": ("Event",),
    "fsm.happening": ("Happening",),
    "fsm.records": ("Check", "Observation", "Operation", "Status"),
    "fsm.spec": ("Spec",),
    "fsm.states": ("State",),
    "fsm.table": ("TABLE", "Row", "Trigger"),
    "images.source": ("Kernel", "Place", "Source"),
    "images.store": ("Image",),
    "version": ("__version__",),
}
"""Where each name is defined; those that are not listed, the errors, in `errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
