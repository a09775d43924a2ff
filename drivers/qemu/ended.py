"""After a machine has ended: why it ended, and the removal of what its run left behind."""

from pathlib import Path

from ...errors import DriverError
from ...host.files import remove_tree, sweep_beside
from ...host.process import boot_id
from .. import degraded
from ..contract import FORKED, Report, Site
from . import events, hypervisor, logs, ssh_forwards
from .port_record import PORTS


def reason(directory: Path) -> str | None:
    """Return why the machine in `directory`, which is down, ended; None when it never ran."""
    last = hypervisor.last(directory)
    if last is None:
        return None
    logs.complete(directory)
    if shutdown := events.shutdown_reason(events.read(directory)):
        return shutdown
    if last.boot_id != boot_id():
        return events.HOST_DOWN
    if not events.greeted(directory) and (words := hypervisor.words(directory)):
        return f"hypervisor did not start: {words[-1]}"
    return events.VANISHED


def death(directory: Path) -> DriverError:
    """Return the error for a machine that died while it was being started."""
    from . import serial

    words = hypervisor.words(directory)
    why = reason(directory) or (f"hypervisor did not start: {words[-1]}" if words else events.VANISHED)
    if why == events.VANISHED and words:
        why = words[-1]
    return DriverError(f"the machine did not come up: {why}", details=[*words, *serial.tail(directory)])


def clear(site: Site, report: Report) -> None:
    """Remove what is left of a finished run: processes that served it, files that go with it, and the remains of an
    interrupted fork."""
    from . import copies, lan, vnc

    vnc.forget(site.directory)
    lan.forget(site)
    degraded.forget(site.directory)
    ssh_forwards.end(site.runtime)
    remove_tree(site.runtime / PORTS)
    remove_tree(site.directory / FORKED)
    sweep_beside(site.directory / FORKED)
    copies.forget(site.directory, report)
