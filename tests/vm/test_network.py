"""What a guest reaches by its network, asked from inside: the host's loopback, unless its template closes it."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.vm

TEMPLATE = """\
base: template:tiny
network: {{host: {open}, internet: {open}}}
portForwards:
- guestIP: 0.0.0.0
  guestPort: 80
  hostPort: {port}
"""


@pytest.fixture
def service() -> Iterator[int]:
    """Return the port of a service that greets whoever connects to it on the host's loopback."""

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            with closing(connection):
                connection.sendall(b"greetings from the host\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("open_", [True, False], ids=["open", "closed"])
def test_guest_reaches_the_hosts_loopback_unless_it_is_closed(vms, tmp_path, free_port, service, open_):
    """Each way in from the host works in either case: ssh, and a port that QEMU forwards."""
    port = free_port()
    (tmp_path / "web.yaml").write_text(TEMPLATE.format(open=str(open_).lower(), port=port))
    vms.up("web", str(tmp_path / "web.yaml"))

    ask = vms.shell(
        "web", ["sh", "-c", f"sudo httpd -p 80 -h /etc; echo asking; nc -w 10 10.0.2.2 {service} </dev/null"]
    )
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=120)
    expected = "asking\ngreetings from the host\n" if open_ else "asking\n"
    assert (done.stdout, done.returncode == 0) == (expected, open_)

    with urlopen(f"http://127.0.0.1:{port}/hostname", timeout=120) as answer:
        assert answer.read() == b"web\n"


def test_session_of_a_guest_that_reboots_ends(vms):
    """The guest hung up without a word, and QEMU's network keeps what it carried: ssh has to ask, and is told."""
    vms.up("web", "tiny")
    ask = vms.shell("web", ["sh", "-c", "sudo reboot -f; sleep 3600"])
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 255
