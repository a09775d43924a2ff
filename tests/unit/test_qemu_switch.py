"""The switch of a network of guests, with sockets instead of hypervisors."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from interlock.drivers.qemu import switch

EVERYBODY = b"\xff" * 6
KINDS = b"\x08\x00rest"
WAIT_S = 20.0
QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
"""How many datagrams can wait in a socket that is not read. Source: unix(7)."""


@pytest.fixture
def network(tmp_path):
    """Return the folder of a network, and a function that starts a switch in it and returns its process."""
    with ExitStack() as stack:

        def start():
            process = subprocess.Popen([sys.executable, "-I", "-S", switch.__file__, tmp_path])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield tmp_path, start


@pytest.fixture
def plugged(network):
    """Return a function that makes a card: a socket on which a hypervisor would receive."""
    folder, _ = network
    with ExitStack() as stack:

        def plug(name):
            card = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            card.settimeout(WAIT_S)
            card.bind(str(folder / f"{name}.sock"))
            return card

        yield plug


def mac(number):
    return b"\x52\x55\0\0\0" + bytes([number])


def sent(network, card, frame, until):
    """Send `frame` from `card` as soon as there is a switch."""

    def send():
        try:
            return card.sendto(frame, str(network[0] / "switch"))
        except (FileNotFoundError, ConnectionRefusedError):
            return 0

    until(send)


def test_frame_reaches_everybody_else_until_its_receiver_is_known(network, plugged, until):
    """A switch that always flooded would be a hub: every guest would see the traffic between the others."""
    network[1]()
    one, two, three = (plugged(name) for name in ("one", "two", "three"))
    question = EVERYBODY + mac(1) + KINDS
    sent(network, one, question, until)
    assert (two.recv(100), three.recv(100)) == (question, question)
    answer = mac(1) + mac(2) + KINDS
    sent(network, two, answer, until)
    assert one.recv(100) == answer
    sent(network, one, mac(2) + mac(1) + b"for two", until)
    sent(network, one, question, until)
    assert two.recv(100).endswith(b"for two")
    assert three.recv(100) == question, "it had what was for another"


def test_another_switch_takes_over_at_once(network, plugged, until):
    """When a guest and its switch end, the network of the others keeps working."""
    first = network[1]()
    one, two = plugged("one"), plugged("two")
    frame = EVERYBODY + mac(1) + KINDS
    sent(network, one, frame, until)
    assert two.recv(100) == frame
    network[1]()
    first.kill()
    first.wait()
    sent(network, one, frame, until)
    assert two.recv(100) == frame


def test_card_that_has_ended_is_forgotten(network, plugged, until):
    """Frames for it are flooded again, because its guest may be back with another socket."""
    network[1]()
    one, two = plugged("one"), plugged("two")
    sent(network, two, EVERYBODY + mac(2) + KINDS, until)
    one.recv(100)
    two.close()
    back = plugged("back")
    lost = mac(2) + mac(1) + KINDS
    sent(network, one, lost, until)
    sent(network, one, lost, until)
    assert back.recv(100) == lost


def test_card_that_takes_nothing_holds_up_nobody(network, plugged, until):
    """The socket of a stuck hypervisor fills up; further frames for it are dropped."""
    network[1]()
    one, two, stuck = plugged("one"), plugged("two"), plugged("stuck")
    frame = EVERYBODY + mac(1) + KINDS
    for _ in range(3 * int(QUEUE.read_text()) // 2):
        sent(network, one, frame, until)
        assert two.recv(100) == frame
    assert stuck.recv(100) == frame


@pytest.mark.parametrize("frame", [b"", b"\xff" * 5, b"\xff" * 11])
def test_invalid_frame_is_dropped(network, plugged, until, frame):
    """A guest cannot crash the switch with a malformed frame."""
    network[1]()
    one, two = plugged("one"), plugged("two")
    sent(network, one, EVERYBODY + mac(1) + KINDS, until)
    two.recv(100)
    one.sendto(frame, str(network[0] / "switch"))
    sent(network, one, EVERYBODY + mac(1) + b"after", until)
    assert two.recv(100).endswith(b"after")
