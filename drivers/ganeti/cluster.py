"""A cluster's record: how it is reached, and what the machines on it are made of.

    HOME/clusters/NAME.yaml     written by the user, who alone may read it, because a secret stands in it
    HOME/clusters/home          which home this is, a random number: the mark on its machines

docs/cluster.md explains the keys. Paths of the nodes' files are given to Ganeti, which wants them absolute.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ...errors import HostError, NotFoundError
from ...host.files import beside, flush_directory, read_own, write_whole
from ...host.home import NAME, NAME_WORDS

_OTHERS = 0o077


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
    data = parsed(path, name)
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


def place(root: Path, name: str) -> Path:
    """Return where the record of the cluster `name` is; raises HostError for what no cluster can be called."""
    if not NAME.fullmatch(name):
        raise HostError(f"a cluster cannot be called {name!r}: {NAME_WORDS}")
    return root / "clusters" / f"{name}.yaml"


def parsed(path: Path, name: str) -> dict[str, Any]:
    """Return what stands in the record `path`: a mapping. Raises what `read` does."""
    import yaml

    try:
        mode = path.lstat().st_mode
        text = read_own(path)
    except FileNotFoundError:
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        there = f"; there is {', '.join(known)}" if known else ""
        raise NotFoundError(f'there is no cluster "{name}" in {path.parent}{there}') from None
    except OSError as error:
        raise HostError(f"{path}: {error.strerror or error}") from error
    if stat.S_IMODE(mode) & _OTHERS:
        raise HostError(f"{path} holds a secret and can be read by others", hint=f"chmod 600 {path}")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise HostError(f"{path}: expected keys and values")
    return {str(key): value for key, value in data.items()}


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
