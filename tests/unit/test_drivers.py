"""A driver of another package that cannot be loaded does not affect the others."""

import json
from importlib import metadata

import pytest
from click.testing import CliRunner

from interlock import Interlock
from interlock.commands.host import doctor_command
from interlock.fsm.states import State


class Broken:
    """An entry point of another package's driver that fails as it is loaded."""

    module = "broken"

    def __init__(self, name):
        self.name = name

    def load(self):
        raise RuntimeError("it was written for another version")


@pytest.fixture
def broken(monkeypatch):
    """Install a driver that cannot be loaded, beside ours."""
    real = metadata.entry_points

    def entry_points(**chosen):
        ours = list(real(**chosen))
        return [*([Broken("broken")] if chosen.get("name", "broken") == "broken" else []), *ours]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


@pytest.mark.usefixtures("broken")
def test_delete_with_force_of_a_damaged_instance_passes_over_a_driver_that_cannot_be_loaded(home, bring):
    """A defect in one package does not block the deletion of another driver's instance."""
    bring("web", State.stopped)
    (home.directory("web") / "spec.json").unlink()
    Interlock(home).delete("web", force=True)
    assert not home.directory("web").exists()


@pytest.mark.usefixtures("broken")
def test_doctor_names_a_driver_that_cannot_be_loaded_and_checks_the_others():
    """Whatever the driver's code raises is a finding about that driver alone."""
    done = CliRunner().invoke(doctor_command, ["--format", "json"])
    found = {check["subject"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert "it was written for another version" in found["driver broken"]["finding"]
    assert (found["driver broken"]["ok"], found["driver broken"]["essential"]) == (False, False)
    assert len(found) > 3
