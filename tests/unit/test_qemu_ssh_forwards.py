"""The forwarding rules, as ssh itself reads them, and the record of the ssh process that forwards."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import ssh_forwards
from interlock.fsm.spec import Forward
from interlock.host.process import Actor, boot_id, started_ticks

PORTS = Forward("tcp", "127.0.0.1", 80, "", "127.0.0.1", 8080, "", reverse=False)
SOCKETS = Forward("tcp", "", 0, "/run/guest.sock", "", 0, "/tmp/host.sock", reverse=False)


@pytest.fixture
def background(tmp_path):
    """Return the record of a live process that stands in for the ssh of the machine with the runtime `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    actor = Actor(process.pid, started_ticks(process.pid), boot_id())
    (tmp_path / ssh_forwards.RECORD).write_text(json.dumps(actor._asdict()))
    yield actor
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("forward", "key", "expected"),
    [
        (PORTS, "localforward", "[127.0.0.1]:8080 [127.0.0.1]:80"),
        (PORTS._replace(guest_ip="0.0.0.0", host_ip="::1"), "localforward", "[::1]:8080 [127.0.0.1]:80"),
        (PORTS._replace(guest_ip="192.168.5.15"), "localforward", "[127.0.0.1]:8080 [192.168.5.15]:80"),
        (SOCKETS, "localforward", "/tmp/host.sock /run/guest.sock"),
        (
            SOCKETS._replace(host_ip="0.0.0.0", host_socket="", host_port=1),
            "localforward",
            "[0.0.0.0]:1 /run/guest.sock",
        ),
        (SOCKETS._replace(host_socket="/tmp/two words:1"), "localforward", "/tmp/two words:1 /run/guest.sock"),
        (SOCKETS._replace(host_socket="/tmp/100%h"), "localforward", "/tmp/100%h /run/guest.sock"),
        (SOCKETS._replace(reverse=True), "remoteforward", "/run/guest.sock /tmp/host.sock"),
    ],
)
def test_rule_is_read_by_ssh_as_meant(forward, key, expected):
    """Both the address to listen on and the target are right, whatever characters a path has."""
    option = "-R" if forward.reverse else "-L"
    command = ["ssh", "-G", "-F", "none", option, ssh_forwards.rule(forward), "guest"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith(key)] == [expected]


@pytest.mark.usefixtures("background")
def test_missing_is_all_that_ssh_carries_until_it_runs(tmp_path):
    """A forward that QEMU carries is never missing; one that ssh carries is, unless the recorded process is alive."""
    spec = SimpleNamespace(forwards=(PORTS, PORTS._replace(guest_ip="0.0.0.0"), SOCKETS))
    site = SimpleNamespace(runtime=tmp_path, spec=spec)
    assert ssh_forwards.missing(site) == []
    (tmp_path / ssh_forwards.RECORD).unlink()
    assert ssh_forwards.missing(site) == [PORTS, SOCKETS]


def test_condition_is_reported_only_for_forwards_that_were_open(tmp_path, background):
    """Nothing is down before the forwards are opened; another process with the recorded pid is not our ssh."""
    assert ssh_forwards.condition(tmp_path) is None
    other = background._replace(started_ticks=background.started_ticks + 1)
    (tmp_path / ssh_forwards.RECORD).write_text(json.dumps(other._asdict()))
    assert ssh_forwards.condition(tmp_path) == ssh_forwards.DOWN
    (tmp_path / ssh_forwards.RECORD).unlink()
    assert ssh_forwards.condition(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_condition_with_damaged_record_is_none(tmp_path, content):
    """An unreadable record names no process, so nothing is killed."""
    (tmp_path / ssh_forwards.RECORD).write_text(content)
    assert ssh_forwards.condition(tmp_path) is None
    ssh_forwards.end(tmp_path)
    assert not (tmp_path / ssh_forwards.RECORD).exists()


def test_end_kills_what_does_not_notice(tmp_path, background, monkeypatch):
    """A hung ssh does not outlive its machine."""
    monkeypatch.setattr(ssh_forwards, "_END_S", 0.01)
    os.kill(background.pid, signal.SIGSTOP)
    ssh_forwards.end(tmp_path)
    assert started_ticks(background.pid) is None
    assert not (tmp_path / ssh_forwards.RECORD).exists()


def test_end_without_forwards_is_content(tmp_path):
    """A machine without forwards, or without a runtime directory, ends like any other."""
    ssh_forwards.end(tmp_path / "missing")
