"""The facts about an instance, each a frozen record with a JSON form.

    Operation     what is being done to it right now, by whom, until when
    Observation   what its driver sees: alive or not, in what condition, why it went down
    Status        all of it together: one line of `list`, one object of `inspect`
    Effects, Step what a request would do, of which only that is asked
    Check         what `doctor` found about the host

What the machine is stands in `spec.Spec`, which is resolved once by `create` and never changed.

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
"""While it is there, the instance starts when its user logs in. Its content is the boot of the host in which that was
decided; earlier versions left it empty."""

PROTECTED_FILE = "protected"
"""While it is there, the instance is protected. Its content means nothing."""

SAVED = "saved"
"""While it is there, the instance's memory is saved, and the next start continues from it. Its content is the
driver's."""

WARM = "warm"
"""While it is there, the instance can begin from a warm image instead of booting for the first time. Its content is the
driver's."""

FORKED = "forked"
"""While `fork` is under way, a moment of the machine lies here, from which copies continue. Its content is the
driver's."""


def checked_name(name: str) -> str:
    """Return `name` if an instance may be called so, else raise InvalidNameError. Touches nothing."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise InvalidNameError(f"an instance cannot be called {name!r}: {NAME_WORDS}")


def is_autostarted(directory: Path) -> bool:
    """Return whether the instance in `directory` starts when its user logs in."""
    return os.path.lexists(f"{directory}/{AUTOSTART_FILE}")


def is_protected(directory: Path) -> bool:
    """Return whether the instance in `directory` is protected. A link in the place of a directory is not followed."""
    # `list` calls this for each instance.
    return os.path.lexists(f"{directory}/{PROTECTED_FILE}") and not directory.is_symlink()


def is_saved(directory: Path) -> bool:
    """Return whether the memory of the instance in `directory` is saved."""
    return os.path.lexists(f"{directory}/{SAVED}")


def is_warm(directory: Path) -> bool:
    """Return whether the instance in `directory` was given a warm image."""
    return os.path.lexists(f"{directory}/{WARM}")


def now() -> str:
    """Return the present time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_since(moment: str) -> float:
    """Return how many seconds ago the ISO 8601 `moment` was; never negative, because clocks are set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


class Operation(NamedTuple):
    """Work in flight, or work that a dead process left unfinished."""

    trigger: Trigger
    source: State
    step: str
    """What it is doing now, as the driver said it; empty at the beginning."""
    since: str
    step_since: str
    deadline: str | None
    actor: Actor
    interrupted: bool
    """True when the actor is dead: the next command that may write finishes or undoes it."""
    suspended: bool = False
    """True when the actor was suspended, by Ctrl-Z say: it keeps the instance and does nothing."""

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
"""The condition of a machine whose process is in another pid namespace, or is another user's."""


class OpenPort(NamedTuple):
    """A TCP port that opened in the guest, and the port of this host that leads there."""

    guest_ip: str
    guest_port: int
    host_ip: str
    host_port: int
    problem: str = ""
    """Why the host's port does not lead there, in words; empty when it does."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: an item of `ports` of `list` and `inspect`."""
        return {**self._asdict(), "problem": self.problem or None}


class Screen(NamedTuple):
    """Where the screen of a machine that is alive is shown, by VNC."""

    address: str
    """Address and TCP port on this host: `127.0.0.1:5900`."""
    password_file: str
    """Holds the password of this run, and nothing else."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: `vnc` of `list` and `inspect`."""
        return self._asdict()


class Observation(NamedTuple):
    """What a driver sees at this moment, without asking the guest and without waiting."""

    alive: bool | None
    """None when that is unknown; `condition` says why."""
    pid: int | None = None
    ssh_port: int | None = None
    """Local TCP port on the loopback that leads to the guest's sshd."""
    condition: str | None = None
    """What is wrong with a machine that is alive: `paused: the host's disk is full`."""
    degraded: DegradedError | None = None
    """What failed in the guest of a machine that is alive, and has not succeeded since."""
    exit_reason: str | None = None
    """Why a machine that ran is down: `guest shut down`."""
    failed: bool = False
    """True for one that is down because it failed: its guest panicked, or its hypervisor crashed. False where the
    guest, somebody or the host shut it down."""
    resumable: bool = False
    """True when `resume` would change something: the machine is paused, or its port forwards are down."""
    accelerator: str | None = None
    """What runs the guest's code: `kvm`, or `tcg` where it is emulated; None where that is unknown."""
    usage: Usage | None = None
    """What the machine has used of this host since its start; None where that is unknown."""
    hidden: bool = False
    """True for a machine that is alive, but whose process cannot be seen from here: nothing can be done to it."""
    ports: tuple[OpenPort, ...] = ()
    """Those that opened in the guest, and which the spec's rules forward."""
    vnc: Screen | None = None
    """Where the guest's screen is shown; None for a machine without one."""
    node: str | None = None
    """The node of its cluster that has it, also of a machine at rest; None where this host runs it."""


class Status(NamedTuple):
    """All that is known of one instance."""

    name: str
    state: State
    directory: Path
    operation: Operation | None = None
    observation: Observation | None = None
    spec: Spec | None = None
    reason: str | None = None
    """How it came to its state, when nobody asked: `guest panicked`; or why it is damaged."""
    damage: str | None = None
    newer: bool = False
    """True when it is not damaged: a newer version of Interlock wrote it."""
    unreadable: bool = False
    """True when nobody knows whether there is damage: the system could not read its files."""
    protected: bool = False
    autostart: bool = False
    """True when it starts as its user logs in."""
    saved: bool = False
    """True when its memory is saved: the next start continues where its guest was."""
    changed_at: str | None = None

    @property
    def exists(self) -> bool:
        """True for what `list` shows: an instance, whole or damaged, or one on its way in or out."""
        return self.state is not State.absent or bool(self.operation or self.damage)

    @property
    def under_way(self) -> Operation | None:
        """The operation that a process is at work on; None where there is none, or a dead process left it."""
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
    """What a request would do to the host, as far as that is known without touching anything."""

    appear: tuple[str, ...] = ()
    """Files and folders that would appear, or be replaced. Absolute, or in the instance's directory; with a slash at
    the end, all that is in it too."""
    vanish: tuple[str, ...] = ()
    """Those that would go, or be replaced."""
    command: tuple[str, ...] = ()
    """The command line of the hypervisor that would run, or that the first start of what is created would run."""
    notes: tuple[str, ...] = ()
    """What else there is to know, in words."""

    def __add__(self, other: "Effects") -> "Effects":  # type: ignore[override] # not those of tuples
        """Return the effects of both; the command is the first."""
        return Effects(
            self.appear + other.appear,
            self.vanish + other.vanish,
            self.command or other.command,
            self.notes + other.notes,
        )

    def at(self, directory: Path) -> "Effects":
        """Return them with absolute names, as the instance lies in `directory`."""
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
    """The command that fixes it; None when all is well or nothing can be done."""
    essential: bool = True
    """False when only some uses need it."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock doctor --format json`."""
        return self._asdict()


class Mending(NamedTuple):
    """What came of a repair."""

    instance: str
    state: State
    mended: tuple[str, ...]
    """What was wrong and is no more, in words; empty when nothing was."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `repair --format json` prints."""
        return {"name": self.instance, "state": self.state, "mended": list(self.mended)}
