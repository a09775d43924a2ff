"""What a guest reaches over its network, seen from inside: the host's loopback and the internet, unless closed.

The internet is an address in the test's own network namespace: nothing leaves this machine.
"""

import json
import os
import subprocess
import sys

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

INTERNET = "198.51.100.1"
"""An address that is reserved for documentation. Source: RFC 5737."""

GREETING = b"greetings\n"

WORLD = f"""\
import json, socket, subprocess, sys, threading
from urllib.request import urlopen
from interlock import Interlock

def greet(listener):
    while True:
        connection, _ = listener.accept()
        connection.sendall({GREETING!r})
        connection.close()

def ask(*command):
    done = subprocess.run(vms.shell("web", command), capture_output=True, text=True, timeout=300)
    return [done.returncode == 0, done.stdout]

listener = socket.create_server(("", 0))
threading.Thread(target=greet, args=[listener], daemon=True).start()
service = str(listener.getsockname()[1])
vms = Interlock()
vms.start("web")
reached = {{address: ask("nc", "-w", "10", address, service) for address in ("10.0.2.2", "{INTERNET}")}}
ask("sudo", "httpd", "-p", "80", "-h", "/etc")
with urlopen(f"http://127.0.0.1:{{sys.argv[1]}}/hostname", timeout=300) as answer:
    reached["forwarded"] = answer.read().decode()
vms.kill("web")
print(json.dumps(reached))
"""
"""Runs `web` beside a server that listens on every address of its network namespace; prints what the guest reached."""


@pytest.mark.parametrize("open_", [True, False], ids=["open", "closed"])
def test_guest_reaches_host_and_internet_unless_they_are_closed(vms, tmp_path, free_port, open_):
    """The ways in from the host work in either case: ssh, and a port that QEMU forwards."""
    port = free_port()
    (tmp_path / "web.yaml").write_text(TEMPLATE.format(open=str(open_).lower(), port=port))
    vms.create("web", str(tmp_path / "web.yaml"))

    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    world = f'ip link set lo up && ip addr add {INTERNET} dev lo && exec "$@"'
    command = [*alone, "sh", "-c", world, "sh", sys.executable, "-c", WORLD, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stderr
    reached = [True, GREETING.decode()] if open_ else [False, ""]
    assert json.loads(done.stdout) == {"10.0.2.2": reached, INTERNET: reached, "forwarded": "web\n"}


def test_session_of_a_guest_that_reboots_ends(vms):
    """The guest hangs up silently, and QEMU's network keeps the connection: ssh has to probe to notice."""
    vms.up("web", "tiny")
    ask = vms.shell("web", ["sh", "-c", "sudo reboot -f; sleep 3600"])
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 255
