"""Warm images: a machine begins from the memory of another whose guest, which belonged to no instance, had booted.

    warm/                   in the instance's directory from its creation on, hard links; nobody writes to them
    ├── memory, devices, saved.json     of that moment (`saved`)
    ├── layer.qcow2         what that guest had written to its disk, over base.qcow2
    ├── disk.qcow2          an empty disk over it
    ├── known_hosts         the key that its guest shows
    └── fork.json           the other facts of that moment (`forking.CAUGHT`), and the facts of its guest's seed

`begin` turns it into what a fork is before its first start: a saved memory, a disk over shared layers, and an identity
to take (`adopted`). Until the guest has taken that identity, nothing on the disk belongs to the instance, and a fresh
disk may replace it at any time. So whatever a crash leaves, the next start begins from the image again, or boots.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DriverError
from ...guest.seed import SEED_BYTES, facts_of
from ...host.files import read_own, write_whole
from ..contract import BASE, FORKED, INITRD, KNOWN_HOSTS, WARM, Site
from . import adopted, cloning, saved
from .disk import DISK, LAYERS
from .forking import CAUGHT

LAYER = "layer.qcow2"

LAYER_HERE = LAYERS.replace("*", "warm")
"""The name of LAYER beside the instance's disk, by which the empty disk refers to it."""

_COVER_BYTES = 16 << 20

_SEED = "seed"
_OWN_KEYS = "ssh_host_"
"""The prefix of facts that are unique to each guest."""


def keep(site: Site, place: Path) -> None:
    """Put the moment that `forking.catch` left in FORKED of `site` into the empty folder `place`."""
    source = site.directory
    caught: dict[str, Any] = json.loads(read_own(source / FORKED / CAUGHT))
    layers = caught["layers"]
    if layers[1:] not in ([], [BASE]):
        raise DriverError("a warm image needs a disk that is a single layer over the image's disk")
    for name in (saved.MEMORY, saved.DEVICES, saved.RECORD):
        cloning.link(source / FORKED / name, place / name)
    facts = facts_of(read_own(source / INITRD, SEED_BYTES))
    seed = {name: b64encode(content).decode() for name, content in facts.items() if not name.startswith(_OWN_KEYS)}
    write_whole(place / CAUGHT, json.dumps({**caught, _SEED: seed}).encode() + b"\n")
    cloning.link(source / layers[0], place / LAYER)
    cloning.write_cover(place, DISK, [LAYER_HERE], caught["disk_bytes"])
    write_whole(place / KNOWN_HOSTS, read_own(source / KNOWN_HOSTS))


def applies(site: Site) -> bool:
    """Return whether `site` has a warm image and nothing of its own on its disk yet."""
    directory = site.directory
    if not (directory / WARM).exists():
        return False
    return adopted.is_nobodys(directory) or not (any(directory.glob(LAYERS)) or cloning.is_written(directory))


def misfit(site: Site, version: str, command: Sequence[str]) -> str | None:
    """Return why the warm image of `site` does not fit the machine of QEMU `version` and `command`; None if it does."""
    warm = site.directory / WARM
    if why := saved.unfit(warm, version, command):
        return why
    caught = json.loads(read_own(warm / CAUGHT))
    if _SEED not in caught:
        return "an older version of Interlock made it"
    disk_bytes = caught["disk_bytes"]
    same = disk_bytes == site.spec.disk_bytes
    return None if same else f"its disk has {disk_bytes} bytes; this one has {site.spec.disk_bytes}"


def begin(site: Site, version: str, command: Sequence[str]) -> str | None:
    """Let the next start of `site` continue from its warm image; return why that does not fit, as `misfit` does."""
    if why := misfit(site, version, command):
        return why
    directory, warm = site.directory, site.directory / WARM
    caught: dict[str, Any] = json.loads(read_own(warm / CAUGHT))
    adopted.settle(directory)
    shown, own = read_own(warm / KNOWN_HOSTS), read_own(directory / KNOWN_HOSTS)
    former = {name: b64decode(content) for name, content in caught[_SEED].items()}
    adopted.record(directory, shown, own, None, boot=caught["boot"], mark=caught["mark"], former=former)
    cloning.link(warm / LAYER, directory / LAYER_HERE)
    write_whole(directory / DISK, read_own(warm / DISK, _COVER_BYTES))
    saved.adopt(site, warm, common=True)
    return None
