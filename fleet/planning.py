"""What is not as the file says, and what `apply` would do about it: `plan` looks at nothing and does nothing.

Which instances belong to a fleet is recorded in a mark: a file that creation lays into the instance's directory with
all the rest. So no instance of a fleet exists without it, and it is deleted with its instance. It names the instance,
so a copy and an instance that was renamed belong to no fleet. It also keeps what a machine does not show: what it was
created from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from ..fsm.records import Status
from ..fsm.states import AT_REST, EXISTING, State
from ..fsm.status import decision
from ..fsm.table import BY_TRIGGER, Decision, Trigger, path
from ..host.sizes import exact, in_words

MARK = "fleet.json"
"""The file in an instance's directory that says to which fleet it belongs."""


AGAIN = "interlock fleet apply FILE"
"""The command that applies a fleet once more, where nobody knows what its file is called."""


class Mark(NamedTuple):
    """What an instance was created for, and from."""

    fleet: str
    name: str
    template: str
    """For people; without the user and password of a URL."""
    digest: str
    """Of the template's content where that is a file or a text, else of what it is called."""
    set: Mapping[str, str]
    """Each key of the template that the file changed → a digest of the value, which may be secret."""

    def content(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def parsed(cls, content: bytes) -> Self | None:
        """Return the mark in `content`; None for anything else, which belongs to no fleet."""
        with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            data = json.loads(content)
            texts = {key: str(data[key]) for key in ("fleet", "name", "template", "digest")}
            return cls(**texts, set={str(key): str(value) for key, value in data["set"].items()})
        return None


class Wanted(NamedTuple):
    """What one instance should be. None leaves a size as it is."""

    name: str
    state: str
    """`running`, `stopped` or `absent`."""
    mark: Mark
    cpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    fixed: Mapping[str, str] = MappingProxyType({})
    """Fields of a spec that never change, where the file says something about them: driver, arch, cluster, user."""


class Difference(NamedTuple):
    """One thing that is not as the file says. Sizes are in words."""

    what: str
    """`missing`, `extra`, `fleet`, `damage`, `state`, or what differs: `cpus`, `memory`, `disk`, `template`, `set.KEY`,
    `driver`, `cluster`, `arch`, `user`."""
    found: str | None
    file: str | None

    def __str__(self) -> str:
        if self.what == "damage":
            return f"damaged: {self.found}"
        if self.what == "fleet":
            return f"of fleet {self.found}" if self.found else "of no fleet"
        if self.what in ("missing", "extra"):
            return "missing" if self.what == "missing" else "not in the file"
        if self.what.startswith("set."):
            return f"{self.what.removeprefix('set.')} changed"
        return f"{self.what} {self.found} → {self.file}" if self.found != self.file else f"{self.what} changed"


class FleetStep(NamedTuple):
    """One instance of a fleet: what is not as its file says, and what `apply` does about it."""

    fleet: str
    name: str
    state: State
    differences: tuple[Difference, ...] = ()
    rows: tuple[Trigger, ...] = ()
    """The transitions that `apply` carries out, in order."""
    edits: tuple[str, ...] = ()
    """What `edit` changes: `cpus=4`."""
    consent: bool = False
    """True when it deletes an instance or restarts a guest, which has to be agreed to."""
    extra: bool = False
    """True for an instance of the fleet that the file does not name; it is deleted only by `--prune`."""
    mend: str | None = None
    """The command for what `apply` does not do."""

    @property
    def deletes(self) -> bool:
        """True when the instance is gone afterwards."""
        return Trigger.delete in self.rows

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `fleet status` and `fleet apply`."""
        return {
            "fleet": self.fleet,
            "name": self.name,
            "state": self.state,
            "differences": [difference._asdict() for difference in self.differences],
            "rows": list(self.rows),
            "consent": self.consent,
            "extra": self.extra,
            "mend": self.mend,
        }


def plan(
    fleet: str,
    wanted: Sequence[Wanted],
    seen: Mapping[str, Status],
    marks: Mapping[str, Mark],
    *,
    prune: bool = False,
    again: str = AGAIN,
) -> list[FleetStep]:
    """Return a step for each instance of `wanted`, in their order, then one for each that `fleet` has besides.

    `seen` has the status of those that exist, `marks` the marks that lie beside them; `again` is the command that
    applies the file once more. With `prune`, those that the file does not name are to be deleted.
    """
    ours = {name for name, mark in marks.items() if mark.fleet == fleet and mark.name == name}
    steps = [_step(fleet, one, seen.get(one.name), marks.get(one.name), again, ours=one.name in ours) for one in wanted]
    for name in sorted(ours & {*seen} - {one.name for one in wanted}):
        gone = _removal(fleet, seen[name], extra=True)
        steps.append(gone if prune or gone.mend else gone._replace(rows=(), consent=False, mend=f"{again} --prune"))
    return steps


def _step(fleet: str, wanted: Wanted, status: Status | None, mark: Mark | None, again: str, *, ours: bool) -> FleetStep:
    name, absent = wanted.name, wanted.state == State.absent
    if status is None or (status.state not in EXISTING and not status.damage):
        if absent:
            return FleetStep(fleet, name, State.absent)
        rows = (Trigger.create, Trigger.start) if wanted.state == State.running else (Trigger.create,)
        missing = Difference("missing", None, wanted.state)
        return FleetStep(fleet, name, State.absent, (missing,), rows)
    if mark is None or not ours:
        owner = mark.fleet if mark and mark.name == name else None
        foreign = Difference("fleet", owner, fleet)
        return FleetStep(fleet, name, status.state, (foreign,), mend=f"interlock rename {name} {name}-other")
    if absent:
        return _removal(fleet, status)
    if status.damage or status.spec is None:
        damage = Difference("damage", status.damage, None)
        return FleetStep(fleet, name, status.state, (damage,), mend=f"interlock repair {name}")
    return _compared(FleetStep(fleet, name, status.state), wanted, status, mark, again)


def _compared(step: FleetStep, wanted: Wanted, status: Status, mark: Mark, again: str) -> FleetStep:
    """Return `step` with what is to be done about an instance of the fleet that is there and should be."""
    spec, seen, starting = status.spec, status.observation, decision(status, BY_TRIGGER[Trigger.start])
    assert spec is not None  # noqa: S101 - the caller has looked
    if starting is Decision.out_of_reach or (seen and seen.alive is None):
        unseen = Difference("state", seen and seen.condition, wanted.state)
        return step._replace(differences=(unseen,), mend=f"interlock inspect {step.name}")
    up = starting is Decision.holds and not (seen and seen.alive is False)
    differences, edits = [], []
    if up is not (wanted.state == State.running):
        differences.append(Difference("state", str(State.running if up else status.state), wanted.state))
    for key, now, then in (
        ("cpus", spec.cpus, wanted.cpus),
        ("memory", spec.memory_bytes, wanted.memory_bytes),
        ("disk", spec.disk_bytes, wanted.disk_bytes),
    ):
        if then is not None and then != now:
            words = str if key == "cpus" else in_words
            differences.append(Difference(key, words(now), words(then)))
            if key != "disk" or then > now:
                edits.append(f"{key}={then if key == 'cpus' else exact(then)}")
    rebooted = up and any(not edit.startswith("disk=") for edit in edits)
    down = up and (rebooted or wanted.state != State.running)
    start = wanted.state == State.running and (down or not up)
    asked = ((Trigger.stop, down), (Trigger.edit, bool(edits)), (Trigger.start, start))
    unlike = tuple(_unlike(wanted, spec, mark))
    smaller = wanted.disk_bytes is not None and wanted.disk_bytes < spec.disk_bytes
    return step._replace(
        differences=(*differences, *unlike),
        rows=tuple(row for row, needed in asked if needed),
        edits=tuple(edits),
        consent=down and start,
        mend=_recreation(status, again) if unlike or smaller else None,
    )


def _unlike(wanted: Wanted, spec: Any, mark: Mark) -> Iterator[Difference]:
    """Yield what differs and never changes in an instance that exists."""
    if wanted.mark.digest != mark.digest:
        yield Difference("template", mark.template, wanted.mark.template)
    for key in sorted({*wanted.mark.set, *mark.set}):
        if wanted.mark.set.get(key) != mark.set.get(key):
            yield Difference(f"set.{key}", mark.set.get(key), wanted.mark.set.get(key))
    for key, value in wanted.fixed.items():
        if (now := getattr(spec, key)) != value:
            yield Difference(key, now or None, value)


def _removal(fleet: str, status: Status, *, extra: bool = False) -> FleetStep:
    """Return the step that deletes an instance of the fleet: by the table's shortest way, and never a protected one."""
    name = status.name
    gone = Difference("extra", str(status.state), None) if extra else Difference("state", status.state, State.absent)
    step = FleetStep(fleet, name, status.state, (gone,), extra=extra)
    if status.protected:
        return step._replace(mend=f"interlock unprotect {name}")
    if status.damage:
        return step._replace(mend=f"interlock delete {name} --force")
    return step._replace(rows=path(status.state, Trigger.delete) or (), consent=True)


def _recreation(status: Status, again: str) -> str:
    """Return the command after which an instance is as the file says in all, at the price of what its guest wrote."""
    force = "" if status.state in AT_REST else " --force"
    free = f"interlock unprotect {status.name} && " if status.protected else ""
    return f"{free}interlock delete {status.name}{force} && {again}"
