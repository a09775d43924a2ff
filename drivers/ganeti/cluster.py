"""A cluster's record: how to reach the cluster, and the settings for the machines on it.

    HOME/clusters/NAME.yaml     written by the user; no other user may read it, because it contains a secret
    HOME/clusters/home          a random number that identifies this home: the mark on its machines

docs/cluster.md explains the keys. Paths on the nodes are passed to Ganeti, which requires absolute paths.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...errors import HostError
from ...host.files import beside, flush_directory, read_own, write_whole
from .. import clusters
from ..clusters import place
from .seen import Seen


class Cluster(NamedTuple):
    """How to reach a cluster. Each field except the first is a key of its record."""

    name: str
    url: str
    """The URL of RAPI: `https://cluster.example.org:5080`."""
    certificate: str
    """RAPI's certificate, in PEM; no other certificate is accepted."""
    user: str
    """A user of RAPI with write access."""
    secret: str
    store: str
    """The folder on this host that the nodes have as `store_on_nodes`: a network file system."""
    store_on_nodes: str
    driver: str = "ganeti"
    network: str = ""
    """The Ganeti network whose pool guests get their addresses from. Empty: guests have the cluster's default card, and
    DNS gives the address of the instance's name."""
    dns: str = ""
    """The guests' name servers, separated by spaces."""
    domain: str = ""
    """The domain that is appended to an instance's name to form its name in the cluster."""
    disk_template: str = ""
    """Empty: the cluster's default."""
    os: str = "interlock-os"
    """The OS definition that writes the disks."""


def read(root: Path, name: str) -> Cluster:
    """Return the cluster `name` of the home in `root`.

    Raises NotFoundError if it has no record, HostError if others may read the record or if the record is invalid.
    """
    path = place(root, name)
    data = clusters.read(root, name)
    unknown = sorted(data.keys() - set(Cluster._fields[1:]))
    lacking = sorted(set(Cluster._fields[1:]) - Cluster._field_defaults.keys() - data.keys())
    if unknown or lacking:
        raise HostError(f"{path}: {_listed('unknown key', unknown) or _listed('missing key', lacking)}")
    for key, value in data.items():
        if not isinstance(value, str):
            raise HostError(f"{path}: {key} must be text")
    made = Cluster(name, **data)
    if not made.url.startswith("https://"):
        raise HostError(f"{path}: url must begin with https://, because a secret is sent there")
    if not PurePosixPath(made.store_on_nodes).is_absolute() or not os.path.isabs(made.store):  # noqa: PTH117 - text
        raise HostError(f"{path}: store and store_on_nodes must be absolute paths")
    return made


def home_mark(root: Path) -> str:
    """Return the mark of the home in `root`. A home without one gets one now; the first one written is kept."""
    path = root / "clusters" / "home"
    with suppress(FileNotFoundError):
        return read_own(path).decode().strip()
    fresh = beside(path)
    write_whole(fresh, f"{secrets.token_hex(8)}\n".encode())
    try:
        with suppress(FileExistsError):
            os.link(fresh, path)
            flush_directory(path.parent)
    finally:
        fresh.unlink()
    return read_own(path).decode().strip()


def owns(root: Path, seen: Seen) -> bool:
    """Return whether the instance `seen` belongs to the home in `root`, and not to another home or to none."""
    return seen.home == home_mark(root)


def _listed(what: str, keys: list[str]) -> str:
    return f"{what}{'s' if len(keys) > 1 else ''} {', '.join(keys)}" if keys else ""
