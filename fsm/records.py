"""The facts about an instance, each a frozen record with a JSON form.

    Spec          what the machine is: resolved once by `create`, never changed
    Actor         who did something: a process, proved by pid, start time and boot
    Operation     what is being done to it right now, by whom, until when
    Observation   what its driver sees: alive or not, in what condition, why it went down
    Status        all of it together: one line of `list`, one object of `inspect`
    Check         what `doctor` found about the host

Sizes are in bytes, durations in seconds, times in UTC as ISO 8601 with microseconds.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from .errors import DamagedError, InvalidNameError
from .files import read_own
from .states import State
from .table import Trigger

SPEC_FILE = "spec.json"

_SPEC_BYTES = 1 << 20
"""A spec is a few hundred bytes; what is longer is none, and is not read to its end."""

_SPEC_NUMBERS_BELOW = 1 << 63
"""No machine has as much of anything, and what is larger no column could show."""

PROTECTED_FILE = "protected"
"""While it is there, the instance is protected. Its content means nothing."""

SPEC_SCHEMA = 1
"""Version of the spec's JSON form. A reader refuses a newer one and migrates an older one."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def checked_name(name: str) -> str:
    """Return `name` if an instance may be called so, else raise InvalidNameError. Touches nothing."""
    if NAME.fullmatch(name):
        return name
    raise InvalidNameError(
        f"an instance cannot be called {name!r}",
        hint="use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    )


def now() -> str:
    """Return the present time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_since(moment: str) -> float:
    """Return how many seconds ago the ISO 8601 `moment` was; never negative, because clocks are set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


@dataclass(frozen=True, slots=True)
class Spec:
    """A machine, fully resolved. No field could name a template, a URL or a cache: what it needs lies beside it.

    Written once by `create` as `spec.json`, read by every later operation.
    """

    driver: str
    arch: str
    """Of the guest: x86_64 or aarch64."""
    cpus: int
    memory_bytes: int
    disk_bytes: int
    user: str
    """The guest's login, which has passwordless sudo where the guest has sudo."""
    hostname: str
    instance_id: str
    """Names this creation. A guest runs its first boot once for each value (cloud-init's `instance-id`)."""
    boot: str
    """`kernel`: the files `kernel` and `initrd` of the directory; `firmware`: the disk's own boot loader."""
    start_timeout_s: float
    """How long a start may take before it is given up, unless the start says otherwise."""
    stop_timeout_s: float
    """How long a guest may take to shut down before it is ended."""
    kernel_arguments: str = ""
    accelerator: str = "auto"
    """`auto` is decided at each start, because a host's abilities change under an instance."""
    origin: str = ""
    """What `create` was given, in words, for people. Nothing reads it back."""
    created_at: str = field(default_factory=now)
    schema: int = SPEC_SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return the spec as an object of JSON values, one key for each field."""
        return asdict(self)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Return the spec in `directory`; raises DamagedError naming the file and what is wrong with it."""
        path = f"{directory}/{SPEC_FILE}"
        try:
            return cls.from_json(json.loads(read_own(path, _SPEC_BYTES).decode()), path)
        except OSError as error:
            raise DamagedError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, data: object, source: Path | str) -> Self:
        """Return the spec that `data`, the parsed content of the file `source`, describes.

        Raises DamagedError naming the file and the field.
        """
        if not isinstance(data, Mapping):
            raise DamagedError(f"{source}: expected a JSON object")
        schema = data.get("schema")
        if schema != SPEC_SCHEMA:
            raise DamagedError(f"{source}: schema {schema!r} is not {SPEC_SCHEMA}, the one this version reads")
        for name, types in _SPEC_TYPES.items():
            value: Any = data.get(name)
            if type(value) not in types:  # a bool is an int, and none of ours
                raise DamagedError(f"{source}: {name}: expected {types[0].__name__}, found {value!r}")
            if types is not _TEXT and not 0 <= value < _SPEC_NUMBERS_BELOW:  # NaN is not
                raise DamagedError(f"{source}: {name}: expected a number that is possible")
        if len(data) > len(_SPEC_TYPES):
            unknown = min(set(data) - set(_SPEC_TYPES))
            raise DamagedError(f"{source}: {unknown}: no such field")
        return cls(**data)


_TEXT = (str,)
_JSON_TYPES: dict[Any, tuple[type, ...]] = {str: _TEXT, int: (int,), float: (float, int)}
_SPEC_TYPES = {f.name: _JSON_TYPES[f.type] for f in fields(Spec)}


@dataclass(frozen=True, slots=True)
class Actor:
    """A process that acted: `pid` alone is reused by strangers, so its start time and its boot belong to its name."""

    pid: int
    started_ticks: int
    """Field 22 of /proc/PID/stat: clock ticks after boot. Source: proc(5)."""
    boot_id: str
    """/proc/sys/kernel/random/boot_id. Source: random(4)."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
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
        }


@dataclass(frozen=True, slots=True)
class Observation:
    """What a driver sees at this moment, without asking the guest and without waiting."""

    alive: bool
    pid: int | None = None
    ssh_port: int | None = None
    """Local TCP port on the loopback that leads to the guest's sshd."""
    condition: str | None = None
    """What is wrong with a machine that is alive: `paused: the host's disk is full`."""
    exit_reason: str | None = None
    """Why a machine that ran is down: `guest shut down`."""


@dataclass(frozen=True, slots=True)
class Status:
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
    protected: bool = False
    changed_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock list --format json`."""
        spec, seen = self.spec, self.observation
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
            "changed_at": self.changed_at,
            "driver": spec.driver if spec else None,
            "arch": spec.arch if spec else None,
            "cpus": spec.cpus if spec else None,
            "memory_bytes": spec.memory_bytes if spec else None,
            "disk_bytes": spec.disk_bytes if spec else None,
            "user": spec.user if spec else None,
            "ssh_port": seen.ssh_port if seen else None,
            "directory": str(self.directory),
        }


@dataclass(frozen=True, slots=True)
class Check:
    """One finding about this host: an answer of `interlock doctor`."""

    subject: str
    ok: bool
    finding: str
    mend: str | None = None
    """The command that mends it; None when all is well or nothing can be done."""
    essential: bool = True
    """False when only some uses need it."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock doctor --format json`."""
        return asdict(self)
