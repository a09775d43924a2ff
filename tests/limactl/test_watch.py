"""`limactl watch` shows what other processes do to instances, as limactl's events."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from interlock.limactl.__main__ import run

WATCH = [sys.executable, "-m", "interlock.limactl", "watch"]


@contextmanager
def watching(*words):
    """Start a watcher, wait until it watches, yield its output, and end it afterwards."""
    with subprocess.Popen([*WATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Watching for events..." in process.stderr.readline()
        try:
            yield process.stdout
        finally:
            process.terminate()
        assert (process.wait(), process.stderr.read()) == (0, "")


def events(lines, count):
    """Return (instance, transition, status) of the next `count` events."""
    changes = [json.loads(lines.readline()) for _ in range(count)]
    return [(it["instance"], it["event"].get("transition"), it["event"]["status"]) for it in changes]


@pytest.mark.usefixtures("lima")
def test_life_of_an_instance_is_seen_as_events():
    """The status is running once the guest answers, exiting once it is down, and empty for what Lima does not have."""
    with watching("--json") as lines:
        run(["start", "web.yaml"])
        (*before, started) = events(lines, 4)
        run(["stop", "web"])
        stopping, stopped = events(lines, 2)
    assert before == [("web", "create", {}), ("web", "create", {}), ("web", "start", {})]
    assert started == ("web", "start", {"running": True})
    assert stopping == ("web", "stop", {})
    assert stopped == ("web", "stop", {"exiting": True})


@pytest.mark.usefixtures("lima")
def test_start_that_fails_is_exiting_with_errors(monkeypatch):
    """The reason is in `errors`, as with Lima's host agent."""
    run(["create", "web.yaml"])
    monkeypatch.setenv("INTERLOCK_SIMULATED", json.dumps({"start": {"error": "no luck"}}))
    with watching("--json", "web") as lines:
        run(["start", "web"])
        begun, failed = events(lines, 2)
    assert (begun[2], failed[2]["exiting"]) == ({}, True)
    assert "no luck" in failed[2]["errors"][0]


@pytest.mark.usefixtures("lima")
def test_history_shows_what_was_before_for_people():
    """With --history, a watcher that starts late prints earlier events as sentences, and with --verbose also steps."""
    run(["start", "web.yaml"])
    with watching("--history") as lines:
        said = [lines.readline() for _ in range(4)]
    assert [line.partition(" | ")[2].split()[0] for line in said] == ["creating", "created", "starting", "started"]
    assert all(" web | " in line for line in said)
    with watching("--history", "--verbose", "web") as lines:
        lines.readline()
        assert 'creating "web": ' in lines.readline()
