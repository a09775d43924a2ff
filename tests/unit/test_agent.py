"""Requests to the agent in a guest; no answer of a guest costs much memory or time."""

import json
import socket
import subprocess
import threading

import pytest
from conftest import make_spec
from hypothesis import given, settings
from hypothesis import strategies as some

from interlock.drivers.contract import Site
from interlock.drivers.qemu import agent as port
from interlock.guest.agent import AgentError, Exchange, Load, escaped, listening, load

WORDS = some.dictionaries(some.text("abcxyz_.-", min_size=1, max_size=8), some.binary(max_size=40))


def nonce(exchange):
    """Return the word by which `exchange` recognizes its answer."""
    return exchange.request.split()[0]


def test_exchange_hears_its_own_answer_alone():
    """A greeting, an answer to another request and half a line do not count; the completed line does."""
    exchange = Exchange("ping")
    assert exchange.hear(b"interlock agent 1\n0123 ok old\n" + nonce(exchange)) is None
    assert exchange.hear(b" ok boot\n") == "boot"
    assert exchange.request == nonce(exchange) + b" ping\n"


@pytest.mark.parametrize(
    ("said", "shown"), [(b"failed no\x1b[2Jway", "ping: noway"), (b"", "no reason"), (b"x", "ping: x")]
)
def test_exchange_that_fails_says_why(said, shown):
    """The guest's words are shown without terminal escape sequences."""
    exchange = Exchange("ping")
    with pytest.raises(AgentError, match=shown):
        exchange.hear(nonce(exchange) + b" " + said + b"\n")


def test_exchange_ends_when_the_guest_floods():
    """A guest that never stops writing is given up after 1 MiB, of which less than 16 KiB is kept."""
    exchange = Exchange("ping")
    for _ in range(256):
        assert exchange.hear(b"x" * 4096) is None
        assert len(exchange._rest) < 16_384
    with pytest.raises(AgentError, match="floods"):
        exchange.hear(b"x" * 4096)
    exchange = Exchange("ping")
    assert exchange.hear(nonce(exchange) + b" ok " + b"x" * 10_000 + b"\n") is None


@settings(deadline=None)  # the machine may be busy
@given(WORDS)
def test_facts_arrive_as_they_were(facts):
    """A shell that reads the line gets each value byte for byte, except NUL, which no shell can hold."""
    facts = {name: value.replace(b"\0", b"") for name, value in facts.items()}
    script = 'IFS= read -r line; set -f; for word in $line; do printf %b "${word#*=}"; printf "|"; done'
    done = subprocess.run(["sh", "-c", script], input=escaped(facts).encode() + b"\n", capture_output=True, check=True)
    assert done.stdout == b"".join(value + b"|" for value in facts.values())


def test_listening_sockets_are_those_of_the_kernels_table():
    """Addresses are hexadecimal numbers of a little-endian machine; any other word is left out."""
    words = "tcp:0100007F:0016 tcp6:00000000000000000000000001000000:1F90 tcp:1:2 udp:0100007F:0016 tcp:0100007F:00016"
    assert listening(words) == {("127.0.0.1", 22), ("::1", 8080)}


def test_load_is_read_or_refused():
    """A load is five numbers; anything else is an error."""
    assert load("0.5 0.25 0 1024 12.5") == Load((0.5, 0.25, 0.0), 1 << 20, 12.5)
    for words in ("", "1 2 3 4", "1 2 3 4 x", "1 2 3 nan 5"):
        with pytest.raises(AgentError):
            load(words)


OPENED = {"event": "VSERPORT_CHANGE", "data": {"id": "agent", "open": True}}


@pytest.fixture
def site(tmp_path):
    """Return a machine whose agent has opened its port and whose pinned host key is KEY."""
    (tmp_path / "events.log").write_text(json.dumps(OPENED) + "\n")
    (tmp_path / "known_hosts").write_text("guest ssh-ed25519 KEY\n")
    return Site("web", tmp_path, tmp_path, make_spec(driver="qemu"))


def takes_client(answer):
    return answer.__code__.co_argcount > 1


@pytest.fixture
def guest(tmp_path):
    """Return a function that plays the guest at the port: it answers one client with the return value of `answer`."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / port.SOCKET))
    server.listen(1)
    threads = []

    def play(answer):
        def serve():
            client, _ = server.accept()
            with client:
                said = client.recv(4096)
                client.sendall(answer(said, client) if takes_client(answer) else answer(said))
                client.recv(1)  # until it hangs up

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield play
    for thread in threads:
        thread.join(60)
    server.close()


def test_agent_answers(guest, tmp_path):
    """The words of the answer are returned, without the greeting before it."""
    guest(lambda request: b"interlock agent 1\n" + request.split()[0] + b" ok boot\n")
    assert port.ask(tmp_path, "ping") == "boot"


@pytest.mark.parametrize(
    ("said", "ready"),
    [(b"yes KEY", True), (b"yes OTHER", False), (b"yes", False), (b"soon", None), (b"no", False), (b"x", False)],
)
def test_guest_is_ready_when_its_agent_says_so_and_has_the_pinned_key(said, ready, guest, site):
    """A guest with another host key is left to the ssh login, which refuses it with its own error."""
    guest(lambda request: request.split()[0] + b" ok " + said + b"\n")
    assert port.readiness(site) is ready


def test_what_follows_a_request_arrives_whole_although_the_guest_reads_slowly(guest, tmp_path):
    """A seed is longer than the buffer of a socket."""
    content, heard = b"x" * (2 << 20), []

    def answer(request, client):
        while sum(map(len, heard)) < len(content) + len(request.split(b"\n")[0]) + 1:
            heard.append(client.recv(4096) if heard else request)
        return request.split()[0] + b" ok taken\n"

    guest(answer)
    assert port.ask(tmp_path, "become", str(len(content)), content=content, timeout_s=60) == "taken"
    assert b"".join(heard).partition(b"\n")[2] == content


def test_agent_that_hangs_is_given_up(guest, tmp_path):
    """A missing answer is an error that names the request."""
    guest(lambda _: b"")
    with pytest.raises(AgentError, match="did not answer ping"):
        port.ask(tmp_path, "ping", timeout_s=0.1)


def test_agent_that_is_not_there_is_an_error(site):
    """A machine made by an older version has no agent socket; it is left to the ssh login."""
    with pytest.raises(AgentError, match="cannot be reached"):
        port.ask(site.runtime, "ping")
    assert port.readiness(site) is False


@pytest.mark.parametrize(
    ("changes", "open_"),
    [([], False), ([("agent", True)], True), ([("agent", True), ("agent", False)], False), ([("other", True)], False)],
)
def test_agent_listens_while_its_port_is_open(changes, open_, tmp_path):
    """The log of events says whether a program in the guest has the port open."""
    events = [{"event": "VSERPORT_CHANGE", "data": {"id": name, "open": value}} for name, value in changes]
    (tmp_path / "events.log").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert port.listens(tmp_path) is open_
