"""The host port that leads to a guest's ssh: it is kept while free; otherwise it is replaced, and that is reported."""

import os
import socket
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import host_ports, ssh_port
from interlock.errors import DriverError, HostError


@pytest.fixture
def site(tmp_path):
    return SimpleNamespace(directory=tmp_path, spec=SimpleNamespace(instance_id="i-1", ssh_port=0, forwards=()))


@pytest.fixture
def steps():
    return []


def test_choose_twice_is_the_same_port(site, steps):
    """A port is chosen once, silently, outside the range that outgoing connections use."""
    port = ssh_port.choose(site, steps.append)
    assert ssh_port.recorded(site.directory) == port == ssh_port.choose(site, steps.append)
    assert port in ssh_port._PORTS
    assert steps == []


def test_choose_with_taken_port_moves_and_says_so(site, steps):
    """The step names the old and the new port, and the new one is recorded."""
    old = ssh_port.choose(site, steps.append)
    with socket.create_server(("127.0.0.1", old)):
        new = ssh_port.choose(site, steps.append)
    assert new != old
    assert steps == [f"another program took port {old}: ssh moves to port {new}"]
    assert ssh_port.recorded(site.directory) == new


def test_choose_with_every_port_taken_raises_host_error(site, steps, monkeypatch):
    """The search for a free port ends."""
    monkeypatch.setattr(host_ports, "free", lambda _: False)
    with pytest.raises(HostError, match="no TCP port"):
        ssh_port.choose(site, steps.append)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"ssh_port": "x"}', "null"])
def test_recorded_with_damaged_record_is_none(tmp_path, content):
    """An unreadable record only means that the instance loses its port."""
    (tmp_path / ssh_port.RECORD).write_text(content)
    assert ssh_port.recorded(tmp_path) is None


def test_choose_with_promised_port_passes_it_over(site, steps):
    """A port that the instance itself forwards is not taken for its sshd."""
    port = ssh_port.choose(site, steps.append)
    (site.directory / ssh_port.RECORD).unlink()
    site.spec.forwards = (SimpleNamespace(host_port=port),)
    assert ssh_port.choose(site, steps.append) != port


def test_choose_where_instance_insists_takes_that_port_alone(site, steps):
    """The port of the spec replaces the one it had, and is recorded for every reader."""
    former = ssh_port.choose(site, steps.append)
    site.spec.ssh_port = (
        ssh_port.choose(SimpleNamespace(directory=site.directory.parent, spec=site.spec), steps.append) + 1
    )
    assert former != ssh_port.choose(site, steps.append) == site.spec.ssh_port == ssh_port.recorded(site.directory)


def test_choose_where_instance_insists_and_port_is_taken_names_its_owner(site, steps):
    """The port does not change; an error says which process has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        site.spec.ssh_port = server.getsockname()[1]
        with pytest.raises(DriverError, match=rf"is taken by .* \(pid {os.getpid()}\)"):
            ssh_port.choose(site, steps.append)
