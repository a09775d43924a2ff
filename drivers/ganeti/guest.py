"""The guest of an instance: where it answers, and how a wait for it ends when the instance goes down."""

import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DeadlineError, DriverError, InterlockError
from ...guest import ssh
from ...guest.session import Endpoint, GuestGoneError
from ...host.files import read_own, write_whole
from ...host.progress import Report
from ..contract import KNOWN_HOSTS, SSH_KEY, Site
from .rapi import Rapi

if TYPE_CHECKING:
    from .machine import Machine
    from .record import Record

SSH_PORT = 22

_ANSWER_S = 5.0
"""How long one look of the watcher waits for an answer; the end of the wait for the guest waits for that look."""

_LOOK_S = 2.0
"""How often to check that the instance is still up while waiting for its guest."""


def changes(report: Report) -> Report:
    """Return a report that skips a step equal to the one before it: a wait for a guest repeats its steps."""
    last = ""

    def say(step: str) -> None:
        nonlocal last
        if step != last:
            last = step
            report(step)

    return say


def kernel_arguments(machine: "Machine", address: str) -> str:
    """Return the kernel command line of the guest: the spec's arguments and, with an `address`, the network's settings.

    guest/interlock.sh reads them. Without an address the guest uses DHCP, if its image does.
    """
    words = [machine.site.spec.kernel_arguments]
    network = machine.cluster.network
    if address and network:
        described = machine.rapi.get(f"/2/networks/{network}")
        bits = ipaddress.ip_network(str(described["network"]), strict=False).prefixlen
        servers = machine.cluster.dns.split()
        words.append(
            f"interlock.network={','.join([f'{address}/{bits}', str(described.get('gateway') or ''), *servers])}"
        )
    return " ".join(filter(None, words))


def address(record: "Record") -> str:
    """Return the address of the guest: the one that the cluster assigned, or else the one that DNS has for its name."""
    if record.address:
        return record.address
    try:
        found = socket.getaddrinfo(record.instance, SSH_PORT, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DriverError(
            f'the address of "{record.instance}" is unknown: its cluster assigned no address, and DNS says: {error}'
        ) from error
    return str(found[0][4][0])


def ssh_config(site: Site, record: "Record") -> Path:
    """Return the ssh_config(5) file for reaching the guest; it is written now if it is missing or out of date."""
    spec, path = site.spec, site.directory / ssh.CONFIG
    wanted = ssh.config(
        site.name,
        spec.user,
        SSH_PORT,
        site.directory / SSH_KEY,
        site.directory / KNOWN_HOSTS,
        address=address(record),
        forward_agent=spec.forward_agent,
        forward_x11=spec.forward_x11,
        forward_x11_trusted=spec.forward_x11_trusted,
    ).encode()
    with suppress(FileNotFoundError):
        if read_own(path) == wanted:
            return path
    write_whole(path, wanted)
    return path


@contextmanager
def watched(machine: "Machine") -> Iterator[tuple[Endpoint, int]]:
    """Yield the guest's endpoint, and a descriptor that becomes readable once the instance is seen to be down.

    If the instance went down, an error inside the block is replaced by a DriverError that says so and why.
    """
    site, record = machine.site, machine.record
    endpoint = Endpoint(site.name, ssh_config(site, record), SSH_PORT, site.spec.instance_id, address=address(record))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(machine, over, writing), daemon=True)
    watcher.start()
    try:
        yield endpoint, reading
    except GuestGoneError:
        seen = machine.reached()
        raise DriverError(f"the machine went down: {seen.exit_reason}") from None
    except DeadlineError as error:
        found = machine.look()
        if found is not None and found.alive is False:
            raise DriverError(f"the machine went down: {found.exit_reason}") from error
        raise
    finally:
        over.set()
        watcher.join()
        os.close(reading)
        os.close(writing)


def _watch(machine: "Machine", over: threading.Event, writing: int) -> None:
    """Write to `writing` and return once the instance of `machine` is down; return without it when `over` is set."""
    record = machine.record
    with Rapi(machine.cluster, machine.root, _ANSWER_S) as rapi:
        while not over.wait(_LOOK_S):
            with suppress(InterlockError):  # a cluster that does not answer for a while does not mean a guest is down
                if rapi.instance(record.instance).alive is False:
                    os.write(writing, b"\n")
                    return
