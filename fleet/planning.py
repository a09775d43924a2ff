"""The differences from the file, and what `apply` would do about them: `plan` itself looks at nothing and does nothing.

A mark records that an instance belongs to a fleet: a file in the instance's directory, written by its creation. So no
instance of a fleet exists without its mark, and the mark is deleted with the instance. The mark names the instance, so
a copy and a renamed instance belong to no fleet. It also records what a machine does not show: its template.
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
"""The command that applies a fleet again, if the name of its file is unknown."""


class Mark(NamedTuple):
    """The fleet that an instance was created for, and the template that it was created from."""

    fleet: str
    name: str
    template: str
    """The template's name for people; without the user and password of a URL."""
    digest: str
    """The digest of the template's content if that is a file or a text, or else of its locator."""
    set: Mapping[str, str]
    """Each key of the template that the file changed → a digest of the value, which may be secret."""

    def content(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def parsed(cls, content: bytes) -> Self | None:
        """Return the mark in `content`; None if `content` is not a mark."""
        with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            data = json.loads(content)
            texts = {key: str(data[key]) for key in ("fleet", "name", "template", "digest")}
            return cls(**texts, set={str(key): str(value) for key, value in data["set"].items()})
        return None


class Wanted(NamedTuple):
    """What the file asks for one instance. A size of None leaves the instance's size as it is."""

    name: str
    state: str
    """`running`, `stopped` or `absent`."""
    mark: Mark
    cpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    fixed: Mapping[str, str] = MappingProxyType({})
    """Those fields of a spec that never change and that the file sets, of driver, arch, cluster and user."""


class Difference(NamedTuple):
    """One difference from the file. Sizes are in words."""

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
    """One instance of a fleet: its differences from the file, and what `apply` does about them."""

    fleet: str
    name: str
    state: State
    differences: tuple[Difference, ...] = ()
    rows: tuple[Trigger, ...] = ()
    """The transitions that `apply` carries out, in order."""
    edits: tuple[str, ...] = ()
    """What `edit` changes: `cpus=4`."""
    consent: bool = False
    """True if it deletes an instance or restarts a guest, so that somebody must agree to it."""
    extra: bool = False
    """True for an instance of the fleet that the file does not name; it is deleted only by `--prune`."""
    mend: str | None = None
    """The command to type for what `apply` does not do."""

    @property
    def deletes(self) -> bool:
        """True if it deletes the instance."""
        return Trigger.delete in self.rows

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `fleet status` and `fleet apply`."""
        return {
            "fleet": self.fleet,
            "name": self.name,
            "state": self.state,
            "differences": [difference._asdict() for difference in self.differences],
            "rows": list(self.rows),
            "edits": list(self.edits),
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
    """Return a step for each instance of `wanted`, in order, then one for each other instance of `fleet`.

    `seen` has the status of the existing instances, `marks` has their marks; `again` is the command that applies the
    file again. With `prune`, the steps of instances that the file does not name delete them.
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
    """Return `step` with what to do about an instance of the fleet that exists and should exist."""
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
    """Yield the differences in what never changes in an existing instance."""
    if wanted.mark.digest != mark.digest:
        yield Difference("template", mark.template, wanted.mark.template)
    for key in sorted({*wanted.mark.set, *mark.set}):
        if wanted.mark.set.get(key) != mark.set.get(key):
            yield Difference(f"set.{key}", mark.set.get(key), wanted.mark.set.get(key))
    for key, value in wanted.fixed.items():
        if (now := getattr(spec, key)) != value:
            yield Difference(key, now or None, value)


def _removal(fleet: str, status: Status, *, extra: bool = False) -> FleetStep:
    """Return the step that deletes an instance of the fleet; one that is protected or damaged is left to the user."""
    name = status.name
    gone = Difference("extra", str(status.state), None) if extra else Difference("state", status.state, State.absent)
    step = FleetStep(fleet, name, status.state, (gone,), extra=extra)
    if status.protected:
        return step._replace(mend=f"interlock unprotect {name}")
    if status.damage:
        return step._replace(mend=f"interlock delete {name} --force")
    return step._replace(rows=path(status.state, Trigger.delete) or (), consent=True)


def _recreation(status: Status, again: str) -> str:
    """Return the command that makes an instance entirely as the file says, but loses what its guest wrote."""
    force = "" if status.state in AT_REST else " --force"
    free = f"interlock unprotect {status.name} && " if status.protected else ""
    return f"{free}interlock delete {status.name}{force} && {again}"
