"""The files for the nodes, in a folder that all nodes share: kernel, initrd, seed and image of a machine.

Another home that is to adopt the machine finds what it needs there, too.

    store/                          written by
    ├── blobs/sha256-DIGEST         create: files that machines share, such as a kernel or an image; kept
    └── instances/ID/               create: the files of one machine; removed with it
        ├── initrd                  0600: it contains the instance's seed with its secrets
        ├── seed.iso                0600: likewise
        ├── home/                   create, start: what another home needs to adopt the machine
        │   ├── ssh.key             0600: it opens every guest of the home that created the machine
        │   ├── known_hosts
        │   └── spec.json           written last: if it is missing, the machine cannot be adopted yet
        └── .*                      unfinished copies, of blobs too; a process that dies leaves them here

ID is the spec's instance_id. Nodes read as root, so a network file system must not map root to another user (NFS:
`no_root_squash`). The instance's own files keep their names when it is renamed.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import DriverError, HostError
from ...fsm.spec import SPEC_FILE
from ...host import cancellation
from ...host.files import (
    PRIVATE_DIRECTORY,
    beside,
    flush_directory,
    make_private_directory,
    publish,
    read_own,
    remove_tree,
    write_whole,
)
from ...host.home import NAME
from ..contract import BASE, INITRD, KERNEL, KNOWN_HOSTS, SEED, SSH_KEY, Report, Site
from .cluster import Cluster

_PIECE_BYTES = 1 << 20

_HOME = "home"
_KEPT = (SSH_KEY, KNOWN_HOSTS, SPEC_FILE)


class Handed(NamedTuple):
    """The parameters that Ganeti gets for the files: those of the hypervisor, and those of the OS definition."""

    hypervisor: dict[str, str]
    os: dict[str, str]


def hand_over(site: Site, cluster: Cluster, report: Report) -> Handed:
    """Copy the files of the machine of `site` into the store, and return Ganeti's parameters for them.

    A blob that is already in the store is not copied again.
    """
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


def keep_for_adoption(site: Site, cluster: Cluster, report: Report) -> None:
    """Keep in the store what another home needs to adopt the machine of `site`; what is there already stays.

    The machine can do without it, so a store that cannot be written to is only reported.
    """
    own = _own(site.spec.instance_id, cluster)
    try:
        wanted = {name: read_own(site.directory / name) for name in _KEPT}
        if not (own / _HOME).is_dir():
            (own / _HOME).mkdir(mode=PRIVATE_DIRECTORY)  # not its parents: the store may not be mounted
            flush_directory(own)
        for name, content in wanted.items():
            if _content(own / _HOME / name) != content:
                write_whole(own / _HOME / name, content)
    except OSError as error:
        report(f"no other home could adopt it: {error.filename}: {error.strerror}")


def kept(instance_id: str, cluster: Cluster) -> dict[str, bytes]:
    """Return what `keep_for_adoption` kept: name → content. Raises OSError."""
    place = _own(instance_id, cluster) / _HOME
    return {name: read_own(place / name) for name in reversed(_KEPT)}  # the one that was written last comes first


def _content(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return read_own(path)
    return None


def take_back(instance_id: str, cluster: Cluster) -> None:
    """Remove the files that belong to the machine with that id alone."""
    if instance_id:
        remove_tree(_own(instance_id, cluster))


def _own(instance_id: str, cluster: Cluster) -> Path:
    """Return the folder of that id. The id of another home's instance comes from a tag, which anybody may have set."""
    if not NAME.fullmatch(instance_id):
        raise DriverError(f"{instance_id!r} is not the id of an instance")
    return Path(cluster.store) / "instances" / instance_id


def _blob(store: Path, file: Path, own: str) -> tuple[str, str]:
    """Return where in `store` the content of `file` is, and its digest; the content is copied there if missing."""
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
    """Copy `source` to `place` through a temporary file in `own`, which only this machine uses, so it goes with it."""
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
    """Yield the content of `file`; raises CancelledError as soon as cancellation is requested."""
    while piece := file.read(_PIECE_BYTES):
        cancellation.check()
        yield piece
