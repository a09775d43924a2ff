"""The records of clusters in a home, whatever their driver.

HOME/clusters/NAME.yaml     0600, written by the user: `driver`, and that driver's settings
"""

from pathlib import Path
from typing import Any

from ..errors import HostError, NotFoundError
from ..host.files import read_own
from ..host.home import NAME, NAME_WORDS, Home

DRIVER = "ganeti"
"""The driver of a cluster whose record names no driver."""

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
    """Return the path of the record of the cluster `name`; raises HostError if that is not a valid name."""
    if not NAME.fullmatch(name):
        raise HostError(f"a cluster cannot be called {name!r}: {NAME_WORDS}")
    return root / "clusters" / f"{name}.yaml"


def read(root: Path, name: str) -> dict[str, Any]:
    """Return the content of the record of the cluster `name` in the home `root`.

    Raises NotFoundError if the record does not exist, HostError if others may read it or it cannot be parsed.
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
