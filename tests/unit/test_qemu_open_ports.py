"""Ports that open in a guest: the shared connection forwards the right ones, even after an interruption."""

import itertools
import json
import socket
from pathlib import Path

import pytest

from interlock.drivers.qemu import port_record
from interlock.drivers.qemu.open_ports import reconcile
from interlock.drivers.qemu.port_record import seen
from interlock.fsm.records import OpenPort
from interlock.fsm.spec import Forward
from interlock.host import process


def way(port: int, host_port: int = 0) -> Forward:
    return Forward("tcp", "127.0.0.1", port, "", "127.0.0.1", host_port or port, "", reverse=False)


class Crash(BaseException):
    """The process was killed."""


class Connection:
    """The forwards that ssh has open, and those recorded; after `last` effects, any further one raises Crash."""

    def __init__(self) -> None:
        self.open: set[Forward] = set()
        self.recorded: tuple[OpenPort, ...] = ()
        self.last = 1000

    def record(self, ports: tuple[OpenPort, ...]) -> None:
        self._count()
        self.recorded = ports

    def ask(self, command: str, forward: Forward) -> tuple[str, ...] | None:
        self._count()
        if command == "cancel":
            self.open.discard(forward)
        elif any(forward != other and forward[4:6] == other[4:6] for other in self.open):
            return ("Port forwarding failed for listen port",)
        else:
            self.open.add(forward)
        return None

    def make(self, *wanted: Forward) -> tuple[OpenPort, ...]:
        return reconcile(self.recorded, wanted, self.record, self.ask)

    def _count(self) -> None:
        self.last -= 1
        if self.last < 0:
            raise Crash


BEFORE = (way(3000), way(3001), way(3002, 9002))
AFTER = (way(3001), way(4000, 3000), way(3002, 9003), way(5000))
"""One stays, one host port leads to another guest port, one guest port gets another host port, one is new."""


@pytest.mark.parametrize("then", [BEFORE, AFTER, ()])
def test_work_that_is_cut_short_anywhere_is_made_up_for_by_the_next(then: tuple[Forward, ...]) -> None:
    """Wherever a call is killed, the next call opens and records exactly the forwards that are wanted by then."""
    for last in itertools.count():
        connection = Connection()
        connection.make(*BEFORE)
        connection.last = last
        try:
            connection.make(*AFTER)
        except Crash:
            ended_by_itself = False
        else:
            ended_by_itself = True
        connection.last = 1000

        ports = connection.make(*then)

        assert connection.open == {*then}
        assert ports == connection.recorded
        assert [port[1:4:2] for port in ports] == [(one.guest_port, one.host_port) for one in then]
        assert not any(port.problem for port in ports)
        if ended_by_itself:
            break
    assert last > len(AFTER)


def test_nothing_is_asked_or_recorded_where_all_is_as_wanted() -> None:
    """If nothing changed in the guest, no program is run and nothing is written."""
    connection = Connection()
    connection.make(*BEFORE)
    connection.last = 0

    assert len(connection.make(*BEFORE)) == len(BEFORE)


def test_taken_port_says_by_whom_and_is_opened_once_it_is_free() -> None:
    """If another program has the host port, the result says so, the other ports open, and the next call tries again."""
    connection = Connection()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = way(8080, other.getsockname()[1])
        connection.open.add(taken._replace(guest_port=1))  # ssh refuses, as it would because of the other program

        ports = connection.make(way(3000), taken)

        assert [bool(port.problem) for port in ports] == [False, True]
        assert ports[1].problem.startswith(f"tcp port {taken.host_port} of 127.0.0.1 is taken by ")
        connection.last = 0
        assert connection.make(way(3000), taken) == ports  # it is not asked for again while it is taken
    connection.last, connection.open = 1000, {way(3000)}
    assert not any(port.problem for port in connection.make(way(3000), taken))


def test_ports_of_a_connection_that_ended_are_not_shown(tmp_path: Path) -> None:
    """The record names the process that has them open; they end with it. A damaged record counts as empty."""
    me = process.Actor(1, process.started_ticks(1) or 0, process.boot_id())
    port = OpenPort("127.0.0.1", 80, "127.0.0.1", 8080)
    pending = OpenPort("127.0.0.1", 81, "127.0.0.1", 8081, port_record.PENDING)
    file = tmp_path / port_record.PORTS
    file.write_bytes(port_record.written(me, [port, pending]))
    file.chmod(0o600)

    assert seen(tmp_path) == (port,)
    for damage in (port_record.written(me._replace(started_ticks=7), [port]), b"{", b"[]", json.dumps({}).encode()):
        file.write_bytes(damage)
        assert seen(tmp_path) == ()
