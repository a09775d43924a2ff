"""limactl's facts about an instance: the objects of `list --json`, the fields of its Go templates.

A status is one of four words, Running, Stopped, Broken and Uninitialized, because embedders know no others. What else
Interlock knows is in keys of our own: `phase`, `transition`, `since`.
"""

import os
from typing import TYPE_CHECKING, Any

from .home import ADDRESS, SSH_CONFIG, LimaHome, config, host_name
from .version import LIMA_VERSION

if TYPE_CHECKING:
    from ..fsm.records import Status

FIELDS = {
    "Name": "name",
    "Hostname": "hostname",
    "Status": "status",
    "Dir": "dir",
    "VMType": "vmType",
    "Arch": "arch",
    "CPUs": "cpus",
    "Memory": "memory",
    "Disk": "disk",
    "Message": "message",
    "AdditionalDisks": "additionalDisks",
    "Networks": "network",
    "SSHLocalPort": "sshLocalPort",
    "SSHConfigFile": "sshConfigFile",
    "HostAgentPID": "hostAgentPID",
    "DriverPID": "driverPID",
    "Errors": "errors",
    "Config": "config",
    "SSHAddress": "sshAddress",
    "Protected": "protected",
    "LimaVersion": "limaVersion",
    "Param": "param",
    "AutoStartedIdentifier": "autoStartedIdentifier",
    "HostOS": "HostOS",
    "HostArch": "HostArch",
    "LimaHome": "LimaHome",
    "IdentityFile": "IdentityFile",
    "Phase": "phase",
    "Transition": "transition",
    "Since": "since",
}
"""Field of a Go template → key of the JSON."""

NIL: list[Any] = []
"""Go's nil list: a template that prints it as JSON gets null. Never changed."""

_ALWAYS = ("protected",)
"""Keys that are present even if their value is empty."""


def state(status: "Status") -> str:
    """Return limactl's word for the state of an instance.

    A starting instance is Running: an embedder that reads Stopped would leave its hypervisor behind.
    """
    working, seen = status.under_way, status.observation
    if status.damage:
        return "Broken"
    if working and working.trigger == "start":
        return "Running"
    if seen and seen.alive:
        return "Running"
    if seen and seen.alive is None:
        return "Broken"
    return "Stopped" if status.spec else "Uninitialized"


def errors(status: "Status") -> list[str]:
    """Return what is wrong with a Broken instance."""
    seen = status.observation
    untold = [seen.condition] if seen and seen.alive is None and seen.condition else []
    return [status.damage] if status.damage else untold


def facts(status: "Status", lima: LimaHome) -> dict[str, Any]:
    """Return all of limactl's facts about an instance, by the keys of its JSON; every key is present."""
    spec, seen, operation = status.spec, status.observation, status.operation
    folder, uname = lima.directory(status.name), os.uname()
    return {
        "name": status.name,
        "hostname": host_name(status.name),
        "status": state(status),
        "dir": str(folder),
        "vmType": spec.driver if spec else "",
        "arch": spec.arch if spec else "",
        "cpus": spec.cpus if spec else 0,
        "memory": spec.memory_bytes if spec else 0,
        "disk": spec.disk_bytes if spec else 0,
        "message": spec.message if spec else "",
        "additionalDisks": [{"name": disk.name} for disk in spec.disks] if spec and spec.disks else NIL,
        "network": [{"lima": "user-v2", "interface": spec.lan}] if spec and spec.lan else [],
        "sshLocalPort": (seen.ssh_port if seen and seen.alive else None) or (spec.ssh_port if spec else 0),
        "sshConfigFile": str(folder / SSH_CONFIG),
        "hostAgentPID": 0,
        "driverPID": (seen.pid or 0) if seen and seen.alive else 0,
        "errors": errors(status) or NIL,
        "config": config(status),
        "sshAddress": ADDRESS,
        "protected": status.protected,
        "limaVersion": LIMA_VERSION,
        "param": {},
        "autoStartedIdentifier": "",
        "HostOS": uname.sysname.lower(),
        "HostArch": uname.machine,
        "LimaHome": str(lima.root),
        "IdentityFile": str(lima.root / "_config" / "user"),
        "phase": str(status.state),
        "transition": str(operation.trigger) if operation else "",
        "since": (operation.since if operation else status.changed_at) or "",
    }


def record(known: dict[str, Any]) -> dict[str, Any]:
    """Return the object of `list --json`: empty values are left out."""
    return {key: value for key, value in known.items() if value not in ("", 0, [], {}) or key in _ALWAYS}
