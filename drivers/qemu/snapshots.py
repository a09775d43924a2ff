"""Snapshots of a machine that is down: its disk by shared layers, as a clone has it, and its firmware's variables.

snapshots/TAG/          holds every file that the disk needs, so it outlives what becomes of the machine's own
├── disk.qcow2          empty, over the layer that was the machine's disk
├── layer-*.qcow2       hard links, never written to again
├── base.qcow2          a hard link, likewise
└── firmware.*.fd       the variables, copied
"""

from pathlib import Path

from ...errors import DriverError
from ..contract import Report, Site
from . import cloning, disk, firmware


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
        raise DriverError(f"the disk {names} is attached and would not go back with a snapshot")


def bring_back(site: Site, place: Path, report: Report) -> None:
    """Give `site`, which is down, the disk that `take` put into `place`; what was written since is gone."""
    report("checking the snapshot")
    disk.check(place)
    report("putting the disk back")
    _copy_variables(place, site.directory, report)
    cloning.share(place, site.directory, site.spec.disk_bytes)


def _copy_variables(source: Path, target: Path, report: Report) -> None:
    if (source / firmware.VARIABLES).exists():
        cloning.copy(source / firmware.VARIABLES, target, report)
