"""The errors that refuse a transition, each composed from the table."""

from collections.abc import Mapping
from typing import Any

from ..errors import (
    BusyError,
    DeadlineError,
    IllegalTransitionError,
    InterlockError,
    NotFoundError,
    OutOfReachError,
    ProtectedError,
)
from ..host.process import Actor, suspended
from . import words
from .records import Observation, Operation
from .spec import Spec
from .states import State
from .table import Decision, Trigger
from .words import NOTHING


def refused(
    decision: Decision,
    instance: str,
    state: State,
    trigger: Trigger,
    *,
    protected: bool = False,
    asked: Mapping[str, Any] = NOTHING,
) -> InterlockError:
    """Return the error for a request that was decided to be neither legal nor already so; `asked` are its arguments."""
    match decision:
        case Decision.out_of_reach:
            return out_of_reach(instance, trigger)
        case Decision.protected:
            return guarded(instance, trigger, asked=asked)
        case Decision.memory_saved:
            hint = words.way_from_memory(instance, trigger, asked)
            return IllegalTransitionError(words.memory_saved(instance, trigger), hint=hint)
        case _:
            return illegal(instance, state, trigger, protected=protected, asked=asked)


def illegal(
    instance: str, state: State, trigger: Trigger, *, protected: bool = False, asked: Mapping[str, Any] = NOTHING
) -> IllegalTransitionError:
    """Return the error for a trigger that has no row in `state`; `protected` tells whether the instance is."""
    hint = words.way(instance, state, trigger, protected=protected, asked=asked)
    return IllegalTransitionError(words.refusal(instance, state, trigger), hint=hint)


def taken(new: str, trigger: Trigger) -> IllegalTransitionError:
    """Return the error for a trigger that would make an instance of a name that is taken."""
    return IllegalTransitionError(words.taken(new, trigger), hint=words.LIST)


def edited_since(instance: str) -> BusyError:
    """Return the error for a text in an editor that is no longer what others have made of the instance."""
    return BusyError(words.edited_since(instance), hint=f"interlock edit {instance}")


def tag_taken(instance: str, tag: str) -> IllegalTransitionError:
    """Return the error for a snapshot that would be called as another is."""
    return IllegalTransitionError(words.tag_taken(instance, tag), hint=words.snapshots(instance))


def no_snapshot(instance: str, tag: str) -> NotFoundError:
    """Return the error for a tag that stands for nothing."""
    return NotFoundError(words.no_snapshot(instance, tag), hint=words.snapshots(instance))


def guarded(
    instance: str, trigger: Trigger, *, force: bool = False, asked: Mapping[str, Any] = NOTHING
) -> ProtectedError:
    """Return the error for a trigger that would destroy what a protected instance holds; `force` was asked for."""
    forced = " --force" if force else ""
    hint = f"{words.typed(instance, Trigger.unprotect)} && {words.typed(instance, trigger, asked)}{forced}"
    return ProtectedError(words.guarded(instance, trigger), hint=hint)


def still_busy(instance: str, trigger: Trigger, operation: Operation, timeout_s: float) -> DeadlineError:
    """Return the error for a caller whose time ran out while it waited for `operation` of another process."""
    message = f"{words.busy(instance, trigger, operation)}, for longer than {timeout_s:g} s"
    return DeadlineError(message, hint=words.look(instance))


def busy(instance: str, trigger: str, operation: Operation | None, holder: Actor | None = None) -> BusyError:
    """Return the error for an instance that another process holds: `holder`, or the one of `operation`."""
    by = operation.actor if operation else holder
    halted = operation.suspended if operation else holder and suspended(holder)
    hint = f"kill -CONT {by.pid}" if by and halted else f"interlock list {instance}"
    return BusyError(words.busy(instance, trigger, operation, by), hint=hint)


def unseen(instance: str, seen: Observation, spec: Spec | None) -> OutOfReachError:
    """Return the error for a machine of which nobody can tell whether it is alive."""
    hint = words.failover(instance) if spec and spec.cluster else None
    return OutOfReachError(f'"{instance}": {seen.condition}', hint=hint)


def out_of_reach(instance: str, trigger: Trigger) -> OutOfReachError:
    """Return the error for an instance whose machine lives where it cannot be seen from here."""
    return OutOfReachError(
        words.out_of_reach(instance, trigger),
        hint=f"interlock list {instance}",
        details=["run the command where the instance was started: outside this container or pid namespace"],
    )
