"""`interlock diagram`: the lifecycle, drawn from the table; with a name, the instance's state is marked."""

import json

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("form", ["text", "mermaid", "dot", "svg", "markdown", "json"])
def test_diagram_in_every_format_names_every_state(interlock, form):
    """Without an instance, each format shows the whole lifecycle."""
    done = interlock("diagram", "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert [state for state in State if state not in done.stdout] == []


def test_diagram_with_name_marks_its_state(interlock, bring):
    """An instance's drawing differs from the lifecycle's, and the JSON names its state."""
    bring(State.running)
    assert json.loads(interlock("diagram", "web", "--format", "json").stdout)["current"] == "running"
    assert interlock("diagram", "web").stdout != interlock("diagram").stdout


def test_diagram_in_unknown_format_names_the_known(interlock):
    """The error lists the known formats."""
    done = interlock("diagram", "--format", "png")
    assert (done.returncode, "text, svg, mermaid, dot, markdown, json" in done.stderr) == (2, True)
