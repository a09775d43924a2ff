"""A copy of a machine that ran (`forking`), until its guest has taken its own identity.

fork.json    {"boot": ID, "mark": TEXT, "facts": {NAME: BASE64}, "former": {NAME: BASE64}, "pinned": LINE, "schema": 1}

Until then this file exists, and known_hosts names both host keys: the original's, which the guest still shows, and the
copy's own. A copy that boots takes its identity from its seed instead, as any clone does. `facts` is null for a machine
that begins from a warm image (`warming`): its guest, which belonged to no instance and had the facts `former`, gets the
facts of the instance's seed.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DamagedError
from ...fsm.schema import check_schema
from ...host.files import misread, read_own, remove_tree, write_whole
from ..contract import INITRD, KNOWN_HOSTS, Deadline, Report, Site

if TYPE_CHECKING:
    from ...guest.session import Endpoint

RECORD = "fork.json"

_SCHEMA = 1


def record(
    directory: Path,
    before: bytes,
    after: bytes,
    facts: Mapping[str, bytes] | None,
    *,
    boot: str,
    mark: str,
    former: Mapping[str, bytes] | None = None,
) -> None:
    """Record that the guest of `directory` takes the identity of `facts`, or of its seed, when it continues; for a warm
    image, `former` is the seed with which that guest had booted.

    `before` and `after` are the lines of known_hosts for the original and the copy; `boot` and `mark` are for
    `guest.identity.request`.
    """
    data = {
        "boot": boot,
        "mark": mark,
        "facts": None if facts is None else _encoded(facts),
        "former": _encoded(former or {}),
        "pinned": after.decode(),
        "schema": _SCHEMA,
    }
    # In this order, so that after a crash at any point `settle` knows which key is the copy's own.
    write_whole(directory / RECORD, json.dumps(data).encode() + b"\n")
    write_whole(directory / KNOWN_HOSTS, before + after)


def is_undecided(directory: Path) -> bool:
    """Return whether the machine in `directory` is a copy whose guest may not have taken its identity."""
    return (directory / RECORD).exists()


def is_nobodys(directory: Path) -> bool:
    """Return whether the machine in `directory` began from a warm image and its guest may not have taken its seed."""
    return is_undecided(directory) and _read(directory)["facts"] is None


def continued(site: Site, endpoint: "Endpoint", deadline: Deadline, pidfd: int, report: Report) -> bool:
    """Return whether the guest of `site`, which runs again after a pause, is ready, as far as its agent knows; a copy
    has then taken its identity. Raises DriverError if it does not take it.

    The guest had a network when it was paused, so the agent's answer is enough.
    """
    from . import agent

    agent.await_log(site.directory)
    if is_undecided(site.directory):
        return become(site, endpoint, deadline, pidfd, report)
    return agent.readiness(site, resumed=True) is True


def become(site: Site, endpoint: "Endpoint", deadline: Deadline, pidfd: int, report: Report) -> bool:
    """Have the guest of `site`, a running copy, take its identity; return whether it is then known to be ready. Raises
    DriverError if it does not take it."""
    from ...guest.identity import first_boot, request
    from ...guest.seed import SEED_BYTES
    from . import identity, lan

    report("giving the guest its own identity")
    data = _read(site.directory)
    moment = {"boot": data["boot"], "mark": data["mark"]}
    if data["facts"] is None:
        seed = read_own(site.directory / INITRD, SEED_BYTES)
        former = _decoded(data.get("former", {}))
        ready = identity.hand_over(site, first_boot(seed, former, **moment), deadline)
    else:
        ready = identity.give(site, endpoint, request(_decoded(data["facts"]), **moment), deadline, pidfd)
    lan.plug(site, plugged=True)
    settle(site.directory)
    return ready


def settle(directory: Path) -> None:
    """Pin only the machine's own host key in `directory`: its guest has that key, or will get it from its seed."""
    if is_undecided(directory):
        write_whole(directory / KNOWN_HOSTS, _read(directory)["pinned"].encode())
        remove_tree(directory / RECORD)


def _encoded(facts: Mapping[str, bytes]) -> dict[str, str]:
    return {name: b64encode(value).decode() for name, value in facts.items()}


def _decoded(facts: Mapping[str, str]) -> dict[str, bytes]:
    return {name: b64decode(value) for name, value in facts.items()}


def _read(directory: Path) -> dict[str, Any]:
    """Return what `record` wrote. Raises DamagedError if the file is damaged."""
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
