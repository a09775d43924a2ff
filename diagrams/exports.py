"""The table for other programs that handle state machines: PlantUML draws it, SCXML and XState run it.

A row without a destination becomes a transition that is legal and does not change the state: one without a target in
SCXML, and one to the same state in XState, whose `can()` denies a transition with neither target nor action.
Protection, the only other fact that is modelled besides the state, becomes a guard.
"""

import json
from typing import Any
from xml.sax.saxutils import quoteattr

from ..fsm import table
from ..fsm.states import PROMISE, State
from ..fsm.table import Row
from .layout import INITIAL, edges
from .render import asides


def plantuml(current: State | None = None) -> str:
    """Return a PlantUML state diagram; `current` is filled. Source: plantuml.com/state-diagram."""
    lines = ["@startuml", "hide empty description", f"[*] --> {INITIAL}"]
    lines += [f"state {state} #ddf4ff" if state is current else f"state {state}" for state in State]
    for edge in edges():
        arrow = "-[dashed]->" if edge.observed else "-->"
        lines.append(f"{edge.source} {arrow} {edge.dest} : {edge.label}")
    if asides():
        lines += ["legend bottom", *asides(), "end legend"]
    return "\n".join([*lines, "@enduml"]) + "\n"


def scxml(current: State | None = None) -> str:
    """Return a State Chart XML document that begins in `current`. Source: w3.org/TR/scxml, sections 3.2 to 3.5."""
    facts = f'version="1.0" datamodel="ecmascript" name="instance" initial="{current or INITIAL}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<scxml xmlns="http://www.w3.org/2005/07/scxml" {facts}>',
        '  <datamodel><data id="isProtected" expr="false"/></datamodel>',
    ]
    for state in State:
        lines.append(f'  <state id="{state}">')
        lines += [f"    <transition {_attributes(row)}/>" for row in table.TABLE if state in row.sources]
        lines.append("  </state>")
    return "\n".join([*lines, "</scxml>"]) + "\n"


def xstate(current: State | None = None) -> str:
    """Return a machine definition for XState 5 that begins in `current`. Source: stately.ai/docs/machines."""
    machine = {
        "id": "instance",
        "initial": current or INITIAL,
        "states": {
            state: {
                "description": PROMISE[state],
                "on": {row.trigger: _transition(row, state) for row in table.TABLE if state in row.sources},
            }
            for state in State
        },
    }
    return json.dumps(machine, indent=2, ensure_ascii=False) + "\n"


def _attributes(row: Row) -> str:
    facts = {"event": str(row.trigger), "target": row.dest, "cond": "!isProtected" if row.guarded else None}
    return " ".join(f"{name}={quoteattr(str(fact))}" for name, fact in facts.items() if fact is not None)


def _transition(row: Row, state: State) -> dict[str, Any]:
    facts = {"target": row.dest or state, "guard": "isUnprotected" if row.guarded else None, "description": row.why}
    return {name: fact for name, fact in facts.items() if fact is not None}
