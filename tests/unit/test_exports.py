"""The exports to other languages say what the table says: read back, they have the same rows."""

import json
import re
from xml.etree import ElementTree as ET

import pytest

from interlock.diagrams.exports import plantuml, scxml, xstate
from interlock.diagrams.layout import INITIAL
from interlock.fsm.states import State
from interlock.fsm.table import BY_PAIR, BY_TRIGGER, TABLE, Trigger

SCXML = "{http://www.w3.org/2005/07/scxml}"
PAIRS = {(source, trigger): row.dest for (trigger, source), row in BY_PAIR.items()}


def test_plantuml_draws_each_row_that_leads_somewhere() -> None:
    """The drawing has every arrow of the table and no other; observed ones are dashed."""
    drawn = {}
    for source, arrow, dest, label in re.findall(r"^(\w+) (-\S*>) (\w+) : (.+)$", plantuml(), re.MULTILINE):
        for trigger in re.split(r"[,/ ]+|\\n", label):
            drawn[State(source), Trigger(trigger)] = State(dest)
            assert (arrow == "-[dashed]->") == BY_TRIGGER[Trigger(trigger)].observed

    assert {pair: dest for pair, dest in PAIRS.items() if dest is not None} == drawn


def test_scxml_read_back_has_the_rows_of_the_table() -> None:
    """Each state has its transitions with their targets, and guarded ones have a condition."""
    root = ET.fromstring(scxml())  # noqa: S314 - our own text
    read = {
        (State(state.attrib["id"]), Trigger(it.attrib["event"])): it.attrib.get("target")
        for state in root.iter(f"{SCXML}state")
        for it in state.iter(f"{SCXML}transition")
    }
    conditions = {it.attrib["event"] for it in root.iter(f"{SCXML}transition") if "cond" in it.attrib}

    assert read == PAIRS
    assert conditions == {row.trigger for row in TABLE if row.guarded}
    assert root.attrib["initial"] == INITIAL


def test_xstate_read_back_has_the_rows_of_the_table() -> None:
    """Each state has its events with their targets, and guarded ones have a guard.

    A transition that keeps the state targets it: XState 5.33 says that one without a target cannot happen.
    """
    states = json.loads(xstate())["states"]
    read = {
        (State(state), Trigger(event)): it.get("target")
        for state, node in states.items()
        for event, it in node["on"].items()
    }
    guarded = {event for node in states.values() for event, it in node["on"].items() if "guard" in it}

    assert read == {(state, trigger): dest or state for (state, trigger), dest in PAIRS.items()}
    assert guarded == {row.trigger for row in TABLE if row.guarded}


@pytest.mark.parametrize("state", State)
def test_machine_of_an_instance_begins_in_its_state(state: State) -> None:
    """The export for an instance begins in that instance's state."""
    root = ET.fromstring(scxml(state))  # noqa: S314 - likewise
    assert root.attrib["initial"] == state
    assert json.loads(xstate(state))["initial"] == state
