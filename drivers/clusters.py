"""The clusters of which a home has a record, whatever driver they are for.

HOME/clusters/NAME.yaml     0600, written by the user: `driver`, and what that driver wants to know
"""

from pathlib import Path
from typing import Any

from ..errors import HostError, NotFoundError
from ..host.files import read_own
from ..host.home import NAME, NAME_WORDS, Home

DRIVER = "ganeti"
"""Of a record that names none."""

_OTHERS = 0o077


def names(home: Home) -> list[str]:
    """Return the names of the clusters that have a record, sorted."""
    return _names(home.clusters)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.yaml"))


def driver(home: Home, name: str) -> str:
    """Return the name of the driver whose machines the cluster `name` runs; raises what `read` does."""
    return str(read(home.root, name).get("driver", DRIVER))


def place(root: Path, name: str) -> Path:
    """Return where the record of the cluster `name` is; raises HostError for what no cluster can be called."""
    if not NAME.fullmatch(name):
        raise HostError(f"a cluster cannot be called {name!r}: {NAME_WORDS}")
    return root / "clusters" / f"{name}.yaml"


def read(root: Path, name: str) -> dict[str, Any]:
    """Return what stands in the record of the cluster `name` of the home in `root`.

    Raises NotFoundError where there is none, HostError for one that others may read or that cannot be understood.
    """
    import yaml

    path = place(root, name)
    try:
        mode = path.lstat().st_mode
        text = read_own(path)
    except FileNotFoundError:
        known = _names(path.parent)
        there = f"; there is {', '.join(known)}" if known else ""
        raise NotFoundError(f'there is no cluster "{name}" in {path.parent}{there}') from None
    except OSError as error:
        raise HostError(f"{path}: {error.strerror or error}") from error
    if mode & _OTHERS:
        raise HostError(f"{path} holds a secret and can be read by others", hint=f"chmod 600 {path}")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise HostError(f"{path}: expected keys and values")
    return {str(key): value for key, value in data.items()}
