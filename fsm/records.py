"""The facts about an instance, each a frozen record with a JSON form.

    Operation     what is being done to it right now, by whom, until when
    Observation   what its driver sees: alive or not, in what condition, why it went down
    Status        all of this together: one line of `list`, one object of `inspect`
    Effects, Step what a request would do, for a dry run
    Check         what `doctor` found about the host

What the machine is, is in `spec.Spec`, which `create` resolves once and only `edit` replaces.

Sizes are in bytes, durations in seconds, times in UTC as ISO 8601 with microseconds.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DegradedError, InvalidNameError
from ..host.home import NAME, NAME_WORDS
from ..host.process import Actor, Usage
from .spec import Spec
from .states import State
from .table import Trigger

AUTOSTART_FILE = "autostart"
"""While this file exists, the instance starts when its user logs in. It contains the id of the host's boot during which
autostart was enabled; earlier versions left it empty."""

PROTECTED_FILE = "protected"
"""While this file exists, the instance is protected. Its content has no meaning."""

SAVED = "saved"
"""While this exists, the memory of the instance is saved, and the next start continues from it. The driver decides on
its content."""

WARM = "warm"
"""While this exists, the instance can start from a warm image instead of a first boot. The driver decides on its
content."""

FORKED = "forked"
"""While `fork` is in progress, this holds the saved moment of the machine from which the copies continue. The driver
decides on its content."""


def checked_name(name: str) -> str:
    """Return `name` if it is a valid name of an instance, else raise InvalidNameError. Reads no files."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise InvalidNameError(f"an instance cannot be called {name!r}: {NAME_WORDS}")


def is_autostarted(directory: Path) -> bool:
    """Return whether the instance in `directory` starts when its user logs in."""
    return os.path.lexists(f"{directory}/{AUTOSTART_FILE}")


def is_protected(directory: Path) -> bool:
    """Return whether the instance in `directory` is protected. A link in place of the directory is not followed."""
    # `list` calls this for each instance.
    return os.path.lexists(f"{directory}/{PROTECTED_FILE}") and not directory.is_symlink()


def is_saved(directory: Path) -> bool:
    """Return whether the memory of the instance in `directory` is saved."""
    return os.path.lexists(f"{directory}/{SAVED}")


def is_warm(directory: Path) -> bool:
    """Return whether the instance in `directory` was given a warm image."""
    return os.path.lexists(f"{directory}/{WARM}")


def now() -> str:
    """Return the current time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_since(moment: str) -> float:
    """Return how many seconds ago the ISO 8601 `moment` was; never negative, even if the clock was set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


class Operation(NamedTuple):
    """Work in flight, or work that a dead process left unfinished."""

    trigger: Trigger
    source: State
    step: str
    """What it is doing now, in the driver's words; empty at the beginning."""
    since: str
    step_since: str
    deadline: str | None
    actor: Actor
    interrupted: bool
    """True if the actor is dead: the next command that may write finishes or undoes the work."""
    suspended: bool = False
    """True if the actor was suspended, for example by Ctrl-Z: it keeps the lock of the instance and does nothing."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: `operation` of `list` and `inspect`."""
        return {
            "trigger": self.trigger,
            "step": self.step,
            "since": self.since,
            "elapsed_s": round(seconds_since(self.since), 3),
            "deadline": self.deadline,
            "pid": self.actor.pid,
            "command": self.actor.command,
            "interrupted": self.interrupted,
            "suspended": self.suspended,
        }


HIDDEN = "its process cannot be seen from here"
"""The condition of a machine whose process is in another pid namespace or belongs to another user."""


class OpenPort(NamedTuple):
    """A TCP port that opened in the guest, and the port of this host that leads there."""

    guest_ip: str
    guest_port: int
    host_ip: str
    host_port: int
    problem: str = ""
    """Why the host's port does not lead there, in words; empty if it does."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: an item of `ports` of `list` and `inspect`."""
        return {**self._asdict(), "problem": self.problem or None}


class Screen(NamedTuple):
    """Where the screen of a live machine is shown by VNC."""

    address: str
    """Address and TCP port on this host: `127.0.0.1:5900`."""
    password_file: str
    """Path of a file that contains only the password of this run."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: `vnc` of `list` and `inspect`."""
        return self._asdict()


class Observation(NamedTuple):
    """What a driver sees at this moment, without asking the guest and without waiting."""

    alive: bool | None
    """None if that is unknown; `condition` says why."""
    pid: int | None = None
    ssh_port: int | None = None
    """Local TCP port on the loopback that leads to the guest's sshd."""
    condition: str | None = None
    """What is wrong with a live machine: `paused: the host's disk is full`."""
    degraded: DegradedError | None = None
    """What failed in the guest of a live machine and has not succeeded since."""
    exit_reason: str | None = None
    """Why a machine that was running is down: `guest shut down`."""
    failed: bool = False
    """True if the machine is down because it failed: its guest panicked, or its hypervisor crashed. False if the guest,
    a user or the host shut it down."""
    resumable: bool = False
    """True if `resume` would change something: the machine is paused, or its port forwards are down."""
    accelerator: str | None = None
    """What runs the guest's code: `kvm`, or `tcg` if it is emulated; None if that is unknown."""
    usage: Usage | None = None
    """What the machine has used of this host since its start; None if that is unknown."""
    hidden: bool = False
    """True for a live machine whose process is not visible from here, so that nothing can be done to it."""
    ports: tuple[OpenPort, ...] = ()
    """The ports that opened in the guest and that the spec's rules forward."""
    vnc: Screen | None = None
    """Where the guest's screen is shown; None for a machine without a screen."""
    node: str | None = None
    """The node of the cluster that has the machine, even one at rest; None if this host runs it."""


class Status(NamedTuple):
    """All that is known about one instance."""

    name: str
    state: State
    directory: Path
    operation: Operation | None = None
    observation: Observation | None = None
    spec: Spec | None = None
    reason: str | None = None
    """Why it is in its state, if nobody requested that: `guest panicked`."""
    damage: str | None = None
    newer: bool = False
    """True if it is not damaged, but was written by a newer version of Interlock."""
    unreadable: bool = False
    """True if it is unknown whether it is damaged, because the system could not read its files."""
    protected: bool = False
    autostart: bool = False
    """True if it starts when its user logs in."""
    saved: bool = False
    """True if its memory is saved: the next start continues where the guest was."""
    changed_at: str | None = None

    @property
    def exists(self) -> bool:
        """True for what `list` shows: an instance, damaged or not, and one that is being created or deleted."""
        return self.state is not State.absent or bool(self.operation or self.damage)

    @property
    def under_way(self) -> Operation | None:
        """The operation that a process is working on; None if there is no operation or its process is dead."""
        return self.operation if self.operation and not self.operation.interrupted else None

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock list --format json`."""
        spec, seen = self.spec, self.observation
        used = seen.usage if seen else None
        return {
            "name": self.name,
            "state": self.state,
            "operation": self.operation.to_json() if self.operation else None,
            "alive": seen.alive if seen else None,
            "pid": seen.pid if seen else None,
            "condition": seen.condition if seen else None,
            "reason": self.reason,
            "damage": self.damage,
            "protected": self.protected,
            "autostart": self.autostart,
            "memory_saved": self.saved,
            "changed_at": self.changed_at,
            "driver": spec.driver if spec else None,
            "arch": spec.arch if spec else None,
            "cpus": spec.cpus if spec else None,
            "memory_bytes": spec.memory_bytes if spec else None,
            "disk_bytes": spec.disk_bytes if spec else None,
            "user": spec.user if spec else None,
            "ssh_port": seen.ssh_port if seen else None,
            "accelerator": seen.accelerator if seen else None,
            "cpu_s": round(used.cpu_s, 3) if used else None,
            "resident_bytes": used.resident_bytes if used else None,
            "uptime_s": round(used.uptime_s, 3) if used else None,
            "ports": [port.to_json() for port in seen.ports] if seen else [],
            "vnc": seen.vnc.to_json() if seen and seen.vnc else None,
            "node": seen.node if seen else None,
            "directory": str(self.directory),
        }


class Effects(NamedTuple):
    """What a request would do to the host, as far as that is known without changing anything."""

    appear: tuple[str, ...] = ()
    """Files and folders that would appear or be replaced: absolute paths, or relative to the instance's directory. A
    slash at the end includes everything in the folder."""
    vanish: tuple[str, ...] = ()
    """Files and folders that would be removed or replaced."""
    command: tuple[str, ...] = ()
    """The command line of the hypervisor that would run; for a create, that of the instance's first start."""
    notes: tuple[str, ...] = ()
    """Other remarks, in words."""

    def __add__(self, other: "Effects") -> "Effects":  # type: ignore[override] # not those of tuples
        """Return the effects of both, with the first command that is not empty."""
        return Effects(
            self.appear + other.appear,
            self.vanish + other.vanish,
            self.command or other.command,
            self.notes + other.notes,
        )

    def at(self, directory: Path) -> "Effects":
        """Return them with absolute paths, for an instance in `directory`."""
        return self._replace(
            appear=tuple(os.path.join(directory, name) for name in self.appear),  # noqa: PTH118 - keeps the slash
            vanish=tuple(os.path.join(directory, name) for name in self.vanish),  # noqa: PTH118 - likewise
        )


class Step(NamedTuple):
    """One transition that a dry run foresees."""

    instance: str
    trigger: Trigger
    source: State
    dest: State
    effects: Effects = Effects()

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: an item of `steps` of an outcome."""
        return {
            "name": self.instance,
            "trigger": self.trigger,
            "source": self.source,
            "dest": self.dest,
            "appear": list(self.effects.appear),
            "vanish": list(self.effects.vanish),
            "command": list(self.effects.command),
            "notes": list(self.effects.notes),
        }


class Check(NamedTuple):
    """One finding about this host: an answer of `interlock doctor`."""

    subject: str
    ok: bool
    finding: str
    mend: str | None = None
    """The command that fixes it; None if nothing is wrong or nothing can be done."""
    essential: bool = True
    """False if only some uses need it."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock doctor --format json`."""
        return self._asdict()


class Mending(NamedTuple):
    """The result of a repair."""

    instance: str
    state: State
    mended: tuple[str, ...]
    """Descriptions of what was wrong and has been fixed; empty if nothing was wrong."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `repair --format json` prints."""
        return {"name": self.instance, "state": self.state, "mended": list(self.mended)}
