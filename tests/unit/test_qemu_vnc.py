"""The guest's screen: which display it gets, and what is recorded about it while the machine runs."""

import socket
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlock.drivers.contract import Site
from interlock.drivers.qemu import vnc
from interlock.errors import DriverError

FIRST = 5900


def site(directory, vnc="") -> Site:
    """Return the site of a machine with the given VNC setting."""
    return Site("web", directory, Path("/nowhere"), SimpleNamespace(vnc=vnc))


@pytest.fixture
def taken():
    """Return a display whose port another program has."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1] - FIRST


@pytest.fixture
def number():
    """Return a display whose port is free."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1] - FIRST


def test_display_is_the_first_that_is_free(tmp_path, taken):
    """With a range of displays, a port that another program has is skipped."""
    assert vnc.chosen(site(tmp_path, vnc=f"127.0.0.1:{taken},to={taken + 9}")) != f"127.0.0.1:{taken}"


@pytest.mark.parametrize("more", ["", ",to={}"])
def test_display_that_is_taken_is_refused_by_its_port(tmp_path, taken, more):
    """The error names the port, because other programs know ports and not displays."""
    with pytest.raises(DriverError, match=str(FIRST + taken)):
        vnc.prepare(site(tmp_path, vnc=f"127.0.0.1:{taken}{more.format(taken)}"))


def test_password_is_another_for_each_run_and_its_owners_alone(tmp_path, number):
    """A password of an earlier run does not give access to the screen."""
    machine, passwords = site(tmp_path, vnc=f"127.0.0.1:{number}"), set()
    for _ in range(2):
        vnc.prepare(machine)
        seen = vnc.screen(tmp_path)
        assert seen.address == f"127.0.0.1:{FIRST + number}"
        passwords.add((tmp_path / vnc.PASSWORD).read_text())
        assert (tmp_path / vnc.PASSWORD).stat().st_mode & 0o077 == 0
    assert {len(password) for password in passwords} == {8}
    assert len(passwords) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff"])
def test_display_that_cannot_be_read_is_unknown(tmp_path, content):
    """A damaged file does not break `list`."""
    (tmp_path / vnc.DISPLAY).write_bytes(content)
    assert vnc.screen(tmp_path) is None


def test_machine_without_a_screen_has_no_files_of_it(tmp_path):
    """VNC is off unless it is asked for."""
    vnc.prepare(site(tmp_path))
    assert not (tmp_path / vnc.PASSWORD).exists()
    assert vnc.arguments(site(tmp_path)) == []
