"""An answer of another host is read back without loss."""

from pathlib import Path

from conftest import make_spec

from interlock.fsm.records import Observation, OpenPort, Operation, Screen, Status
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host.process import Actor, Usage
from interlock.remote.answers import status

MOMENT = "2026-01-02T03:04:05.678901Z"


def test_status_comes_back_whole():
    """Every key of the JSON form is set here, and each comes back."""
    said = Status(
        "web",
        State.running,
        Path("/srv/instances/web"),
        Operation(
            Trigger.stop, State.running, "asking", MOMENT, MOMENT, MOMENT, Actor(7, 0, "", "interlock stop web"),
            interrupted=True, suspended=True,
        ),
        Observation(
            alive=True, pid=8, ssh_port=2222, condition="paused", accelerator="kvm", usage=Usage(1.5, 4096, 60.25),
            ports=(OpenPort("127.0.0.1", 80, "127.0.0.1", 8080, "taken"),), vnc=Screen("127.0.0.1:5900", "/srv/vnc"),
            node="node1",
        ),
        make_spec(),
        reason="guest panicked", damage="no disk", protected=True, autostart=True, saved=True, changed_at=MOMENT,
    ).to_json()  # fmt: skip
    again = status(said).to_json()
    for record in (said, again):
        record["operation"].pop("elapsed_s")
    assert all(said.values())
    assert again == said
