"""The log: the engine's events as records of structlog, for embedders and the command line, and their JSON Schema."""

from typing import Any

from .errors import BY_REFERENCE
from .fsm.events import Announce, Event
from .fsm.happening import Happening
from .fsm.states import State
from .fsm.table import Trigger

LEVELS = {
    Happening.failed: "error",
    Happening.left: "error",
    Happening.interrupted: "warning",
    Happening.degraded: "warning",
}
"""Event → its level; all other events are `info`."""


def level(event: Event) -> str:
    """Return the level of `event`, which is the name of a method of every structlog logger."""
    return LEVELS.get(event.happening, "info")


def facts(event: Event) -> dict[str, Any]:
    """Return what is known about `event`, by key: `instance`, `operation` (its trigger), and its other facts."""
    known = event.facts()
    return {"instance": known.pop("instance"), "operation": known.pop("trigger"), **known}


def structlog_announcer(logger: Any = None) -> Announce:
    """Return a listener for `Interlock(on_event=...)` that logs each event with `logger`.

    The default logger is `structlog.get_logger("interlock")`. Nothing is configured here: the configuration of the host
    program applies, and may be changed later. structlog's `event` is the constant of the event (`transition_done`); the
    keys are those of `--log-format json`, except that the sentence for people is `sentence`, because `message` is a
    reserved name in the standard library's logging.
    """
    if logger is None:
        import structlog

        logger = structlog.get_logger("interlock")

    def announce(event: Event) -> None:
        getattr(logger, level(event))(str(event.happening), **facts(event), sentence=event.message)

    return announce


def json_schema() -> dict[str, Any]:
    """Return the schema of a line of `--log-format json`; schemas/log.schema.json is generated from it.

    Readers should ignore keys that it does not name, because later versions may add keys.
    """
    from .contract import DIALECT

    text = {"type": "string"}
    state = {"enum": [str(state) for state in State]}
    return {
        "$schema": DIALECT,
        "$id": "interlock:log",
        "title": "A line that Interlock writes to stderr with --log-format json",
        "type": "object",
        "required": ["timestamp", "level", "event", "message"],
        "properties": {
            "timestamp": {**text, "format": "date-time", "description": "ISO 8601, in UTC"},
            "level": {"enum": ["info", "warning", "error"]},
            "event": {"enum": [*(str(happening) for happening in Happening), "report", "note", "hint", "error"]},
            "instance": {**text, "description": "the instance that the line is about, where it is about one"},
            "operation": {
                "enum": [str(trigger) for trigger in Trigger],
                "description": "the trigger that was asked for or runs, where there is one",
            },
            "source": {**state, "description": "of a transition: the state it came from, or the state that is"},
            "dest": {**state, "description": "of a transition: the state it leads to"},
            "seq": {"type": "integer", "minimum": 1, "description": "number of the journal's line"},
            "elapsed_s": {"type": "number", "minimum": 0},
            "step": {**text, "description": "what the work has reached, in words"},
            "detail": {**text, "description": "how it ended, in words"},
            "pid": {"type": "integer", "description": "the other process, where the event is about one"},
            "reference": {"enum": list(BY_REFERENCE), "description": "of an error"},
            "hint": {"type": ["string", "null"], "description": "a command that works as typed"},
            "details": {"type": "array", "items": text, "description": "the words of another program, line by line"},
            "exit_code": {"enum": sorted({kind.exit_code for kind in BY_REFERENCE.values()})},
            "traceback": {**text, "description": "of an error, with --debug"},
            "message": {**text, "description": "the sentence for people"},
        },
        "allOf": [
            _where("^transition_", ["instance", "operation", "source", "dest"]),
            _where("^error$", ["reference", "hint", "details", "exit_code"]),
            _where("^hint$", ["instance", "hint"]),
        ],
    }


def _where(event: str, required: list[str]) -> dict[str, Any]:
    """Return the schema by which a line whose event matches the pattern `event` must have the keys `required`."""
    return {"if": {"properties": {"event": {"pattern": event}}}, "then": {"required": required}}
