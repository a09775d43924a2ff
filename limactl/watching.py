"""`watch`: changes of instances as limactl's events.

    {"instance":"web","event":{"time":"...","status":{"running":true,"sshLocalPort":60022},"message":"..."}}

`status` holds the change with the keys of Lima's host agent: `running`, `degraded`, `exiting`, `errors`,
`sshLocalPort`. It is empty for a change that Lima has no key for. `transition` and `message` are our own.
"""

import json
from typing import TYPE_CHECKING, Any

from ..commands.stdout import local_time, write
from ..commands.terminal import printable
from ..errors import CancelledError
from ..fsm.journal import Line, Phase
from ..fsm.table import BOOTS

if TYPE_CHECKING:
    from ..fsm.watch import Change
    from .flags import Call
    from .session import Session

_EVER = "0001-01-01"


def watch(session: "Session", call: "Call") -> int:
    """Print what happens to the named instances, or to all, until a signal ends the watch."""
    for name in call.arguments:
        session.existing(name)
    changes = session.vms.watch(call.arguments, since=_EVER if call.flags.get("history") else None)
    session.stderr.info("Watching for events...")
    try:
        for change in changes:
            if change.line and change.line.phase == Phase.step and not call.flags.get("verbose"):
                continue
            if call.flags.get("json"):
                event = {"time": change.time, "status": _status(session, change), **_ours(change)}
                write(json.dumps({"instance": change.instance, "event": event}, separators=(",", ":")) + "\n")
            else:
                write(f"{local_time(change.time)} {change.instance} | {printable(change.message)}\n")
    except CancelledError:
        pass  # a signal is the normal end of a watch
    return 0


def _ours(change: "Change") -> dict[str, str]:
    transition = {"transition": change.line.trigger} if change.line else {}
    return {**transition, "message": change.message}


def _status(session: "Session", change: "Change") -> dict[str, Any]:
    """Return what `change` says about the instance, with the keys of Lima's host agent."""
    line = change.line
    if line is None:
        seen = session.vms.status(change.instance).observation
        return _set(
            running=bool(seen and seen.alive),
            degraded=bool(seen and seen.alive and change.condition),
            errors=[change.condition] if change.condition else [],
        )
    if not isinstance(line, Line) or line.phase in (Phase.begun, Phase.step):
        return {}
    errors = [str(line.error.get("message"))] if line.error else []
    up = line.state == BOOTS.dest
    if not up:
        return _set(exiting=BOOTS.dest == line.source or line.trigger == BOOTS.trigger, errors=errors)
    seen = session.vms.status(change.instance).observation
    return _set(
        running=up,
        degraded=bool(errors) and line.phase == Phase.done,
        errors=errors,
        sshLocalPort=seen.ssh_port if seen and line.trigger == BOOTS.trigger else None,
    )


def _set(**values: Any) -> dict[str, Any]:
    """Return the non-empty values, as Go's JSON encoder does with omitempty."""
    return {key: value for key, value in values.items() if value}
