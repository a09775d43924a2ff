"""Copies of a running machine: each continues from one moment of it, with an identity of its own.

    original                                  copy
    forked/memory, devices ────────────────── saved/memory, devices    by hard links; nobody writes to them
    layer-*.qcow2 ─────────────────────────── layer-*.qcow2            what was its disk until then, likewise
    disk.qcow2                                disk.qcow2               each writes to its own
    forked/fork.json                          fork.json                the identity that its guest takes (`adopted`)

The original stands still while its memory is copied out, and then runs on over a fresh disk. The fresh disk replaces
disk.qcow2 after QEMU has switched to it and before the guest may write, so after a crash disk.qcow2 always holds all
that the guest wrote. (Not earlier: QEMU reopens the former disk by its name, read-only. For the same reason the fresh
disk also has the name of a layer, under which QEMU opens it.)
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DriverError
from ...fsm.spec import Forward
from ...guest.keys import pin
from ...guest.seed import SEED_BYTES, identity_facts
from ...guest.session import Endpoint
from ...host.files import folder_beside, publish, read_own, remove_tree, write_whole
from ...host.process import Actor
from ..contract import BASE, CD, FORKED, INITRD, KERNEL, KNOWN_HOSTS, SEED, SSH_KEY, Deadline, Report, Site
from . import adopted, cloning, disk, firmware, identity, saved
from .command import RECORD, Board
from .disk import DISK, LAYERS
from .monitor import Monitor, within

CAUGHT = "fork.json"
"""The facts of the moment: the guest's boot and mark, the layers, and the size of the disk."""

_VARIABLES_BYTES = 64 << 20

_COVER = f".{DISK}.{{}}"
"""The name of a fresh disk until it is in its place. `disk.whole` removes what was left under such names."""


def refuse(site: Site) -> None:
    """Raise DriverError where the machine of `site` cannot be forked, though its memory can be saved."""
    if not Board.read(site.directory).generation_device:
        raise DriverError(
            "the machine has no device that tells its guest that it was copied, so copies would draw the same random "
            "numbers"
        )
    if (site.directory / SEED).exists():
        raise DriverError(
            "the guest took its identity from a cloud-init seed, and reads no other seed: a copy would have that "
            "identity again after a boot"
        )
    cloning.refuse_disks(site)
    if site.spec.tpm:
        raise DriverError(f'"{site.name}" has a TPM, whose secrets two machines must not share')
    if taken := _taken(site.spec.forwards, site.directory):
        raise DriverError(f'"{site.name}" forwards {taken} of this host, which two machines cannot share')


class Announced(NamedTuple):
    """What a copy finds in its memory about the moment when it was copied."""

    boot: str
    """The id of the guest's boot."""
    mark: str
    """A word in its kernel's log; the log's lines about the copying come after it."""


def announce(
    site: Site, endpoint: Endpoint, deadline: Deadline, pidfd: int, report: Report, *, nobodys: bool = False
) -> Announced:
    """Have the guest of `site` prepare to be copied; `nobodys`: it belongs to no instance. Raises DriverError, and what
    a `Wait` raises."""
    report("announcing the copy to the guest")
    mark = os.urandom(8).hex()
    if nobodys:
        return Announced(identity.stand_by(site, mark), mark)
    return Announced(identity.copying(site, endpoint, mark, deadline, pidfd), mark)


def catch(site: Site, process: Actor, announced: Announced, report: Report, deadline: Deadline) -> None:
    """Put one moment of the machine of `site` into FORKED; it runs on afterwards.

    Raises DeadlineError or DriverError; the processors may stand still then.
    """
    place = site.directory / FORKED
    remove_tree(place)
    with folder_beside(place) as fresh:
        layers, size = caught(site, process, fresh, report, deadline)
        record = {**announced._asdict(), "layers": layers, "disk_bytes": size}
        write_whole(fresh / CAUGHT, json.dumps(record).encode() + b"\n")
        fresh.replace(place)


def caught(site: Site, process: Actor, folder: Path, report: Report, deadline: Deadline) -> tuple[list[str], int]:
    """Put the memory and the firmware's variables of one moment of the machine of `site` into `folder`; it runs on.

    Return the layers of its disk at that moment, from the top down, and the disk's size. Raises as `catch` does.
    """
    directory = site.directory
    report("copying the memory")
    finish(site)
    for unused in directory.glob(_COVER.format("*")):
        unused.unlink()
    layers, size = cloning.layers_in_use(directory)
    number = os.urandom(4).hex()
    cloning.write_cover(directory, _COVER.format(number), layers, size)
    os.link(directory / _COVER.format(number), directory / _layer(number))
    with Monitor(site.runtime, within(deadline)) as monitor:
        monitor.ask("stop")  # and completes what is being written to the disks
        _change_over(monitor, number)
    finish(site)
    saved.take(site, process, folder, deadline)
    if (directory / firmware.VARIABLES).exists():
        _copy(directory / firmware.VARIABLES, folder / firmware.VARIABLES)
    with Monitor(site.runtime, within(deadline)) as monitor:
        monitor.ask("cont")
    return layers, size


def make(site: Site, original: Site, report: Report) -> None:
    """Make the machine `site` from what `catch` left in FORKED of `original`; safe to repeat."""
    source, directory = original.directory, site.directory
    forked = source / FORKED
    caught: dict[str, Any] = json.loads(read_own(forked / CAUGHT))
    report("giving the copy an identity")
    who = cloning.identify(site, original)
    for name in (KERNEL, BASE, CD, firmware.CODE, firmware.PRISTINE):
        cloning.link(source / name, directory / name)
    for name in (RECORD, SSH_KEY):
        write_whole(directory / name, read_own(source / name))
    if (forked / firmware.VARIABLES).exists():
        _copy(forked / firmware.VARIABLES, directory / firmware.VARIABLES)
    report("sharing memory and disk")
    for layer in caught["layers"]:
        cloning.link(source / layer, directory / layer)
    cloning.cover(directory, caught["layers"], caught["disk_bytes"])
    saved.adopt(site, forked, common=True)
    facts = identity_facts(who, initrd=read_own(directory / INITRD, SEED_BYTES))
    shown = read_own(source / KNOWN_HOSTS)
    adopted.record(directory, shown, pin(who.host_key), facts, boot=caught["boot"], mark=caught["mark"])


def finish(site: Site) -> None:
    """Put the disk that the hypervisor of `site`, which stands still, writes to in the place that the next start uses.

    An interrupted fork may leave two disks.
    """
    if not any(site.directory.glob(_COVER.format("*"))):
        return
    with Monitor(site.runtime) as monitor:
        cover = site.directory / _COVER.format(disk.root(monitor)[0].removeprefix(f"{disk.ROOT}-"))
    if cover.exists():
        publish(cover, site.directory / DISK)


def _copy(source: Path, target: Path) -> None:
    """Copy the firmware's variables, of 64 MiB at most."""
    write_whole(target, read_own(source, _VARIABLES_BYTES))


def _change_over(monitor: Monitor, number: str) -> None:
    """Have the hypervisor write to the fresh disk `number`. Source: QEMU, qapi/block-core.json."""
    root, name = disk.root(monitor)[0], f"{disk.ROOT}-{number}"
    file = {"driver": "file", "filename": _layer(number)}
    monitor.ask("blockdev-add", driver="qcow2", node_name=name, discard="unmap", backing=None, file=file)
    monitor.ask("blockdev-snapshot", node=root, overlay=name)


def _layer(number: str) -> str:
    """Return the layer name of the fresh disk `number`."""
    return LAYERS.replace("*", number)


def _taken(forwards: Sequence[Forward], directory: Path) -> str | None:
    """Return the first port or socket of the host on which `forwards` listen and a copy could not listen too; None if
    there is no conflict."""
    for forward in forwards:
        if forward.reverse:
            continue
        if forward.host_port:
            return f"port {forward.host_port}"
        if forward.host_socket and not Path(forward.host_socket).is_relative_to(directory):
            return forward.host_socket
    return None
