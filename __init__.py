"""Interlock: Linux virtual machines whose lifecycle is an explicit finite-state machine.

The public API. Each name is loaded when it is first used: `interlock --help` pays for none of what leads to drivers
and templates, and the program listens to signals before it imports anything else.
"""

from importlib import import_module

TYPE_CHECKING = False  # what `typing` calls so, without its import

if TYPE_CHECKING:
    from .api import Interlock
    from .creation.plan import Wishes
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
        NotRunningError,
        ProtectedError,
        UsageError,
    )
    from .fsm.events import Event, Happening
    from .fsm.records import Observation, Operation, Status
    from .fsm.spec import Spec
    from .fsm.states import State
    from .fsm.table import TABLE, Row, Trigger
    from .version import __version__

__all__ = [
    "TABLE",
    "BusyError",
    "CancelledError",
    "DamagedError",
    "DeadlineError",
    "DegradedError",
    "DriverError",
    "Event",
    "Happening",
    "HostError",
    "IllegalTransitionError",
    "ImageError",
    "Interlock",
    "InterlockError",
    "InvalidNameError",
    "InvalidTemplateError",
    "NotFoundError",
    "NotRunningError",
    "Observation",
    "Operation",
    "ProtectedError",
    "Row",
    "Spec",
    "State",
    "Status",
    "Trigger",
    "UsageError",
    "Wishes",
    "__version__",
]


_HOMES = {
    "api": ("Interlock",),
    "fsm.events": ("Event", "Happening"),
    "fsm.records": ("Observation", "Operation", "Status"),
    "fsm.spec": ("Spec",),
    "fsm.states": ("State",),
    "fsm.table": ("TABLE", "Row", "Trigger"),
    "creation.plan": ("Wishes",),
    "version": ("__version__",),
}
"""Where each name is defined; those that are not listed, the errors, in `errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
