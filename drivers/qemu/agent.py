"""The way to the agent in a guest: a virtio-serial port, which the hypervisor shows as a socket.

    runtime/agent.sock      for one client at a time; the hypervisor makes the next one wait

Machines that an older version created have no such port, and third-party images have no agent. QEMU logs when a program
in the guest opens or closes the port, so we never wait for an agent that does not exist.
"""

import socket
import time
from pathlib import Path

from ...guest.agent import AgentError, Exchange
from ...host import cancellation
from ...host.files import read_own
from ..contract import KNOWN_HOSTS, Deadline, Site
from . import events

SOCKET = "agent.sock"
DEVICE = "agent"

ANSWER_S = 2.0
"""An agent answers in milliseconds; in an emulated guest under full load, in a few hundred."""

READY_S = 5.0
"""When asked for readiness, the agent itself waits for a second."""

AWAKE_S = 15.0
"""After a resume, the agent must first be paged in and translated again: on a busy host that takes longer than an
answer, but not as long as a login."""

_LOGGED_S = 2.0
"""The log of events is written by another process, some milliseconds after they happened."""

_TURN_S, _PIECE_BYTES = 0.02, 4096


def listens(directory: Path) -> bool:
    """Return whether a program in the guest has the port open, as far as the log of events shows."""
    opened = False
    for event in events.read(directory):
        data = event.get("data", {})
        if event["event"] == "VSERPORT_CHANGE" and data.get("id") == DEVICE:
            opened = data.get("open") is True
    return opened


def await_log(directory: Path) -> None:
    """Return once the log of events says that the machine continued: earlier events tell nothing about its agent."""
    turn = Deadline(_LOGGED_S)
    while not any(event["event"] == "RESUME" for event in events.read(directory)) and not turn.passed:
        cancellation.pause(0.002)


def ask(runtime: Path, verb: str, argument: str = "", *, content: bytes = b"", timeout_s: float = ANSWER_S) -> str:
    """Return the words with which the agent answers; raise AgentError when it gives no answer within `timeout_s`.

    Only the answer itself is used, and the caller checks each word of it.
    """
    deadline, exchange = Deadline(timeout_s), Exchange(verb, argument, content)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0)
            _connect(client, str(runtime / SOCKET), deadline)
            _send(client, exchange.request, deadline)
            while not deadline.passed:
                if not cancellation.readable(deadline.remaining_s, [client.fileno()]):
                    continue
                piece = client.recv(_PIECE_BYTES)
                if not piece:
                    raise AgentError("the hypervisor closed the port of the agent")
                if (words := exchange.hear(piece)) is not None:
                    return words
    except OSError as error:
        raise AgentError(f"the agent's port cannot be reached: {error.strerror}") from error
    raise AgentError(f"the agent in the guest did not answer {verb} within {timeout_s:g} s")


def readiness(site: Site, *, resumed: bool = False) -> bool | None:
    """Return whether the guest of `site` is ready, by its agent's answer; None if it will be soon and nothing failed.

    False if no agent answers, or if only a login can say more: the host key is not the pinned one, or a step failed.
    `resumed`: the guest was paused until now, so its clock is set first.
    """
    if not listens(site.directory):
        return False
    try:
        if resumed:
            ask(site.runtime, "clock", str(round(time.time())), timeout_s=AWAKE_S)
        said = ask(site.runtime, "ready", site.spec.instance_id, timeout_s=AWAKE_S if resumed else READY_S)
    except AgentError:
        return False
    return None if said == "soon" else is_ready(site, said)


def is_ready(site: Site, said: str) -> bool:
    """Return whether the agent's answer `said` means a ready guest that shows the pinned host key."""
    said, _, key = said.partition(" ")
    return said == "yes" and key.encode() in read_own(site.directory / KNOWN_HOSTS).split()


def _send(client: socket.socket, request: bytes, deadline: Deadline) -> None:
    """Send the whole request as fast as the guest takes it; give up at the deadline."""
    rest = memoryview(request)
    while rest:
        try:
            rest = rest[client.send(rest) :]
        except BlockingIOError:
            if deadline.passed:
                return
            cancellation.pause(_TURN_S)


def _connect(client: socket.socket, path: str, deadline: Deadline) -> None:
    """Connect to the socket `path`; while it is busy, retry until the deadline."""
    while True:
        try:
            client.connect(path)
        except BlockingIOError:
            if deadline.passed:
                raise
            cancellation.pause(_TURN_S)
        else:
            return
