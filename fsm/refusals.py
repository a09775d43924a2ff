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
    """Return the error for a request with the arguments `asked` that is not legal and whose goal is not met."""
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
    """Return the error for a trigger that has no row in `state`; `protected` says whether the instance is protected."""
    hint = words.way(instance, state, trigger, protected=protected, asked=asked)
    return IllegalTransitionError(words.refusal(instance, state, trigger), hint=hint)


def taken(new: str, trigger: Trigger) -> IllegalTransitionError:
    """Return the error for a trigger that would create an instance with a name that is taken."""
    return IllegalTransitionError(words.taken(new, trigger), hint=words.LIST)


def edited_since(instance: str) -> BusyError:
    """Return the error for an edit of an instance that others have changed while it was open in the editor."""
    return BusyError(words.edited_since(instance), hint=f"interlock edit {instance}")


def tag_taken(instance: str, tag: str) -> IllegalTransitionError:
    """Return the error for a new snapshot with the tag of an existing one."""
    return IllegalTransitionError(words.tag_taken(instance, tag), hint=words.snapshots(instance))


def no_snapshot(instance: str, tag: str) -> NotFoundError:
    """Return the error for a tag that no snapshot has."""
    return NotFoundError(words.no_snapshot(instance, tag), hint=words.snapshots(instance))


def guarded(
    instance: str, trigger: Trigger, *, force: bool = False, asked: Mapping[str, Any] = NOTHING
) -> ProtectedError:
    """Return the error for a trigger that would destroy data of a protected instance; `force` goes into the hint."""
    forced = " --force" if force else ""
    hint = f"{words.typed(instance, Trigger.unprotect)} && {words.typed(instance, trigger, asked)}{forced}"
    return ProtectedError(words.guarded(instance, trigger), hint=hint)


def still_busy(instance: str, trigger: Trigger, operation: Operation, timeout_s: float) -> DeadlineError:
    """Return the error for a caller whose timeout passed while it waited for `operation` of another process."""
    message = f"{words.busy(instance, trigger, operation)}, for longer than {timeout_s:g} s"
    return DeadlineError(message, hint=words.look(instance))


def busy(instance: str, trigger: str, operation: Operation | None, holder: Actor | None = None) -> BusyError:
    """Return the error for an instance whose lock is held by another process: `holder`, or that of `operation`."""
    by = operation.actor if operation else holder
    halted = operation.suspended if operation else holder and suspended(holder)
    hint = f"kill -CONT {by.pid}" if by and halted else f"interlock list {instance}"
    return BusyError(words.busy(instance, trigger, operation, by), hint=hint)


def unseen(instance: str, seen: Observation, spec: Spec | None) -> OutOfReachError:
    """Return the error for a machine of which it is unknown whether it is alive."""
    hint = words.failover(instance) if spec and spec.cluster else None
    return OutOfReachError(f'"{instance}": {seen.condition}', hint=hint)


def out_of_reach(instance: str, trigger: Trigger) -> OutOfReachError:
    """Return the error for an instance whose machine is alive but not visible from here."""
    return OutOfReachError(
        words.out_of_reach(instance, trigger),
        hint=f"interlock list {instance}",
        details=["run the command where the instance was started: outside this container or pid namespace"],
    )
