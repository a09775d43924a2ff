"""The contract describes the JSON of the API's records, and its schemas are installed with the package."""

import json
from importlib.resources import files

import pytest
from promised import validator

from interlock import Interlock, State
from interlock.contract import KINDS_OF_RECORDS
from interlock.fsm.journal import Entry
from interlock.fsm.watch import Change


def test_contract_describes_every_change_that_a_watch_yields(home, engine, driver, bring):
    """This includes journal lines, journal lines of a newer version, and changes of the condition."""
    bring("web", State.running)
    engine.fire("web", "stop")
    seen = [*Interlock(home, driver=driver).watch(["web"], since=0, until=lambda: True)]
    line = seen[0].line
    assert line is not None
    newer = Change("web", line.time, Entry(*line)._replace(trigger="teleport"))
    for change in (*seen, newer, Change("web", line.time, None, "paused"), Change("web", line.time, None)):
        validator("change").validate(change.to_json())
    assert {change.to_json()["event"] for change in seen} >= {"transition_begun", "transition_done"}


def test_contract_refuses_what_it_does_not_describe(engine, bring):
    """The validator rejects a key that is missing, unknown or of another type."""
    bring("web", State.created)
    known = json.loads(json.dumps(engine.status("web").to_json()))
    assert validator("status").is_valid(known)
    assert not validator("status").is_valid({**known, "colour": "blue"})
    assert not validator("status").is_valid({**known, "cpus": "2"})
    assert not validator("status").is_valid({key: value for key, value in known.items() if key != "alive"})


@pytest.mark.parametrize("name", KINDS_OF_RECORDS)
def test_schema_is_installed_and_valid(name):
    """An embedding program finds the schema in the package, as json.md shows."""
    jsonschema = pytest.importorskip("jsonschema", reason="checks the schema: pip install '.[dev]'")
    schema = json.loads((files("interlock") / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
