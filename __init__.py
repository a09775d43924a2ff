"""Interlock: Linux virtual machines whose lifecycle is an explicit finite-state machine.

The public API. Each name is imported when it is first used, so `interlock --help` does not import drivers or templates,
and the program can listen to signals before it imports anything else.
"""

TYPE_CHECKING = False  # as in `typing`, without importing it

if TYPE_CHECKING:
    from .creation.reach import Reach
    from .creation.templates import Templates
    from .creation.wishes import Wishes
    from .disks import Disk, Disks
    from .drivers.contract import Driver, Found
    from .drivers.simulated import Ran, SimulatedDriver, SimulatedMachine
    from .errors import (
        BusyError,
        CancelledError,
        DamagedError,
        DeadlineError,
        DegradedError,
        DriftError,
        DriverError,
        HostError,
        IllegalTransitionError,
        ImageError,
        InterlockError,
        InvalidNameError,
        InvalidTemplateError,
        NoInterlockError,
        NotFoundError,
        OutOfReachError,
        ProtectedError,
        TooNewError,
        UnreachableError,
        UnreadableError,
        UntrustedTemplateError,
        UsageError,
        VersionMismatchError,
    )
    from .fleet.applying import Fleet, FleetResult
    from .fleet.planning import Difference, FleetStep
    from .fsm.engine import Outcome
    from .fsm.events import Event
    from .fsm.happening import Happening
    from .fsm.journal import Entry, Line, Phase
    from .fsm.records import Check, Effects, Mending, Observation, Operation, Status, Step
    from .fsm.snapshots import Snapshot
    from .fsm.spec import Copy, Forward, Mount, PortRule, Probe, Spec
    from .fsm.states import State
    from .fsm.status import Verdict
    from .fsm.table import TABLE, Row, Trigger
    from .fsm.watch import Change
    from .guest.agent import Load
    from .guest.command import Completed
    from .guest.copying import Copied, Copying
    from .host.home import Home
    from .host.process import Actor, Usage
    from .host.unneeded import Unneeded
    from .images.library import Images
    from .images.source import Kernel, Place, Source
    from .images.store import Blob, Image
    from .images.warm import WarmImage
    from .log import structlog_announcer
    from .remote.vms import Interlock
    from .templates.load import Loaded
    from .version import __version__

__all__ = [
    "TABLE",
    "Actor",
    "Blob",
    "BusyError",
    "CancelledError",
    "Change",
    "Check",
    "Completed",
    "Copied",
    "Copy",
    "Copying",
    "DamagedError",
    "DeadlineError",
    "DegradedError",
    "Difference",
    "Disk",
    "Disks",
    "DriftError",
    "Driver",
    "DriverError",
    "Effects",
    "Entry",
    "Event",
    "Fleet",
    "FleetResult",
    "FleetStep",
    "Forward",
    "Found",
    "Happening",
    "Home",
    "HostError",
    "IllegalTransitionError",
    "Image",
    "ImageError",
    "Images",
    "Interlock",
    "InterlockError",
    "InvalidNameError",
    "InvalidTemplateError",
    "Kernel",
    "Line",
    "Load",
    "Loaded",
    "Mending",
    "Mount",
    "NoInterlockError",
    "NotFoundError",
    "Observation",
    "Operation",
    "OutOfReachError",
    "Outcome",
    "Phase",
    "Place",
    "PortRule",
    "Probe",
    "ProtectedError",
    "Ran",
    "Reach",
    "Row",
    "SimulatedDriver",
    "SimulatedMachine",
    "Snapshot",
    "Source",
    "Spec",
    "State",
    "Status",
    "Step",
    "Templates",
    "TooNewError",
    "Trigger",
    "Unneeded",
    "UnreachableError",
    "UnreadableError",
    "UntrustedTemplateError",
    "Usage",
    "UsageError",
    "Verdict",
    "VersionMismatchError",
    "WarmImage",
    "Wishes",
    "__version__",
    "structlog_announcer",
]


_HOMES = {
    "log": ("structlog_announcer",),
    "creation.reach": ("Reach",),
    "creation.templates": ("Templates",),
    "creation.wishes": ("Wishes",),
    "disks": ("Disk", "Disks"),
    "drivers.contract": ("Driver", "Found"),
    "drivers.simulated": ("Ran", "SimulatedDriver", "SimulatedMachine"),
    "fleet.applying": ("Fleet", "FleetResult"),
    "fleet.planning": ("Difference", "FleetStep"),
    "fsm.engine": ("Outcome",),
    "fsm.events": ("Event",),
    "fsm.happening": ("Happening",),
    "fsm.journal": ("Entry", "Line", "Phase"),
    "fsm.records": ("Check", "Effects", "Mending", "Observation", "Operation", "Status", "Step"),
    "fsm.snapshots": ("Snapshot",),
    "fsm.spec": ("Copy", "Forward", "Mount", "PortRule", "Probe", "Spec"),
    "fsm.states": ("State",),
    "fsm.status": ("Verdict",),
    "fsm.table": ("TABLE", "Row", "Trigger"),
    "fsm.watch": ("Change",),
    "guest.agent": ("Load",),
    "guest.command": ("Completed",),
    "guest.copying": ("Copied", "Copying"),
    "host.home": ("Home",),
    "host.process": ("Actor", "Usage"),
    "host.unneeded": ("Unneeded",),
    "images.library": ("Images",),
    "images.source": ("Kernel", "Place", "Source"),
    "images.store": ("Blob", "Image"),
    "images.warm": ("WarmImage",),
    "remote.vms": ("Interlock",),
    "templates.load": ("Loaded",),
    "version": ("__version__",),
}
"""Module → the names that it defines. Names that are not listed here are errors, from `errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
