"""What a machine is: resolved once by `create`, written into the instance's directory, replaced by `edit` alone.

    spec.json
    ├── cpus, memory_bytes, ...   numbers and words
    ├── mounts[]                  folders of the host's that the guest sees
    ├── forwards[]                ways from the host into the guest, one port or socket each
    ├── disks[]                   disks beside the machine's own; their files lie in the directory
    ├── probes[]                  scripts that must succeed in the guest before it counts as ready
    └── copies[]                  files to fetch from the guest once it is ready

No field could name a template, a URL or a cache: what the machine needs lies beside its spec. What only the guest has
to know (its users, its scripts) is not here but in the seed, whose secrets are nobody else's.

Sizes are in bytes, durations in seconds.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from ..errors import DamagedError
from ..host.files import misread, read_own
from .schema import Migration, migrated

SPEC_FILE = "spec.json"

MIGRATIONS: tuple[Migration, ...] = ()
"""The first turns schema 1 into schema 2, and so on; `schema` says what needs one."""

SCHEMA = len(MIGRATIONS) + 1
"""The schema that this version writes."""

_NUMBERS_BELOW = 1 << 63
"""No machine has as much of anything, and what is larger no column could show."""


class Mount(NamedTuple):
    """A folder of the host's that the guest sees. The guest knows it by the tag `mountN`, N its place in the list."""

    location: str
    """Absolute path on the host."""
    mount_point: str
    """Absolute path in the guest, which mounts it there itself: its seed says so, and how."""
    writable: bool
    type: str
    """`9p` or `virtiofs`."""
    security_model: str
    """Of 9p, how owners and modes are kept: `none`, `passthrough`, `mapped-xattr`, `mapped-file`."""
    queue_size: int = 1024
    """Of virtiofs: how many requests may wait. A power of 2, at most 1024. Source: QEMU, vhost-user-fs-pci."""
    options: str = ""
    """With which the guest mounts it, as for mount(8)'s -o; empty in specs of older versions: as its seed says."""


class Forward(NamedTuple):
    """One way from a port or socket of the host's to one of the guest's. Of port and socket, each end has one."""

    proto: str
    """`tcp` or `udp`; `tcp` for sockets."""
    guest_ip: str
    """`0.0.0.0` stands for the guest's own address: QEMU reaches that by itself. Any other is reached over ssh."""
    guest_port: int
    """0 when it is a socket."""
    guest_socket: str
    """Absolute path; empty when it is a port."""
    host_ip: str
    host_port: int
    host_socket: str
    """Absolute path; empty when it is a port."""
    reverse: bool
    """True when the guest connects and the host answers; sockets only."""


class PortRule(NamedTuple):
    """What becomes of a TCP port that opens in the guest. Of the rules of a spec, the first that fits it decides."""

    act: str
    """`forward`; `ignore`; or `static`: one of the spec's forwards leads there, whether it is open or not."""
    guest_ip: str
    """What a program in the guest listens on."""
    exact: bool
    """False: a `guest_ip` of `0.0.0.0` stands for every address."""
    first: int
    last: int
    """Ports in the guest."""
    host_ip: str
    host_port: int
    """The one that leads to `first`; the others follow."""


class Disk(NamedTuple):
    """A disk beside the machine's own, which outlives it. Its file in the directory is `disk-NAME`, a hard link."""

    name: str
    """The guest knows it by the serial number `diskN`, N its place in the list."""
    format: str
    """`qcow2` or `raw`."""


class Probe(NamedTuple):
    """A script that must succeed in the guest, run by its user, before the guest counts as ready."""

    description: str
    script: str
    """Begins with a `#!` line."""
    hint: str
    """What to tell somebody when it does not succeed; may be empty."""


class Copy(NamedTuple):
    """A file to fetch from the guest once it is ready."""

    guest: str
    """Absolute path in the guest."""
    host: str
    """Absolute path on the host."""
    skip_if_missing: bool
    delete_on_stop: bool
    max_bytes: int = 1 << 30
    """The guest decides how long the file is, and its host's disk is not the guest's to fill."""


class Spec(NamedTuple):
    """A machine, fully resolved."""

    driver: str
    arch: str
    """Of the guest: x86_64 or aarch64."""
    cpus: int
    memory_bytes: int
    disk_bytes: int
    user: str
    """The guest's login."""
    hostname: str
    instance_id: str
    """Names this creation. A guest runs its first boot once for each value (cloud-init's `instance-id`)."""
    boot: str
    """`kernel`: the files `kernel` and `initrd` of the directory; `firmware`: UEFI and the disk's own boot loader;
    `bios`: the same without UEFI."""
    start_timeout_s: float
    """How long a start may take before it is given up, unless the start says otherwise."""
    stop_timeout_s: float
    """How long a guest may take to shut down before it is ended."""
    created_at: str
    """UTC, ISO 8601."""
    kernel_arguments: str = ""
    accelerator: str = "auto"
    """`auto` is decided at each start, because a host's abilities change under an instance."""
    cpu_model: str = ""
    """Of the hypervisor's models; empty: the best that the accelerator has."""
    ssh_port: int = 0
    """Local port of the guest's sshd; 0: any that is free, chosen at the first start and kept."""
    network_host: bool = True
    """Whether the guest may open connections to this host; hence to every service on its loopback."""
    network_internet: bool = True
    """Whether it may open connections to anywhere else, name servers included."""
    lan: str = ""
    """What the guest calls its card on the network that it shares with guests of the home's other instances: `lima0`.
    Empty: it is not on it."""
    forward_agent: bool = False
    """True when a shell in the guest forwards the user's ssh agent; likewise X11 for the next two."""
    forward_x11: bool = False
    forward_x11_trusted: bool = False
    restart: str = "never"
    """Or `on-failure`: the keeper starts it again when its guest or its hypervisor failed (`restarts`)."""
    timezone: str = ""
    """Name in the zoneinfo database; empty: the guest's own."""
    cluster: str = ""
    """Which of the home's clusters runs it; empty: this host does."""
    node: str = ""
    """The node of the cluster on which it is made; empty: the cluster chooses one, of `group` if that is given."""
    group: str = ""
    message: str = ""
    """What the template's author tells the machine's users."""
    mounts: tuple[Mount, ...] = ()
    forwards: tuple[Forward, ...] = ()
    port_rules: tuple[PortRule, ...] = ()
    """Empty: no port that opens in the guest is forwarded."""
    disks: tuple[Disk, ...] = ()
    probes: tuple[Probe, ...] = ()
    copies: tuple[Copy, ...] = ()
    vnc: str = ""
    """Where on this host's loopback the guest's screen is shown, a display or the first of several to try:
    `127.0.0.1:0,to=9`. Empty: the machine has no screen."""
    tpm: bool = False
    """Whether the machine has a TPM 2.0."""
    nested: bool = False
    """Whether the guest can run virtual machines with hardware's help."""
    origin: str = ""
    """What `create` was given, in words, for people. Nothing reads it back."""
    kept_by: str = ""
    """The other program that keeps the machine, by which anyone may start, stop and delete it: `limactl`."""
    version: str = ""
    """The version of Interlock that created it, for people who have an older one."""
    schema: int = SCHEMA

    @property
    def keeper(self) -> str:
        """What else may start and stop the machine, in words: a program, a cluster; empty where nothing does."""
        return self.kept_by or (f'the cluster "{self.cluster}"' if self.cluster else "")

    def to_json(self) -> dict[str, Any]:
        """Return the spec as an object of JSON values, one key for each field."""
        return {
            key: [record._asdict() for record in value] if isinstance(value, tuple) else value
            for key, value in self._asdict().items()
        }

    def over(self, directory: Path) -> bytes:
        """Return the content of the file for this spec in the place of the one in `directory`.

        Fields there that this version does not know stay.
        """
        return written({**json.loads(read_own(directory / SPEC_FILE)), **self.to_json()})

    @classmethod
    def read(cls, directory: Path) -> "Spec":
        """Return the spec in `directory`.

        Raises DamagedError naming the file and what is wrong with it; UnreadableError where the system cannot read it.
        """
        path = f"{directory}/{SPEC_FILE}"
        try:
            return cls.from_json(json.loads(read_own(path).decode()), path)
        except OSError as error:
            raise misread(path, error) from error
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, data: object, source: Path | str) -> "Spec":
        """Return the spec that `data`, the parsed content of the file `source`, describes.

        Raises DamagedError naming the file and the field.
        """
        if not isinstance(data, dict):
            raise DamagedError(f"{source}: expected a JSON object")
        try:
            data = migrated(data, MIGRATIONS, source)
        except ValueError as error:
            raise DamagedError(f"{source}: {error}") from error
        return _record(Spec, data, f"{source}: ")


def written(data: dict[str, Any]) -> bytes:
    """Return the content of the file that holds the spec `data`, an object of JSON values."""
    return json.dumps(data, indent=2).encode() + b"\n"


UNREADABLE = Spec(
    driver="",
    arch="",
    cpus=0,
    memory_bytes=0,
    disk_bytes=0,
    user="",
    hostname="",
    instance_id="",
    boot="",
    start_timeout_s=0.0,
    stop_timeout_s=60.0,
    created_at="",
)
"""Stands in for a spec that cannot be read where the place is enough: to see a machine, to end it, to clean up."""


_R = TypeVar("_R", Spec, Mount, Forward, PortRule, Disk, Probe, Copy)

_SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}
_NUMBERS = (_SCALARS[int], _SCALARS[float])


def _shape(record: type) -> dict[str, tuple[type, ...] | type]:
    """Return field → the types that its JSON value may have, or the record of which it is a list."""
    return {name: _SCALARS.get(kind) or get_args(kind)[0] for name, kind in record.__annotations__.items()}


_SHAPES: dict[type, dict[str, tuple[type, ...] | type]] = {
    record: _shape(record) for record in (Spec, Mount, Forward, PortRule, Disk, Probe, Copy)
}


def _record(record: type[_R], data: dict[str, Any], place: str) -> _R:
    """Return the record that `data` describes; raise DamagedError naming `place` and the field.

    A field that it lacks has its default; one that this version does not know is ignored, and stays in the file.
    """
    shape = _SHAPES[record]
    values = {name: value for name, value in data.items() if name in shape}
    for name, kind in shape.items():
        if name not in data and name in record._field_defaults:
            continue
        value = data.get(name)
        if isinstance(kind, type):
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise DamagedError(f"{place}{name}: expected a list of objects, found {value!r}")
            values[name] = tuple(_record(kind, item, f"{place}{name}[{at}].") for at, item in enumerate(value))
        elif type(value) not in kind:  # a bool is an int to Python, and not to us
            raise DamagedError(f"{place}{name}: expected {kind[0].__name__}, found {value!r}")
        elif kind in _NUMBERS and not 0 <= value < _NUMBERS_BELOW:  # type: ignore[operator] # NaN is not
            raise DamagedError(f"{place}{name}: expected a number that is possible")
    return record(**values)
