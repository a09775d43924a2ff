"""Machines that limactl already has, and how Interlock adopts them: as they are, without changing anything in them.

`limactl list --json` (one object per line) says what a machine is, because its defaults fill in what lima.yaml leaves
open.
"""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ...fsm.identity import new_instance_id
from ...fsm.records import now
from ...fsm.spec import Spec
from ...version import __version__
from ..contract import Found
from . import program
from .folder import Folder, parsed

OF_INTERLOCK = "interlock"
"""A file in folders that Interlock's own limactl wrote: they are not machines of Lima's."""

START_TIMEOUT_S, STOP_TIMEOUT_S = 600.0, 180.0
"""limactl's own values, which users of such machines are used to."""


def found(
    driver: str, kept_by: str, known: Collection[Folder], record: Callable[[Folder], bytes], file: str
) -> list[Found]:
    """Return the machines of LIMA_HOME that are not `known`; `record` makes the content of `file` in a site."""
    home = program.home()
    machines = []
    for data in _listed(home):
        folder = Folder(home, str(data.get("name", "")))
        if folder in known or os.path.lexists(folder.path / OF_INTERLOCK):
            continue
        why, hint = _unfit(folder, data)
        spec = None if why else _spec(folder, data, driver, kept_by)
        machines.append(Found(folder.name, spec, {file: record(folder)}, why, hint))
    return machines


def _listed(home: Path) -> list[dict[str, Any]]:
    """Return what limactl says of each instance in `home`."""
    said = program.output(home, ["list", "--json"]).splitlines()
    return [data for line in said if (data := parsed(line)) is not None]


def _unfit(folder: Folder, data: dict[str, Any]) -> tuple[str, str | None]:
    """Return why the machine cannot be adopted, empty if it can, and the command that fixes it."""
    if broken := folder.look().broken:
        return f'limactl\'s "{folder.name}" is broken: {broken}', f"limactl stop --force {folder.name}"
    if not isinstance(data.get("config"), dict) or not data.get("arch"):
        return f"limactl cannot read {folder.path / 'lima.yaml'}", f"limactl validate {folder.path / 'lima.yaml'}"
    return "", None


def _spec(folder: Folder, data: dict[str, Any], driver: str, kept_by: str) -> Spec:
    user = data["config"].get("user")
    return Spec(
        driver=driver,
        arch=str(data["arch"]),
        cpus=_number(data.get("cpus")),
        memory_bytes=_number(data.get("memory")),
        disk_bytes=_number(data.get("disk")),
        user=str(user.get("name", "")) if isinstance(user, dict) else "",
        hostname=str(data.get("hostname", "")),
        instance_id=new_instance_id(),
        boot="firmware",
        start_timeout_s=START_TIMEOUT_S,
        stop_timeout_s=STOP_TIMEOUT_S,
        created_at=now(),
        message=str(data.get("message", "")),
        origin=f"adopted from {folder.path}",
        kept_by=kept_by,
        version=__version__,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0
