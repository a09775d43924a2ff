"""Snapshots of a machine: its disk by shared layers, as a clone has it, and its firmware's variables.

snapshots/TAG/          holds every file that the disk needs, so it does not depend on the machine's own files
├── disk.qcow2          empty, over the layer that was the machine's disk
├── layer-*.qcow2       hard links, never written to again
├── base.qcow2          a hard link, likewise
├── firmware.*.fd       the variables, copied
└── memory, devices, saved.json   of a machine that ran: the same moment, as `saved` has it; never written to again
"""

from pathlib import Path

from ...errors import DriverError
from ...host.process import Actor
from ..contract import Deadline, Report, Site
from . import boot, cloning, disk, firmware, forking, saved


def take(site: Site, place: Path, report: Report) -> None:
    """Put the disk of `site`, which is down, into the empty folder `place`; the machine writes to another layer now.

    Raises DriverError for a disk that is damaged, or that outlives the instance.
    """
    refuse(site)
    report("checking the disk")
    disk.check(site.directory)
    report("keeping the disk")
    cloning.share(site.directory, place)
    _copy_variables(site.directory, place, report)
    disk.check(place)


def refuse(site: Site) -> None:
    """Raise DriverError for a disk that outlives the instance: it would not go back with the snapshot."""
    if site.spec.disks:
        names = ", ".join(it.name for it in site.spec.disks)
        raise DriverError(f"the disk {names} is attached, and a snapshot could not restore it")


def catch(site: Site, process: Actor, place: Path, report: Report, deadline: Deadline) -> int:
    """Put one moment of the machine of `site`, which `process` runs, into the empty folder `place`; it runs on.

    Return how many bytes of memory are in it. Raises what `take` does, and DriverError for a memory that cannot be
    saved, before the machine stands still; DeadlineError.
    """
    refuse(site)
    boot.refuse_to_save(site, process)
    layers, size = forking.caught(site, process, place, report, deadline)
    report("keeping the disk")
    for layer in layers:
        cloning.link(site.directory / layer, place / layer)
    cloning.cover(place, layers, size)
    report("checking the snapshot")
    disk.check(place)
    return saved.seal(place)


def examine(site: Site, place: Path, report: Report, *, cold: bool) -> None:
    """Raise DriverError if the disk in `place` is damaged, or, unless `cold`, its memory does not fit `site`."""
    report("checking the snapshot")
    disk.check(place)
    if cold or not saved.is_in(place):
        return
    version, command = boot.described(site, remember=False)
    if why := saved.unfit(place, version, command) or saved.unsealed(place):
        raise DriverError(
            f"the memory in the snapshot cannot be used: {why}",
            hint=f"interlock snapshot restore {site.name} {place.name} --cold",
        )


def bring_back(site: Site, place: Path, report: Report, *, cold: bool) -> None:
    """Give `site`, which is down, the disk in `place`, and the memory unless `cold`; what was written since is gone."""
    report("putting the disk back")
    saved.forget(site.directory)
    _copy_variables(place, site.directory, report)
    cloning.share(place, site.directory, site.spec.disk_bytes)
    if saved.is_in(place) and not cold:
        report("putting the memory back")
        saved.adopt(site, place, common=False)


def _copy_variables(source: Path, target: Path, report: Report) -> None:
    if (source / firmware.VARIABLES).exists():
        cloning.copy(source / firmware.VARIABLES, target, report)
