"""The schema of the log describes every record that stderr can have, and nothing else."""

import json

import pytest

from interlock.commands.stderr import Stderr
from interlock.errors import BY_REFERENCE
from interlock.fsm.events import Event
from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.log import json_schema

jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks the schema: pip install '.[dev]'")


def an_event(happening, **facts):
    return Event(happening, "web", Trigger.start, State.created, **facts)


STRICT = jsonschema.Draft202012Validator({**json_schema(), "additionalProperties": False})


@pytest.mark.parametrize("happening", Happening)
def test_schema_describes_every_event(capsys, happening):
    """An event is valid with all of its facts, and with the required ones alone."""
    stream = Stderr("json")
    stream.announce(an_event(happening, elapsed_s=1.0, seq=3, step="s", detail="d", pid=1, reference="degraded"))
    stream.announce(an_event(happening))
    for line in capsys.readouterr().err.splitlines():
        STRICT.validate(json.loads(line))


@pytest.mark.parametrize("reference", BY_REFERENCE)
def test_schema_describes_every_error(capsys, reference):
    """An error of any class is valid, with a traceback, too."""
    stream = Stderr("json")
    stream.error(BY_REFERENCE[reference]("no"), traceback="here")
    stream.report("image tiny is in the store")
    stream.note("it is so")
    stream.hint("interlock repair web", "its journal is damaged", "web")
    for line in capsys.readouterr().err.splitlines():
        STRICT.validate(json.loads(line))


def test_schema_refuses_what_is_no_record():
    """The two tests above would notice a key that is missing or unknown."""
    assert not STRICT.is_valid({"timestamp": "now", "level": "info", "event": "note"})
    assert not STRICT.is_valid({"timestamp": "now", "level": "info", "event": "note", "message": "", "color": 1})
