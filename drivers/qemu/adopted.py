"""A copy of a machine that ran (`forking`), until its guest has taken its own identity.

fork.json    {"boot": ID, "mark": TEXT, "facts": {NAME: BASE64}, "pinned": LINE, "schema": 1}

Until then the file is there, and known_hosts names both host keys: the original's, which the guest shows, and its own.
A copy that boots takes its identity from its seed instead, as any clone does. `facts` is null for a machine that begins
from a warm image (`warming`): its guest, which was nobody's, is given its whole seed.
"""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DamagedError
from ...fsm.schema import check_schema
from ...host import cancellation
from ...host.files import misread, read_own, remove_tree, write_whole
from ..contract import INITRD, KNOWN_HOSTS, Deadline, Report, Site
from . import events

if TYPE_CHECKING:
    from ...guest.session import Endpoint

RECORD = "fork.json"

_SCHEMA = 1

_LOGGED_S = 2.0
"""The log of events is written by another process, some milliseconds after they happened."""


def record(
    directory: Path, before: bytes, after: bytes, facts: Mapping[str, bytes] | None, *, boot: str, mark: str
) -> None:
    """Let the guest of `directory` take the identity of `facts`, or that of its seed, when it continues.

    `before` and `after` are the lines of known_hosts for the original and the copy; `boot` and `mark` are for
    `guest.identity.request`.
    """
    data = {
        "boot": boot,
        "mark": mark,
        "facts": None if facts is None else {name: b64encode(value).decode() for name, value in facts.items()},
        "pinned": after.decode(),
        "schema": _SCHEMA,
    }
    write_whole(directory / KNOWN_HOSTS, before + after)
    write_whole(directory / RECORD, json.dumps(data).encode() + b"\n")


def is_undecided(directory: Path) -> bool:
    """Return whether the machine in `directory` is a copy whose guest may not have taken its identity."""
    return (directory / RECORD).exists()


def is_nobodys(directory: Path) -> bool:
    """Return whether the machine in `directory` began from a warm image and its guest may not have taken its seed."""
    return is_undecided(directory) and _read(directory)["facts"] is None


def become(site: Site, endpoint: "Endpoint", deadline: Deadline, pidfd: int, report: Report) -> None:
    """Have the guest of `site`, a copy that runs, take its identity. Raises DriverError if it does not."""
    from ...guest.identity import first_boot, request
    from ...guest.seed import SEED_BYTES
    from . import identity, lan

    report("giving the guest its own identity")
    data = _read(site.directory)
    moment = {"boot": data["boot"], "mark": data["mark"]}
    _await_log(site.directory)
    if data["facts"] is None:
        seed = read_own(site.directory / INITRD, SEED_BYTES)
        identity.hand_over(site, first_boot(seed, **moment), deadline)
    else:
        facts = {name: b64decode(value) for name, value in data["facts"].items()}
        identity.give(site, endpoint, request(facts, **moment), deadline, pidfd)
    lan.plug(site, plugged=True)
    settle(site.directory)


def settle(directory: Path) -> None:
    """Let the machine in `directory` be known by its own host key alone: its guest has it, or will have it from its
    seed."""
    if is_undecided(directory):
        write_whole(directory / KNOWN_HOSTS, _read(directory)["pinned"].encode())
        remove_tree(directory / RECORD)


def _read(directory: Path) -> dict[str, Any]:
    """Return what `record` wrote. Raises DamagedError for what it did not write."""
    path = directory / RECORD
    try:
        data: dict[str, Any] = json.loads(read_own(path))
        check_schema(data, _SCHEMA, path)
    except OSError as error:
        raise misread(path, error) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: {error}") from error
    if missing := {"boot", "mark", "facts", "pinned"} - data.keys():
        raise DamagedError(f"{path}: {', '.join(sorted(missing))} is missing")
    return data


def _await_log(directory: Path) -> None:
    """Return once the log of events has come to where the guest continued: before, nobody knows of its agent."""
    end = time.monotonic() + _LOGGED_S
    while not any(event["event"] == "RESUME" for event in events.read(directory)) and time.monotonic() < end:
        cancellation.pause(0.002)
