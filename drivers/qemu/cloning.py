"""A machine made of another one that is down: its disk, its firmware, and a seed with another identity.

    original                       copy
    disk.qcow2 ─────┐       ┌───── disk.qcow2        each writes to its own
                    layer-*.qcow2                    the former disk of the original, by a hard link in both
                    base.qcow2                       the image, likewise

A layer is never written to again. Each directory that needs it has a hard link to it, so the kernel counts its users,
and either machine can be deleted without regard to the other. A full copy has its own files for everything above the
image. `reset` removes the layers (`disk.make`).
"""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DriverError
from ...guest import facts, seed
from ...guest.keys import new_host_key, pin
from ...host import cancellation
from ...host.files import clone, flush_directory, link_or_copy, open_private, read_own, remove_tree, write_whole
from ...host.progress import Pace
from ..contract import BASE, CD, INITRD, KERNEL, KNOWN_HOSTS, SEED, SSH_KEY, Report, Site
from . import firmware
from .command import RECORD
from .disk import DISK, GROWN, LAYERS, run_qemu_img, whole
from .mounts import CHANGED

_PIECE_BYTES = 4 << 20

_L1_BYTES = 32 << 20
"""The longest L1 table that QEMU accepts. Source: QEMU, block/qcow2.h, QCOW_MAX_L1_SIZE."""

_FIFTHS = 5
_LARGE_BYTES = 256 << 20
"""Progress of a copy is reported from this size on, in so many steps."""


def make(site: Site, original: Site, report: Report, *, full: bool) -> None:
    """Make the machine `site` as a copy of `original`, which is down and stays as it is; safe to repeat.

    Raises DriverError if the guest would not take its new identity, or the disk cannot be shared.
    """
    refuse(original)
    report("giving the copy an identity")
    identify(site, original)
    for name in (KERNEL, BASE, CD, firmware.CODE, firmware.PRISTINE):
        link(original.directory / name, site.directory / name)
    for name in (RECORD, SSH_KEY):
        write_whole(site.directory / name, read_own(original.directory / name))
    for mark in (GROWN, CHANGED):
        if (original.directory / mark).exists():
            write_whole(site.directory / mark, b"")
    if (original.directory / firmware.VARIABLES).exists():
        copy(original.directory / firmware.VARIABLES, site.directory, report)
    if full:
        report("copying the disk")
        for image in _chain(original.directory):
            if image["filename"] != BASE:
                copy(original.directory / image["filename"], site.directory, report)
    else:
        report("sharing the disk")
        share(original.directory, site.directory)


def refuse_disks(original: Site) -> None:
    """Raise DriverError where the machine `original` has a disk that outlives instances."""
    if original.spec.disks:
        names = ", ".join(disk.name for disk in original.spec.disks)
        raise DriverError(f'"{original.name}" has the disk {names} attached, which two machines cannot both write to')


def refuse(original: Site) -> None:
    """Raise DriverError where the machine `original`, which is down, cannot be copied."""
    refuse_disks(original)
    if (original.directory / SEED).exists() and is_written(original.directory):
        raise DriverError(
            f'the guest of "{original.name}" took its identity from a cloud-init seed, and reads no other seed: '
            "such a machine can only be cloned before its first start"
        )


def identify(site: Site, original: Site) -> facts.Identity:
    """Put a seed, or an initrd that carries it, and the pinned host key into the directory of `site`; return who it
    is."""
    host_key = new_host_key()
    spec, source = site.spec, original.directory
    identity = facts.Identity(site.name, spec.hostname, spec.instance_id, host_key)
    try:
        if (source / SEED).exists():
            write_whole(site.directory / SEED, seed.nocloud_for(read_own(source / SEED, seed.SEED_BYTES), identity))
            link(source / INITRD, site.directory / INITRD)
        else:
            initrd = seed.overlay_for(read_own(source / INITRD, seed.SEED_BYTES), identity)
            write_whole(site.directory / INITRD, initrd)
    except ValueError as error:
        raise DriverError(f'the seed of "{original.name}" cannot be read: {error}') from error
    write_whole(site.directory / KNOWN_HOSTS, pin(host_key))
    return identity


def layers_in_use(directory: Path) -> tuple[list[str], int]:
    """Give the disk in `directory`, which a hypervisor writes to, a second name as a layer, unless it has one.

    Return that name and the layers below it, from the top down, and the size of the disk.
    """
    chain = _chain(directory, in_use=True)
    disk = directory / DISK
    named = next((layer.name for layer in directory.glob(LAYERS) if layer.samefile(disk)), None)
    layers = [named or _new_layer(directory), *(image["filename"] for image in chain[1:])]
    return layers, int(chain[0]["virtual-size"])


def share(source: Path, target: Path, size_bytes: int = 0) -> None:
    """Put a disk into `target` with the content of the one in `source`, over shared files that neither writes to.

    It is as large as that one, and at least `size_bytes`. Layers that no disk needs any more are removed from both.
    """
    chain = _chain(source)
    layers = [image["filename"] for image in chain[1:]]
    for abandoned in source.glob(LAYERS):
        if abandoned.name not in layers:
            remove_tree(abandoned)
    if size_bytes > chain[0]["virtual-size"]:
        write_whole(target / GROWN, b"")
    if chain[0].get("snapshots"):
        raise DriverError("a disk that has snapshots cannot be shared; a full copy is possible (--full)")
    if is_written(source):
        layers = [_new_layer(source), *layers]
        cover(source, layers, chain[0]["virtual-size"])
    for layer in layers:
        link(source / layer, target / layer)
    cover(target, layers, max(size_bytes, chain[0]["virtual-size"]))
    for abandoned in target.glob(LAYERS):
        if abandoned.name not in layers:
            remove_tree(abandoned)


def _new_layer(directory: Path) -> str:
    """Give the disk in `directory` a second name, as a layer, and return that name."""
    layer = LAYERS.replace("*", os.urandom(4).hex())
    os.link(directory / DISK, directory / layer)
    flush_directory(directory)
    return layer


def cover(directory: Path, layers: Sequence[str], size_bytes: int) -> None:
    """Put an empty disk over the first of `layers` into `directory`."""
    with whole(directory, DISK) as fresh:
        write_cover(directory, fresh, layers, size_bytes)


def write_cover(directory: Path, name: str, layers: Sequence[str], size_bytes: int) -> None:
    """Write the file `name` in `directory`: an empty disk over the first of `layers`.

    That layer is not opened, because a hypervisor may have it locked.
    """
    backing = ["-F", "qcow2", "-b", layers[0]] if layers else []
    run_qemu_img(["create", "-q", "-u", "-f", "qcow2", *backing, name, str(size_bytes)], directory)


def _chain(directory: Path, *, in_use: bool = False) -> list[dict[str, Any]]:
    """Return what qemu-img knows of the disk in `directory` and of each file that it needs, from the top down."""
    shared = ["-U"] if in_use else []
    said = run_qemu_img(["info", *shared, "--backing-chain", "--output=json", "-f", "qcow2", DISK], directory)
    chain: list[dict[str, Any]] = json.loads(said)
    return chain


def is_written(directory: Path) -> bool:
    """Return whether anything was ever written to the disk in `directory` itself, its backing files aside.

    Source: QEMU, docs/interop/qcow2.txt: a disk without content has an L1 table of zeros.
    """
    with open_private(directory / DISK, "rb") as disk:
        entries, place = struct.unpack_from(">IQ", disk.read(48), 36)
        disk.seek(place)
        return any(disk.read(min(8 * entries, _L1_BYTES)))


def link(source: Path, target: Path) -> None:
    """Give the immutable file `source`, if it is there, the name `target` too."""
    if source.exists() and not (target.exists() and target.samefile(source)):
        remove_tree(target)
        link_or_copy(source, target)


def copy(source: Path, directory: Path, report: Report) -> None:
    """Put a copy of the file `source` into `directory`, sparse; blocks are shared where they can be."""
    with source.open("rb") as content, whole(directory, source.name) as fresh:
        if clone(content, directory / fresh):
            return
        size, done, pace = source.stat().st_size, 0, Pace()
        with open_private(directory / fresh, "wb") as copy:
            for piece in cancellation.each(iter(lambda: content.read(_PIECE_BYTES), b"")):
                if any(piece):
                    copy.write(piece)
                else:
                    copy.seek(len(piece), os.SEEK_CUR)
                before, done = done, done + len(piece)
                if (part := _FIFTHS * done // size) > _FIFTHS * before // size and size >= _LARGE_BYTES:
                    report(f"copying the disk: {100 * part // _FIFTHS} %{pace.left(done, size)}")
            copy.truncate(size)
