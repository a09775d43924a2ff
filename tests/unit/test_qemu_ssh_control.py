"""The ssh connection that sessions share: how to see whether it is open, and how to request it."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import ssh_control
from interlock.host import cancellation


def wait(seconds, *descriptors):
    return cancellation.readable(seconds, descriptors)


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Return a runtime directory as a path that is short enough for sockets."""
    monkeypatch.chdir(tmp_path)
    return tmp_path.relative_to(tmp_path)


@pytest.fixture
def calls(runtime):
    """Return a function that counts the requests for the connection since it was last called."""
    os.mkfifo(runtime / "ssh.calls")
    reader = os.open(runtime / "ssh.calls", os.O_RDONLY | os.O_NONBLOCK)

    def count() -> int:
        try:
            return len(os.read(reader, 4096))
        except BlockingIOError:
            return 0

    yield count
    os.close(reader)


@pytest.fixture
def connection(runtime):
    """Open the shared connection."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime / ssh_control.SOCKET))
        server.listen()
        yield server


def test_call_with_no_connection_asks_for_it_once(runtime, calls):
    """Nobody waits for it; the caller makes its own connection meanwhile."""
    assert ssh_control.call(runtime) is False
    assert calls() == 1


@pytest.mark.usefixtures("connection")
def test_call_with_a_connection_asks_for_nothing(runtime, calls):
    """An open connection is not requested again."""
    assert ssh_control.call(runtime) is True
    assert ssh_control.opened(runtime, wait) is True
    assert calls() == 0


def test_call_over_a_dead_socket_asks_for_a_connection(runtime, calls, connection):
    """If nobody listens on the socket, the connection is not open."""
    connection.close()
    assert ssh_control.call(runtime) is False
    assert calls() == 1


def test_call_where_nobody_hears_is_no_error(runtime):
    """A machine that has just ended, or was started by an older version, has no process that opens a connection."""
    assert ssh_control.call(runtime) is False
    os.mkfifo(runtime / "ssh.calls")
    assert ssh_control.call(runtime) is False


def test_opened_where_nobody_can_open_it_does_not_wait(runtime):
    """A machine of an older version has no connection to wait for."""
    assert ssh_control.opened(runtime, lambda *_: pytest.fail("it waited")) is False


@pytest.mark.parametrize(
    ("forwards", "folder", "expected"),
    [
        ({}, "/run/user/1000/interlock/0123456789ab", "/run/user/1000/interlock/0123456789ab/ssh.shared"),
        ({}, f"/{'x' * 80}", f"/{'x' * 80}/ssh.shared"),
        ({}, f"/{'x' * 81}", None),
        ({"forward_agent": True}, "/run", None),
        ({"forward_x11": True}, "/run", None),
    ],
)
def test_shared_is_a_link_to_the_socket_unless_its_path_is_too_long_or_the_callers_agent_is_wanted(
    tmp_path, forwards, folder, expected
):
    """ssh first binds a name 17 bytes longer; and a shared connection has the agent of the user who started it."""
    spec = SimpleNamespace(**{"forward_agent": False, "forward_x11": False} | forwards)
    path = ssh_control.shared(SimpleNamespace(name="web", directory=tmp_path, runtime=Path(folder), spec=spec))
    assert (str(path) if path else None) == expected
