"""The port that leads to a guest: kept while it is free, replaced and said when it is not."""

import os
import socket
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import network, ports
from interlock.errors import DriverError, HostError


@pytest.mark.parametrize(
    ("host", "internet", "possible"), [(True, True, 1), (False, False, 1), (False, True, 0), (True, False, 0)]
)
def test_check_refuses_what_the_user_network_cannot_close(spec, host, internet, possible):
    """It has one switch; who asks for half of it is told, not given a guest that reaches what it should not."""
    asked = replace(spec, network_host=host, network_internet=internet)
    with nullcontext() if possible else pytest.raises(HostError, match="both, or neither"):
        network.check(asked)


@pytest.fixture
def site(tmp_path):
    return SimpleNamespace(directory=tmp_path, spec=SimpleNamespace(instance_id="i-1", ssh_port=0, forwards=()))


@pytest.fixture
def steps():
    return []


def test_choose_twice_is_the_same_port(site, steps):
    """A port is chosen once, silently, outside of those that outgoing connections get."""
    port = network.choose(site, steps.append)
    assert network.recorded(site.directory) == port == network.choose(site, steps.append)
    assert port in network._PORTS
    assert steps == []


def test_choose_with_taken_port_moves_and_says_so(site, steps):
    """Old and new are named, and the new one is kept."""
    old = network.choose(site, steps.append)
    with socket.create_server(("127.0.0.1", old)):
        new = network.choose(site, steps.append)
    assert new != old
    assert steps == [f"another program took port {old}: ssh moves to port {new}"]
    assert network.recorded(site.directory) == new


def test_choose_with_every_port_taken_raises_host_error(site, steps, monkeypatch):
    """The search ends."""
    monkeypatch.setattr(ports, "free", lambda _: False)
    with pytest.raises(HostError, match="no TCP port"):
        network.choose(site, steps.append)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"ssh_port": "x"}', "null"])
def test_recorded_with_damaged_record_is_none(tmp_path, content):
    """A record that cannot be read costs the instance its port, nothing more."""
    (tmp_path / network.RECORD).write_text(content)
    assert network.recorded(tmp_path) is None


def test_choose_with_promised_port_passes_it_over(site, steps):
    """A port that the instance itself forwards is not taken for its sshd."""
    port = network.choose(site, steps.append)
    (site.directory / network.RECORD).unlink()
    site.spec.forwards = (SimpleNamespace(host_port=port),)
    assert network.choose(site, steps.append) != port


def test_choose_where_instance_insists_takes_that_port_alone(site, steps):
    """The port of the spec replaces the one it had, and is recorded for whoever looks."""
    former = network.choose(site, steps.append)
    site.spec.ssh_port = (
        network.choose(SimpleNamespace(directory=site.directory.parent, spec=site.spec), steps.append) + 1
    )
    assert former != network.choose(site, steps.append) == site.spec.ssh_port == network.recorded(site.directory)


def test_choose_where_instance_insists_and_port_is_taken_names_its_owner(site, steps):
    """It does not move: an error says who has the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        site.spec.ssh_port = server.getsockname()[1]
        with pytest.raises(DriverError, match=rf"is taken by .* \(pid {os.getpid()}\)"):
            network.choose(site, steps.append)
