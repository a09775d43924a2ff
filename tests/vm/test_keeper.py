"""Ports that open in a real guest: reachable from the host, gone when they close, whatever happens to the keeper."""

import os
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from interlock import Wishes
from interlock.drivers.contract import Deadline
from interlock.drivers.qemu import agent, open_ports
from interlock.fsm.journal import Journal
from interlock.guest.agent import AgentError
from interlock.keeper import calls

pytestmark = [pytest.mark.vm, pytest.mark.warm]

TEMPLATE = "base: template:tiny\nportForwards:\n- guestPortRange: [20000, 21999]\n  hostPortRange: [{}, {}]\n"
"""Two thousand ports of the guest, forwarded to the range of the tests."""


def serve(port: int) -> list[str]:
    return ["httpd", "-p", str(port), "-h", "/etc"]


def reached(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=300) as client:
        client.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        return client.makefile("rb").read().endswith(b"web\n")
    return False


def keeper(vms) -> int | None:
    """Return the pid of the home's keeper."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0")[3:5] == [b"interlock.keeper", bytes(vms.home.root)]:
                return int(process.name)
    return None


def test_server_that_opens_in_the_guest_is_reached_from_the_host_until_it_closes(vms, free_port, until, tmp_path):
    """It works with the keeper and after it was killed; the keeper ends with the machine, and records the exit."""
    port = free_port()
    (tmp_path / "web.yaml").write_text(TEMPLATE.format(port, port + 1999))
    vms.create("web", str(tmp_path / "web.yaml"), Wishes(user="root"))
    vms.start("web")
    assert not reached(port)

    vms.run("web", serve(20000))
    until(lambda: reached(port))
    until(lambda: [(it.guest_port, it.host_port) for it in vms.status("web").observation.ports] == [(20000, port)])

    os.kill(keeper(vms), signal.SIGKILL)
    until(lambda: keeper(vms) is None)
    assert reached(port)  # the ssh connection has it open, not the keeper
    vms.run("web", ["sh", "-c", "kill $(pidof httpd)"])
    vms.run("web", serve(20001))
    vms.start("web")  # this begins a new keeper
    until(lambda: reached(port + 1))
    until(lambda: not reached(port))

    with socket.create_server(("127.0.0.1", port + 2)):
        vms.run("web", serve(20002))
        until(lambda: any(it.problem for it in vms.status("web").observation.ports))
        assert "is taken by" in [it.problem for it in vms.status("web").observation.ports][-1]
    until(lambda: reached(port + 2))

    site = vms.engine.site("web")
    os.kill(vms.status("web").observation.pid, signal.SIGKILL)
    until(lambda: Journal(site.directory).last().trigger == "exited")  # no command asked for the status
    until(lambda: keeper(vms) is None and not calls.heard(vms.home))
    assert not reached(port + 1)


def test_guest_without_an_agent_that_answers_is_asked_by_ssh(vms, monkeypatch):
    """Images of other people have no agent: the shared ssh connection carries the list, and each change of it."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    site, driver = vms.engine.site("web"), open_ports

    def silent(*_, **__):
        raise AgentError("nobody is there")

    monkeypatch.setattr(agent, "ask", silent)
    before = driver.listening(site, None, Deadline(120))
    assert ("0.0.0.0", 22) in before
    vms.run("web", serve(20000))
    after = driver.listening(site, before, Deadline(120))
    assert {port for _, port in after - before} == {20000}
    assert driver.listening(site, after, Deadline(1)) == after
    # The program that looks in the guest ends with the query: a shell that nobody reads ends at its next line.
    looks = "grep -qs 'proc/net/[$]table' /proc/[0-9]*/cmdline"
    vms.run("web", ["sh", "-c", f"while {looks}; do sleep 1; done"], timeout_s=300)


def test_machine_that_fails_is_started_again(vms, until):
    """It restarts at once: without port rules the keeper watches the process itself. After a stop it stays down."""
    vms.create("web", {"base": "template:tiny", "plain": True, "restart": "on-failure"}, Wishes(user="root"))
    vms.start("web")
    pids = [vms.status("web").observation.pid]
    until(lambda: keeper(vms) is not None)
    journal = Journal(vms.home.directory("web"))
    kill, panic = partial(os.kill, pids[0], signal.SIGKILL), ["sh", "-c", "(sleep 1; echo c >/proc/sysrq-trigger) &"]
    for number, fail in enumerate((kill, lambda: vms.run("web", panic)), start=1):
        fail()
        until(lambda: (last := journal.last()).phase == "done" and last.asked == {"restart": number})  # noqa: B023
        pids.append(vms.status("web").observation.pid)

    ended = [(line.trigger, line.detail) for line in vms.history("web") if line.phase == "done"][2:]
    assert ended == [
        ("exited", "hypervisor was killed or crashed"),
        ("start", "restart 1 of 5 after a failure"),
        ("exited", "guest panicked"),
        ("start", "restart 2 of 5 after a failure"),
    ]
    assert len({*pids}) == 3
    assert vms.run("web", ["hostname"]).text.strip() == "web"

    vms.stop("web")
    until(lambda: keeper(vms) is None)
    assert vms.status("web").state == "stopped"
