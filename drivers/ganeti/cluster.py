"""A cluster's record: how it is reached, and what the machines on it are made of.

    HOME/clusters/NAME.yaml     written by the user, who alone may read it, because a secret stands in it
    HOME/clusters/home          which home this is, a random number: the mark on its machines

docs/cluster.md explains the keys. Paths of the nodes' files are given to Ganeti, which wants them absolute.
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


class Cluster(NamedTuple):
    """How a cluster is reached. Each field but the first is a key of its record."""

    name: str
    url: str
    """Of RAPI: `https://cluster.example.org:5080`."""
    certificate: str
    """PEM: RAPI shows this certificate, and no other is accepted."""
    user: str
    """Of RAPI, with the right to write."""
    secret: str
    store: str
    """A folder of this host that is `store_on_nodes` on each node: a network file system."""
    store_on_nodes: str
    driver: str = "ganeti"
    network: str = ""
    """The network of Ganeti's out of whose pool guests get their addresses; empty: the cluster's default card, and the
    address is that of the instance's name in DNS."""
    dns: str = ""
    """The guests' name servers, with blanks between them."""
    domain: str = ""
    """What is added to the name of an instance here to make its name there."""
    disk_template: str = ""
    """Empty: the cluster's default."""
    os: str = "interlock-os"
    """The OS definition that writes the disks."""


def read(root: Path, name: str) -> Cluster:
    """Return the cluster `name` of the home in `root`.

    Raises NotFoundError where it has no record, HostError for one that others may read or that cannot be understood.
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
    """Return the mark of the home in `root`, which is made now where it has none: the first that is made stays."""
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


def _listed(what: str, keys: list[str]) -> str:
    return f"{what}{'s' if len(keys) > 1 else ''} {', '.join(keys)}" if keys else ""
