"""What this driver would do, for a dry run: the checks that come first, and the files that would appear or vanish.

Files in the runtime directory are named only as a whole: a reboot clears them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ...fsm.records import is_saved
from ...fsm.snapshots import place
from ...fsm.table import Trigger
from ...guest import ssh
from ...host.progress import unheard
from .. import degraded
from ..contract import BASE, CD, CURRENT, KERNEL, SAVED, WARM, Effects, Site
from . import (
    adopted,
    boot,
    cloning,
    copies,
    disk,
    events,
    firmware,
    forking,
    hostfwd,
    hypervisor,
    logs,
    snapshots,
    ssh_port,
    tpm,
    vnc,
    warming,
)
from . import saved as memory
from .command import RECORD

_RUN = (
    hypervisor.RECORD,
    ssh_port.RECORD,
    ssh.CONFIG,
    f"{events.CHANNEL}.in",
    *(name for log in (logs.SERIAL, logs.EVENTS, logs.QEMU) for name in (log.file, log.pipe)),
)
"""What a start makes; what is there already is made again."""

_SHARED = Effects((disk.LAYERS, disk.DISK), (disk.DISK,))
"""The former disk becomes a layer with a random name, which other machines share and nobody writes to."""

_OF_A_RUN = (degraded.RECORD, copies.RECORD, vnc.DISPLAY, vnc.PASSWORD)
"""Files that are removed when the run ends."""


def foresee(site: Site, trigger: Trigger, arguments: Mapping[str, Any]) -> Effects:
    """Return what the work of `trigger` would do; nothing is touched."""
    look = _FORESEEN.get(trigger)
    return look(site, **arguments) if look else Effects()


def _create(site: Site, *, materials: Collection[str]) -> Effects:
    files = [disk.DISK, RECORD]
    if site.spec.boot == "firmware":
        files += [firmware.CODE, firmware.PRISTINE, firmware.VARIABLES]
    if not {BASE, CD, KERNEL} & {*materials}:
        return Effects(appear=tuple(files), notes=("what the hypervisor boots is known once the image is there",))
    _, command = boot.foreseen(site, materials=materials)
    return Effects(appear=tuple(files), command=tuple(command))


def _start(site: Site, *, cold: bool = False) -> Effects:
    if hypervisor.look(site.directory).alive:  # it would be ended first, which frees its ports and disks
        version, command = boot.described(site, remember=False)
    else:
        boot.check(site)
        hostfwd.check(site.spec.forwards)
        version, command = boot.foreseen(site)
    appear, vanish = _missing(site, _RUN), _there(site, [adopted.RECORD])
    if site.spec.vnc:
        appear += _missing(site, (vnc.DISPLAY, vnc.PASSWORD))
    if site.spec.tpm:
        appear += _missing(site, [tpm.STATE])
    if not site.runtime.is_dir():
        appear += (f"{site.runtime}/",)
    if (site.directory / logs.SERIAL.file).exists():
        appear += _missing(site, [logs.BEFORE])
    started = Effects(appear, vanish, tuple(command))
    if not is_saved(site.directory):
        return started if not warming.applies(site) else _begin_warm(site, started, version, cold=cold)
    why = "as asked" if cold else memory.misfit(site, version, command)
    nobodys = adopted.is_nobodys(site.directory)
    if why is None:
        resumed = started._replace(command=tuple(memory.incoming(site, command)))
        return resumed + Effects((), (SAVED,), (), (boot.BEGINNING if nobodys else boot.RESUMING,))
    if nobodys:
        return started + Effects((), (SAVED,), (), (f"boots cold, without the warm image: {why}",))
    return started + Effects((memory.OLD,), (SAVED,), (), (f"boots cold, the saved memory is set aside: {why}",))


def _begin_warm(site: Site, booted: Effects, version: str, *, cold: bool) -> Effects:
    why = "as asked" if cold else warming.misfit(site, version, booted.command)
    if why:
        return booted + Effects(notes=(f"boots cold, without the warm image: {why}",))
    begun = booted._replace(command=tuple(memory.incoming(site, booted.command, WARM)))
    return begun + Effects(_missing(site, [warming.LAYER_HERE]), (), (), (boot.BEGINNING,))


def _end(site: Site) -> Effects:
    return Effects(vanish=_there(site, _OF_A_RUN))


def _suspend(site: Site) -> Effects:
    if process := hypervisor.settled(site.directory):
        boot.refuse_to_save(site, process)
    return Effects((SAVED,), _there(site, [memory.OLD, *_OF_A_RUN]))


def _reset(site: Site) -> Effects:
    layers = sorted(layer.name for layer in site.directory.glob(disk.LAYERS))
    traces = [hypervisor.RECORD, logs.EVENTS.file, memory.OLD, CURRENT, SAVED, adopted.RECORD, tpm.STATE]
    return Effects((disk.DISK,), (disk.DISK, *layers, *_there(site, traces)))


def _clone(site: Site, *, new: str, full: bool = False) -> Effects:
    del new
    cloning.refuse(site)
    return Effects() if full or not cloning.is_written(site.directory) else _SHARED


def _fork(site: Site, *, new: Collection[str]) -> Effects:
    del new
    if process := hypervisor.settled(site.directory):
        boot.refuse_to_save(site, process)
        forking.refuse(site)
    return _SHARED


def _snapshot(site: Site, *, tag: str) -> Effects:
    del tag
    snapshots.refuse(site)
    if process := hypervisor.settled(site.directory):
        boot.refuse_to_save(site, process)
    return _SHARED if process or cloning.is_written(site.directory) else Effects()


def _restore(site: Site, *, tag: str, cold: bool = False) -> Effects:
    kept = place(site.directory, tag)
    snapshots.examine(site, kept, unheard, cold=cold)
    brought = (SAVED,) if memory.is_in(kept) and not cold else ()
    return Effects((disk.DISK, *brought), (disk.DISK,))


_FORESEEN: dict[Trigger, Callable[..., Effects]] = {
    Trigger.create: _create,
    Trigger.start: _start,
    Trigger.stop: _end,
    Trigger.kill: _end,
    Trigger.suspend: _suspend,
    Trigger.reset: _reset,
    Trigger.clone: _clone,
    Trigger.fork: _fork,
    Trigger.snapshot: _snapshot,
    Trigger.restore: _restore,
}


def _missing(site: Site, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not (site.directory / name).exists())


def _there(site: Site, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if (site.directory / name).exists())
