"""The fields of a spec that make an instance different from the one it was copied from.

The name of an instance occurs in its spec in two ways: in the hostname of its guest, and in the paths of files in its
directory (a forwarded socket, a fetched file, the message that mentions them).
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from ..host.files import read_own
from ..version import __version__
from .records import now
from .spec import SPEC_FILE, Spec, written


def hostname(name: str) -> str:
    """Return the hostname of the instance `name`: its name without characters that RFC 1123 forbids in a label."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "guest"


def new_instance_id() -> str:
    """Return a new, unique instance id."""
    return f"i-{os.urandom(8).hex()}"


def copied(spec: Spec, origin: str, name: str, before: Path, after: Path) -> Spec:
    """Return the spec of `name`, a copy of the instance with the spec `spec`, in directory `after` instead of `before`.

    `origin` says what it is: `clone of web`. The copy gets its own hostname, instance id and ssh port.
    """
    own = {
        "hostname": hostname(name),
        "instance_id": new_instance_id(),
        "created_at": now(),
        "ssh_port": 0,
        "origin": origin,
        "version": __version__,
    }
    return Spec.from_json({**_moved(spec.to_json(), f"{before}/", f"{after}/"), **own}, after)


def moved(directory: Path, before: Path) -> bytes | None:
    """Return the spec in `directory`, formerly `before`, with its paths adjusted; None if no path has to change.

    Fields that a newer version wrote are kept. Raises the errors of `Spec.read`.
    """
    Spec.read(directory)
    data = json.loads(read_own(directory / SPEC_FILE))
    led = _moved(data, f"{before}/", f"{directory}/")
    return None if led == data else written(led)


def _moved(value: Any, before: str, after: str) -> Any:
    """Return the JSON value `value` with `before` replaced by `after` in each of its strings."""
    match value:
        case str():
            return value.replace(before, after)
        case list() | tuple():
            return [_moved(item, before, after) for item in value]
        case dict():
            return {key: _moved(item, before, after) for key, item in value.items()}
        case _:
            return value
