"""Turns the answers of another machine's Interlock back into the records and errors that they were made from."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DriverError, InterlockError
from ..fleet.planning import Difference, FleetStep
from ..fsm.engine import Outcome
from ..fsm.events import Announce, Event
from ..fsm.happening import Happening
from ..fsm.journal import parsed
from ..fsm.records import Effects, Observation, OpenPort, Operation, Screen, Status, Step
from ..fsm.spec import UNREADABLE, Spec
from ..fsm.states import State
from ..fsm.status import Verdict
from ..fsm.table import Trigger
from ..fsm.watch import Change
from ..host.process import Actor, Usage
from ..host.run import Ended


def objects(text: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in `text`, one a line; other lines are left out."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def failure(ended: Ended) -> InterlockError | None:
    """Return the error that a call printed on stdout as `--json` does, if it did."""
    found = [known["error"] for known in objects(ended.stdout) if isinstance(known.get("error"), dict)]
    return InterlockError.from_record(found[-1]) if found else None


def error_in(ended: Ended) -> InterlockError | None:
    """Return the error that a call logged on stderr as JSON, if it did."""
    found = [known for known in objects(ended.stderr) if known.get("event") == "error"]
    return InterlockError.from_record(found[-1]) if found else None


def status(record: Mapping[str, Any]) -> Status:
    """Return the status that `record`, a line of `list` or `inspect`, was made from.

    A line of `list` holds only the sizes of the machine, so its spec is incomplete.
    """
    name = str(record["name"])
    spec = None
    if "spec" in record:
        spec = Spec.from_json(record["spec"], f'spec of "{name}"')
    elif record["driver"] is not None:
        keys = ("driver", "arch", "cpus", "memory_bytes", "disk_bytes", "user")
        spec = UNREADABLE._replace(**{key: record[key] for key in keys})
    return Status(
        name,
        State(record["state"]),
        Path(record["directory"]),
        operation=_operation(record),
        observation=_observation(record),
        spec=spec,
        reason=record["reason"],
        damage=record["damage"],
        protected=record["protected"],
        autostart=record["autostart"],
        saved=record["memory_saved"],
        changed_at=record["changed_at"],
    )


def _operation(record: Mapping[str, Any]) -> Operation | None:
    known = record["operation"]
    if known is None:
        return None
    return Operation(
        Trigger(known["trigger"]),
        State(record["state"]),
        known["step"],
        since=known["since"],
        step_since=known["since"],
        deadline=known["deadline"],
        actor=Actor(known["pid"], 0, "", known["command"]),
        interrupted=known["interrupted"],
        suspended=known["suspended"],
    )


def _observation(record: Mapping[str, Any]) -> Observation:
    used = record["uptime_s"] is not None
    return Observation(
        record["alive"],
        pid=record["pid"],
        ssh_port=record["ssh_port"],
        condition=record["condition"],
        accelerator=record["accelerator"],
        usage=Usage(record["cpu_s"], record["resident_bytes"], record["uptime_s"]) if used else None,
        ports=tuple(OpenPort(**{**port, "problem": port["problem"] or ""}) for port in record["ports"]),
        vnc=Screen(**record["vnc"]) if record["vnc"] else None,
        node=record.get("node"),  # earlier versions do not send it
    )


def outcome(record: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `record` was made from."""
    steps = record.get("steps")
    return Outcome(
        record["name"],
        Trigger(record["trigger"]),
        State(record["state"]),
        changed=record["changed"],
        detail=record["detail"],
        elapsed_s=record["elapsed_s"],
        steps=None if steps is None else tuple(map(_step, steps)),
    )


def _step(record: Mapping[str, Any]) -> Step:
    effects = Effects(**{key: tuple(record[key]) for key in Effects._fields})
    return Step(record["name"], Trigger(record["trigger"]), State(record["source"]), State(record["dest"]), effects)


def verdict(record: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `record`, a line of `can`, was made from."""
    known = {key: record[key] for key in ("legal", "holds", "why", "hint")}
    return Verdict(record["name"], Trigger(record["trigger"]), State(record["state"]), **known)


def change(record: Mapping[str, Any]) -> Change:
    """Return the change that `record`, a line of `watch`, was made from."""
    if record["event"] == "condition_changed":
        return Change(record["name"], record["time"], None, record["condition"])
    return Change(record["name"], record["time"], parsed(json.dumps(record).encode()))


def fleet_step(record: Mapping[str, Any]) -> FleetStep:
    """Return the step that `record`, a line of `fleet status` or `fleet apply`, was made from."""
    return FleetStep(
        record["fleet"],
        record["name"],
        State(record["state"]),
        tuple(Difference(**known) for known in record["differences"]),
        tuple(map(Trigger, record["rows"])),
        tuple(record.get("edits", ())),  # earlier versions do not send them
        **{key: record[key] for key in ("consent", "extra", "mend")},
    )


class Lines:
    """Receives bytes in pieces and passes them on line by line."""

    def __init__(self, heard: Callable[[bytes], object]) -> None:
        self._heard = heard
        self._begun = bytearray()

    def hear(self, piece: bytes) -> None:
        """Take the next piece; a line longer than a record can be is an error."""
        *lines, rest = bytes(self._begun + piece).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise DriverError(f"a line of more than {_LINE_BYTES >> 20} MiB came from another host")
        self._begun[:] = rest
        for line in lines:
            self._heard(line)


class Events:
    """Receives a log in JSON and announces the events in it; keeps reports and errors."""

    def __init__(self, *announce: Announce | None) -> None:
        self._announce = [one for one in announce if one]
        self._lines = Lines(self._take)
        self.error: InterlockError | None = None
        """The last error."""
        self.errors: dict[str, InterlockError] = {}
        """Instance → the last error about it."""
        self.reports: list[str] = []

    def hear(self, piece: bytes) -> None:
        """Take the next piece of the log; an exception of a listener cancels the work."""
        self._lines.hear(piece)

    def _take(self, line: bytes) -> None:
        for record in objects(line):
            match record.get("event"):
                case "error":
                    self.error = InterlockError.from_record(record)
                    self.errors[str(record.get("instance", ""))] = self.error
                case "report":
                    self.reports.append(str(record.get("message", "")))
                case word if word in _HAPPENINGS:
                    for announce in self._announce:
                        announce(_event(record))


def _event(record: Mapping[str, Any]) -> Event:
    optional = ("elapsed_s", "seq", "step", "detail", "pid", "reference")
    return Event(
        Happening(record["event"]),
        record["instance"],
        Trigger(record["operation"]),
        State(record["source"]),
        **{key: record.get(key) for key in optional},
    )


_HAPPENINGS = frozenset(Happening)
_LINE_BYTES = 256 << 20
"""The output of a command in a guest is one line, in base64."""
