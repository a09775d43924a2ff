"""`interlock inspect`: everything known about one instance."""

import json

from interlock.fsm.states import State


def test_inspect_as_json_holds_status_spec_and_what_is_legal(interlock, bring, vms):
    """The record of `list` with the spec, the logs and the legal triggers added."""
    bring(State.running)
    record = json.loads(interlock("inspect", "web", "--format", "json").stdout)
    assert record["spec"] == vms.status("web").spec.to_json()
    assert (record["state"], record["can"][:2], record["logs"]) == ("running", ["stop", "kill"], {})


def test_inspect_as_table_is_key_and_value(interlock, bring):
    """People read one fact per line."""
    bring(State.running)
    lines = dict(line.split(maxsplit=1) for line in interlock("inspect", "web").stdout.splitlines() if " " in line)
    assert (lines["state"], lines["spec.cpus"], lines["can"].startswith("stop, kill")) == ("running", "1", True)


def test_inspect_of_absent_instance_is_not_found(interlock):
    """An absent instance is not found."""
    assert interlock("inspect", "web").returncode == 4


def test_inspect_of_damaged_instance_shows_the_damage(interlock, bring, home):
    """The readable facts of a damaged instance are shown."""
    bring(State.stopped)
    (home.directory("web") / "spec.json").write_bytes(b"")
    done = interlock("inspect", "web", "--format", "json")
    assert (done.returncode, "spec.json" in json.loads(done.stdout)["damage"]) == (0, True)
