"""The program that ssh runs to connect: the server's greeting decides whether the connection may be shared."""

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from interlock.drivers.qemu import ssh_greeting
from interlock.drivers.qemu.ssh_greeting import may_be_shared


@pytest.mark.parametrize(
    ("greeting", "shared"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n", True),
        (b"SSH-2.0-dropbear_2020.81\r\n", True),
        (b"SSH-2.0-dropbear_2022.82\r\n", False),
        (b"SSH-2.0-dropbear_2022.83\r\n", False),
        (b"SSH-2.0-dropbear_2024.85\r\n", False),
        (b"SSH-2.0-dropbear_2024.86\r\n", True),
        (b"SSH-2.0-dropbear_2025.88\r\n", True),
        (b"SSH-2.0-dropbear\r\n", False),
        (b"SSH-2.0-Go\r\n", True),
        (b"no dropbear here\r\nSSH-2.0-OpenSSH_9.2\r\n", True),
        (b"no OpenSSH here\r\nSSH-2.0-dropbear_2022.83\r\n", False),
    ],
)
def test_connection_is_shared_unless_the_server_loses_sessions(greeting, shared):
    """It depends on the version of dropbear; a dropbear that hides its version counts as an affected one."""
    assert may_be_shared(greeting) is shared


def line(server: socket.socket, link: Path) -> list[str]:
    """Return the command line by which ssh would connect to `server`."""
    address, port = server.getsockname()
    return [sys.executable, "-I", "-S", ssh_greeting.__file__, address, str(port), str(link), "ssh.sock"]


@pytest.mark.parametrize("shared", [True, False])
def test_connection_is_handed_over_with_its_greeting_still_to_be_read(tmp_path, shared):
    """A server may send its greeting in pieces and after other lines; a link from an earlier run does not stay."""
    link = tmp_path / "ssh.shared"
    link.symlink_to("earlier")
    said = [b"welcome\r\nSSH-2.0-", b"OpenSSH_9.2" if shared else b"dropbear_2022.83", b"\r\nmore"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, theirs = socket.socketpair()
        with closing(ours), theirs, subprocess.Popen(line(server, link), stdout=theirs) as program:
            with server.accept()[0] as guest:
                for piece in said:
                    guest.sendall(piece)
                _, [descriptor], _, _ = socket.recv_fds(ours, 1, 1)
            assert program.wait() == 0
        with socket.socket(fileno=descriptor) as connection:
            assert connection.gettimeout() is None
            assert connection.recv(4096, socket.MSG_WAITALL) == b"".join(said)
    assert link.is_symlink() is shared
    assert not shared or str(link.readlink()) == "ssh.sock"


def test_server_without_a_greeting_is_no_connection(tmp_path):
    """The server closes the connection: the error says why, and the connection is not shared."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link, pipe = tmp_path / "link", subprocess.PIPE
        with subprocess.Popen(line(server, link), stdout=pipe, stderr=pipe, text=True) as program:
            server.accept()[0].close()
            _, words = program.communicate()
    assert program.returncode == 1
    assert words == "the guest's ssh server sent no greeting\n"
    assert not link.is_symlink()
