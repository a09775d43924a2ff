"""Interlock: Linux virtual machines whose lifecycle is an explicit finite-state machine.

The public API. `Interlock` and `Wishes` are loaded when they are used: what leads to drivers and templates is not paid
for by `interlock --help`.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .api import Interlock
    from .templates.plan import Wishes

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


def __getattr__(name: str) -> Any:
    if name == "Interlock":
        from .api import Interlock

        return Interlock
    if name == "Wishes":
        from .templates.plan import Wishes

        return Wishes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
