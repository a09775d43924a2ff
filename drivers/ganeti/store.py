"""What is handed over to the nodes: kernel, initrd and image of a machine, in a folder that all of them see.

    store/                          written by
    ├── blobs/sha256-DIGEST         create: what several machines have, such as a kernel or an image; kept
    └── instances/ID/               create: what is one machine's own; removed with it
        ├── initrd                  0600: the instance's seed is in it, secrets included
        ├── seed.iso                0600: likewise
        └── .*                      copies that are under way, those of blobs too: who is cut off leaves them here

ID is the spec's instance_id. A node reads as root, which a network file system must not take away (NFS:
`no_root_squash`). The instance's own files keep their names when it is renamed.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import DriverError, HostError
from ...host import cancellation
from ...host.files import beside, make_private_directory, publish, remove_tree
from ..contract import BASE, INITRD, KERNEL, SEED, Report, Site
from .cluster import Cluster

_PIECE_BYTES = 1 << 20


class Handed(NamedTuple):
    """What Ganeti gets to know: parameters of the hypervisor, and of the OS definition."""

    hypervisor: dict[str, str]
    os: dict[str, str]


def hand_over(site: Site, cluster: Cluster, report: Report) -> Handed:
    """Put what the machine of `site` consists of into the store; what is there already is kept."""
    store = Path(cluster.store)
    if not store.is_dir():
        raise HostError(f'the store of cluster "{cluster.name}" is not there: {store}')
    report("handing over to the nodes")
    try:
        return _handed(site, cluster, store)
    except OSError as error:
        raise DriverError(f"cannot write to the cluster's store {store}: {error.strerror or error}") from error


def _handed(site: Site, cluster: Cluster, store: Path) -> Handed:
    on_nodes, directory = cluster.store_on_nodes.rstrip("/"), site.directory
    own = f"instances/{site.spec.instance_id}"
    make_private_directory(store / own)
    hypervisor = {"kernel_path": "", "initrd_path": "", "cdrom_image_path": ""}
    if site.spec.boot == "kernel":
        hypervisor["kernel_path"] = f"{on_nodes}/{_blob(store, directory / KERNEL, own)[0]}"
        hypervisor["initrd_path"] = f"{on_nodes}/{own}/{INITRD}"
        _copy(directory / INITRD, store / own / INITRD, store / own)
    if (directory / SEED).exists():
        hypervisor["cdrom_image_path"] = f"{on_nodes}/{own}/{SEED}"
        _copy(directory / SEED, store / own / SEED, store / own)
    image = digest = ""
    if (directory / BASE).exists():
        image, digest = _blob(store, directory / BASE, own)
    return Handed(hypervisor, {"store": on_nodes, "image": image, "sha256": digest})


def take_back(instance_id: str, cluster: Cluster) -> None:
    """Remove what only the machine of that id had."""
    if instance_id:
        remove_tree(Path(cluster.store) / "instances" / instance_id)


def _blob(store: Path, file: Path, own: str) -> tuple[str, str]:
    """Return where in `store` the content of `file` is, put there now if it was not, and its digest."""
    sha256 = hashlib.sha256()
    with file.open("rb") as content:
        for piece in _pieces(content):
            sha256.update(piece)
    digest = sha256.hexdigest()
    name = f"blobs/sha256-{digest}"
    if not (store / name).exists():
        make_private_directory(store / "blobs")
        _copy(file, store / name, store / own)
    return name, digest


def _copy(source: Path, place: Path, own: Path) -> None:
    """Copy `source` to `place`, by a temporary file in `own`: nobody else works there, and it goes with the machine."""
    fresh = beside(own / place.name)
    try:
        with (
            source.open("rb") as read,
            os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made,
        ):
            for piece in _pieces(read):
                made.write(piece)
        publish(fresh, place)
    finally:
        fresh.unlink(missing_ok=True)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is in `file`; raises CancelledError as soon as cancellation is requested."""
    while piece := file.read(_PIECE_BYTES):
        cancellation.check()
        yield piece
