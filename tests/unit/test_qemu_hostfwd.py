"""Which forwards QEMU carries, which ports of the host are free, and which process holds a taken one."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.drivers.qemu import host_ports, hostfwd
from interlock.errors import DriverError
from interlock.fsm.spec import Forward

LISTEN = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
server = socket.socket(socket.AF_INET, kind)
server.bind(("127.0.0.1", 0))
if sys.argv[1] == "tcp":
    server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


def forward(**changes) -> Forward:
    """Return a forward of TCP from the loopback to the guest's own address, with `changes`."""
    facts = {"proto": "tcp", "guest_ip": "0.0.0.0", "guest_port": 80, "guest_socket": ""}
    facts |= {"host_ip": "127.0.0.1", "host_port": 8080, "host_socket": "", "reverse": False}
    return Forward(**(facts | changes))


@pytest.fixture
def listener():
    """Return a function that starts a process listening on a loopback port, and returns the port and its pid."""
    begun = []

    def start(proto: str) -> tuple[int, int]:
        command = [sys.executable, "-c", LISTEN, proto]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        return int(process.stdout.readline()), process.pid

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"host_ip": "0.0.0.0"}, True),
        ({"proto": "udp"}, True),
        ({"guest_ip": "127.0.0.1"}, False),
        ({"guest_ip": "10.0.2.15"}, False),
        ({"host_ip": "::1"}, False),
        ({"guest_port": 0, "guest_socket": "/run/x"}, False),
        ({"host_port": 0, "host_socket": "/run/x"}, False),
        ({"guest_port": 0, "guest_socket": "/run/x", "host_port": 0, "host_socket": "/y", "reverse": True}, False),
    ],
)
def test_by_hypervisor_is_what_its_network_can_do(changes, expected):
    """QEMU forwards only from IPv4 to the guest's own address; the rest is for ssh."""
    assert expected == hostfwd.by_hypervisor(forward(**changes))


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_check_with_taken_port_names_process_and_pid(listener, proto):
    """The error names the process that holds the port, before anything is started."""
    port, pid = listener(proto)
    with pytest.raises(DriverError) as caught:
        hostfwd.check([forward(proto=proto, host_port=port)])
    name = Path(sys.executable).name
    assert caught.value.message == f"{proto} port {port} of 127.0.0.1 is taken by {name} (pid {pid})"


def test_check_of_what_another_protocol_has_is_content(listener):
    """A TCP port and a UDP port of the same number do not conflict."""
    port, _ = listener("tcp")
    hostfwd.check([forward(proto="udp", host_port=port)])


def test_check_of_address_that_is_not_ours_says_so():
    """An address that no interface of the host has gets another error than a taken port."""
    with pytest.raises(DriverError, match=r"cannot listen on tcp port 8080 of 192\.0\.2\.1: Cannot assign"):
        hostfwd.check([forward(host_ip="192.0.2.1")])


@pytest.mark.parametrize("changes", [{"host_ip": "::1"}, {"guest_ip": "127.0.0.1"}])
def test_check_of_udp_that_nothing_carries_says_what_can_be(changes):
    """QEMU carries UDP from IPv4 to the guest's own address, and ssh carries none."""
    with pytest.raises(DriverError, match=r"cannot forward UDP .* only"):
        hostfwd.check([forward(proto="udp", **changes)])


def test_check_passes_over_reverse_forwards_and_sockets(tmp_path):
    """Reverse forwards and sockets need no free port of the host."""
    hostfwd.check([forward(host_port=0, host_socket=str(tmp_path / "s")), forward(host_port=1, reverse=True)])


def test_free_passes_over_connections_that_end():
    """A port whose last connection lingers in TIME_WAIT is free, as it is for QEMU."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not host_ports.free(port)
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_WR)  # the server's side closes first, hence lingers
            assert client.recv(1) == b""
    assert host_ports.free(port)


def test_host_socket_takes_the_place_of_nothing_else(tmp_path):
    """A file, a folder, a link and a socket in use stay as they are; a socket that nobody serves may be replaced."""
    target = tmp_path / "it"
    wanted = [forward(host_port=0, guest_port=0, guest_socket="/run/it", host_socket=str(target))]
    hostfwd.check(wanted)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(target))
        server.listen()
        with pytest.raises(DriverError, match=f"^hostSocket {target} is in use: another program listens on it$"):
            hostfwd.check(wanted)
    hostfwd.check(wanted)
    target.unlink()
    for make in (target.mkdir, lambda: (target.rmdir(), target.symlink_to("/etc/passwd")), lambda: rewrite(target)):
        make()
        with pytest.raises(DriverError, match=f"^hostSocket {target} exists and is not a socket") as caught:
            hostfwd.check(wanted)
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    hostfwd.check(wanted)
    assert (tmp_path / "it.old").read_text() == "mine"


def rewrite(path: Path) -> None:
    path.unlink()
    path.write_text("mine")
