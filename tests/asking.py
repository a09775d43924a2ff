"""The arguments with which tests can request any row of the table."""

from typing import Any

from interlock.fsm.engine import Engine
from interlock.fsm.spec import Forward, Spec
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, Trigger

COPY = "copy"
"""The name of the instance that a clone, a fork or a rename makes."""

TAG = "base"
"""The tag of a snapshot."""


def larger(spec: Spec) -> Spec:
    """Return `spec` with one processor and one port more, and a disk that is a MiB larger."""
    port = Forward("tcp", "127.0.0.1", 8000 + spec.cpus, "", "127.0.0.1", 8000 + spec.cpus, "", reverse=False)
    disk_bytes = spec.disk_bytes + (1 << 20)
    return spec._replace(cpus=spec.cpus + 1, disk_bytes=disk_bytes, forwards=(*spec.forwards, port))


NEEDS: dict[Trigger, dict[str, Any]] = {
    Trigger.clone: {"new": COPY},
    Trigger.fork: {"new": (COPY,)},
    Trigger.rename: {"new": COPY},
    Trigger.edit: {"change": larger},
    Trigger.snapshot: {"tag": TAG},
    Trigger.restore: {"tag": TAG},
    Trigger.discard: {"tag": TAG},
}
"""Trigger → the arguments that its row needs; `create` needs a plan instead."""


def needs(trigger: Trigger | None) -> dict[str, Any]:
    """Return the arguments that `trigger` needs."""
    return NEEDS.get(trigger, {}) if trigger else {}


def prepare(engine: Engine, trigger: Trigger | None, name: str = "web") -> None:
    """Take the snapshot that `trigger` needs, if it needs one and the instance `name` exists."""
    if "tag" in needs(trigger) and trigger is not Trigger.snapshot and engine.status(name).state is not State.absent:
        engine.fire(name, Trigger.snapshot, tag=TAG)


def words(trigger: Trigger) -> list[str]:
    """Return the arguments that the command `trigger` needs after the name."""
    if trigger is Trigger.edit:
        return ["--cpus", "2"]
    return [str(word) for value in needs(trigger).values() for word in ([value] if isinstance(value, str) else value)]


def name_after(trigger: Trigger, name: str = "web") -> str:
    """Return the name of the instance `name` after `trigger`."""
    return COPY if BY_TRIGGER[trigger].moves else name
