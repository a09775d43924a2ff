"""Ports that open in a running guest: which ones are open, and their forwards through the shared connection.

ssh does not say which forwards it has, so a forward is recorded (`port_record`) from before ssh is asked to open it
until ssh has closed it. Opening an open forward changes nothing. So after a call that was cut short anywhere, the next
call puts everything right.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...errors import DeadlineError, DriverError, HostError
from ...fsm.records import OpenPort
from ...fsm.spec import Forward
from ...guest.agent import AgentError
from ...guest.agent import listening as addresses
from ...guest.session import OPTIONS, GuestGoneError, Wait
from ...host.files import write_whole
from ..contract import Deadline, Site, Sockets
from . import agent, ended, host_ports, hypervisor, port_record, ssh_control, ssh_forwards
from .port_record import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TURN_S = 2
"""Between two looks at the guest's tables: a look costs an emulated guest some hundredths of a second."""

_ANSWER_S = 30.0
"""How long the shared connection may take to come up."""

_LINE_BYTES = 64 << 10
"""A longer line from the guest is an error."""

_LOOK = f"""
exec 3<&0
{{ cat <&3 >/dev/null; kill $$; }} &
while :; do
    found=
    for table in tcp tcp6; do
        [ ! -r /proc/net/$table ] || while read -r _ address _ status _; do
            [ "$status" != 0A ] || found="$found $table:$address"
        done </proc/net/$table
    done
    echo "$found" || exit
    sleep {_TURN_S}
done
"""
"""Lists the listening sockets, as the agent does, until its stdin ends. Closing its output would not end it under
dropbear, which keeps reading the output of a closed session.
"""


class _FoundError(Exception):
    """Ends the wait for a change: there is one."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets


def listening(site: Site, known: Sockets | None, deadline: Deadline) -> Sockets:
    """Do what `Driver.listening` promises: by the agent, and by ssh where no agent answers."""
    with _alive(site) as pidfd:
        wait = Wait(deadline, pidfd)
        try:
            if agent.listens(site.directory):
                with suppress(AgentError):
                    return _by_agent(site, known, wait)
            return _by_ssh(site, known, wait)
        except DeadlineError:
            if known is None:
                raise
            return known


def _by_agent(site: Site, known: Sockets | None, wait: Wait) -> Sockets:
    while (found := addresses(agent.ask(site.runtime, "ports"))) == known:
        wait.pause(_TURN_S)
    return found


def _by_ssh(site: Site, known: Sockets | None, wait: Wait) -> Sockets:
    from ...guest import ssh
    from ...host.run import run

    if not ssh_control.opened(site.runtime, wait.pause):
        raise DriverError(f'the guest of "{site.name}" cannot be asked which ports are open: no connection')
    # Even if the spec forbids shared sessions: this session forwards neither an agent nor X11.
    options = (*OPTIONS, f"ControlPath={site.runtime / ssh_control.SHARED}")
    line = ssh.command_line(site.directory / ssh.CONFIG, site.name, ["sh", "-c", _LOOK], options=options)
    rest = b""

    def hear(piece: bytes) -> None:
        nonlocal rest
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise DriverError(f'the guest of "{site.name}" lists too many open ports')
        if whole and (found := addresses(whole[-1].decode(errors="replace"))) != known:
            raise _FoundError(found)

    asked, asks = os.pipe()
    try:
        said = run(line, stdin=asked, stdout=hear, wait=wait.pause)
    except _FoundError as change:
        return change.sockets
    finally:
        os.close(asked)
        os.close(asks)
    raise DriverError(f'the guest of "{site.name}" does not list its open ports', details=said.words)


def carry(site: Site, wanted: Sequence[Forward]) -> tuple[OpenPort, ...]:
    """Do what `Driver.carry` promises."""
    with _alive(site) as pidfd:
        connection, ways = port_record.current(site.runtime)
        if wanted and connection is None:
            if ssh_control.opened(site.runtime, Wait(Deadline(_ANSWER_S), pidfd).pause):
                connection = ssh_forwards.connection(site)
            if connection is None:
                raise DriverError(f'there is no connection to the guest of "{site.name}"')
        return reconcile(
            ways,
            wanted,
            lambda ports: write_whole(site.runtime / port_record.PORTS, port_record.written(connection, ports)),
            lambda command, way: ssh_forwards.ask(site, command, way),
        )


def reconcile(
    ways: Sequence[OpenPort],
    wanted: Sequence[Forward],
    record: Callable[[tuple[OpenPort, ...]], object],
    ask: Callable[[str, Forward], tuple[str, ...] | None],
) -> tuple[OpenPort, ...]:
    """Return the ports of `wanted`, once `ask` has closed and opened forwards to get from `ways`, the recorded ones.

    `record` keeps what may be open at each moment, because this process may die at any of these calls.
    """
    known = {_forward(port): port for port in ways}
    if gone := [way for way in known if way not in wanted]:
        record(tuple((known | _pending(gone)).values()))
        for way in gone:
            ask("cancel", way)
            del known[way]
    if come := [way for way in wanted if way not in known or _worth_a_try(known[way])]:
        record(tuple((known | _pending(come)).values()))
        known |= {way: _opened(way, ask) for way in come}
    if gone or come:
        record(tuple(known[way] for way in wanted))
    return tuple(known[way] for way in wanted)


def _pending(ways: Sequence[Forward]) -> dict[Forward, OpenPort]:
    return {way: _port(way, PENDING) for way in ways}


def _worth_a_try(port: OpenPort) -> bool:
    """True for a port that may have been opened, and for one that was taken and is free now."""
    return port.problem == PENDING or (bool(port.problem) and host_ports.free(port.host_port, port.host_ip))


def _opened(way: Forward, ask: Callable[[str, Forward], tuple[str, ...] | None]) -> OpenPort:
    """Try to open `way`, and return the port with the problem, if any."""
    words = ask("forward", way)
    if words is None:
        return _port(way)
    try:
        host_ports.check_free(way.host_ip, way.host_port)
    except (DriverError, HostError) as error:
        return _port(way, error.message)
    return _port(way, f"port {way.host_port}: {words[-1] if words else 'ssh refused it'}")


@contextmanager
def _alive(site: Site) -> "Iterator[int]":
    """Yield the pidfd of the hypervisor; raise DriverError where it is dead or dies in here."""
    with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
        if pidfd is None:
            raise DriverError(f'"{site.name}" is down: {ended.reason(site.directory)}')
        try:
            yield pidfd
        except GuestGoneError:
            raise DriverError(f'"{site.name}" went down: {ended.reason(site.directory)}') from None


def _forward(port: OpenPort) -> Forward:
    return Forward("tcp", port.guest_ip, port.guest_port, "", port.host_ip, port.host_port, "", reverse=False)


def _port(way: Forward, problem: str = "") -> OpenPort:
    return OpenPort(way.guest_ip, way.guest_port, way.host_ip, way.host_port, problem)
