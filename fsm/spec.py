"""What a machine is: resolved once by `create`, written into the instance's directory, replaced by `edit` alone.

    spec.json
    ├── cpus, memory_bytes, ...   numbers and words
    ├── mounts[]                  folders of the host that the guest sees
    ├── forwards[]                forwards from the host into the guest, one port or socket each
    ├── disks[]                   disks besides the machine's own; their files are in the directory
    ├── probes[]                  scripts that must succeed in the guest before it counts as ready
    └── copies[]                  files to fetch from the guest once it is ready

No field names a template, a URL or a cache: what the machine needs is beside its spec. What only the guest needs to
know (its users, its scripts) is in the seed instead, whose secrets nobody else should see.

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
"""The limit of every number: no machine has that much of anything, and no column could show a larger number."""


class Mount(NamedTuple):
    """A folder of the host that the guest sees. The guest knows it by the tag `mountN`, N being its list index."""

    location: str
    """Absolute path on the host."""
    mount_point: str
    """Absolute path in the guest, which mounts the folder there itself, as its seed says."""
    writable: bool
    type: str
    """`9p` or `virtiofs`."""
    security_model: str
    """For 9p, how owners and modes are kept: `none`, `passthrough`, `mapped-xattr`, `mapped-file`."""
    queue_size: int = 1024
    """For virtiofs, how many requests may wait: a power of 2, at most 1024. Source: QEMU, vhost-user-fs-pci."""
    options: str = ""
    """The options of mount(8) in the guest, as after -o; empty in specs of older versions: as the seed says."""


class Forward(NamedTuple):
    """A forward from a port or socket of the host to one of the guest. Each end is either a port or a socket."""

    proto: str
    """`tcp` or `udp`; `tcp` for sockets."""
    guest_ip: str
    """`0.0.0.0` stands for the guest's own address, which QEMU reaches by itself. Others are reached over ssh."""
    guest_port: int
    """0 if it is a socket."""
    guest_socket: str
    """Absolute path; empty if it is a port."""
    host_ip: str
    host_port: int
    host_socket: str
    """Absolute path; empty if it is a port."""
    reverse: bool
    """True if the guest connects and the host answers; only for sockets."""


class PortRule(NamedTuple):
    """What to do with a TCP port that opens in the guest. The first matching rule of a spec decides."""

    act: str
    """`forward`; `ignore`; or `static`: one of the spec's forwards leads there, whether the port is open or not."""
    guest_ip: str
    """The address that a program in the guest listens on."""
    exact: bool
    """False: a `guest_ip` of `0.0.0.0` stands for every address."""
    first: int
    last: int
    """The range of ports in the guest, `first` to `last`."""
    host_ip: str
    host_port: int
    """The host's port that leads to `first`; the next ports lead to the others."""


class Disk(NamedTuple):
    """A disk besides the machine's own, which outlives it. Its file in the directory is `disk-NAME`, a hard link."""

    name: str
    """The guest knows the disk by the serial number `diskN`, N being its index in the list."""
    format: str
    """`qcow2` or `raw`."""


class Probe(NamedTuple):
    """A script that must succeed in the guest, run by its user, before the guest counts as ready."""

    description: str
    script: str
    """Begins with a `#!` line."""
    hint: str
    """The hint to show if the script does not succeed; may be empty."""


class Copy(NamedTuple):
    """A file to fetch from the guest once it is ready."""

    guest: str
    """Absolute path in the guest."""
    host: str
    """Absolute path on the host."""
    skip_if_missing: bool
    delete_on_stop: bool
    max_bytes: int = 1 << 30
    """The largest size that is copied: the guest decides how long the file is, and must not fill the host's disk."""


class Spec(NamedTuple):
    """A machine, fully resolved."""

    driver: str
    arch: str
    """The architecture of the guest: x86_64 or aarch64."""
    cpus: int
    memory_bytes: int
    disk_bytes: int
    user: str
    """The login name in the guest."""
    hostname: str
    instance_id: str
    """Identifies this creation. A guest runs its first boot once for each value (cloud-init's `instance-id`)."""
    boot: str
    """`kernel`: the files `kernel` and `initrd` of the directory; `firmware`: UEFI and the boot loader of the disk;
    `bios`: the BIOS and the boot loader of the disk."""
    start_timeout_s: float
    """How long a start may take before it is given up, unless the request has its own timeout."""
    stop_timeout_s: float
    """How long a guest may take to shut down before it is ended."""
    created_at: str
    """UTC, ISO 8601."""
    kernel_arguments: str = ""
    accelerator: str = "auto"
    """`auto` is decided at each start, because the abilities of the host may change."""
    cpu_model: str = ""
    """One of the hypervisor's CPU models; empty: the best that the accelerator has."""
    ssh_port: int = 0
    """Local port of the guest's sshd; 0: any that is free, chosen at the first start and kept."""
    network_host: bool = True
    """Whether the guest may open connections to this host, and so to every service on its loopback."""
    network_internet: bool = True
    """Whether the guest may open connections to anywhere else, including name servers."""
    lan: str = ""
    """The name in the guest of its network card on the network that the guests of the home share: `lima0`. Empty: the
    guest is not on that network."""
    forward_agent: bool = False
    """True if a shell in the guest forwards the user's ssh agent; the next two do the same for X11."""
    forward_x11: bool = False
    forward_x11_trusted: bool = False
    restart: str = "never"
    """Or `on-failure`: the keeper restarts it after its guest or its hypervisor has failed (`restarts`)."""
    timezone: str = ""
    """A name of the zoneinfo database; empty: the guest's own timezone."""
    cluster: str = ""
    """The cluster of the home that runs it; empty: this host runs it."""
    node: str = ""
    """The node of the cluster on which it is created; empty: the cluster chooses one, of `group` if that is given."""
    group: str = ""
    message: str = ""
    """The message of the template's author to the users of the machine."""
    mounts: tuple[Mount, ...] = ()
    forwards: tuple[Forward, ...] = ()
    port_rules: tuple[PortRule, ...] = ()
    """Empty: no port that opens in the guest is forwarded."""
    disks: tuple[Disk, ...] = ()
    probes: tuple[Probe, ...] = ()
    copies: tuple[Copy, ...] = ()
    vnc: str = ""
    """The display on this host's loopback that shows the guest's screen, or the first of several to try:
    `127.0.0.1:0,to=9`. Empty: the machine has no screen."""
    tpm: bool = False
    """Whether the machine has a TPM 2.0."""
    nested: bool = False
    """Whether the guest can run virtual machines with hardware support."""
    origin: str = ""
    """A description of what the instance was created from, for people. Nothing parses it."""
    kept_by: str = ""
    """The other program that keeps the machine, and with which anyone may start, stop and delete it: `limactl`."""
    version: str = ""
    """The version of Interlock that created it, for users of an older version."""
    schema: int = SCHEMA

    @property
    def keeper(self) -> str:
        """What else may start and stop the machine, in words: a program or a cluster; empty if nothing else may."""
        return self.kept_by or (f'the cluster "{self.cluster}"' if self.cluster else "")

    def to_json(self) -> dict[str, Any]:
        """Return the spec as an object of JSON values, one key for each field."""
        return {
            key: [record._asdict() for record in value] if isinstance(value, tuple) else value
            for key, value in self._asdict().items()
        }

    def over(self, directory: Path) -> bytes:
        """Return the content of the file that replaces the spec in `directory` by this one.

        Fields of the old file that this version does not know are kept.
        """
        return written({**json.loads(read_own(directory / SPEC_FILE)), **self.to_json()})

    @classmethod
    def read(cls, directory: Path) -> "Spec":
        """Return the spec in `directory`.

        Raises DamagedError, which names the file and the defect; UnreadableError if the system cannot read the file.
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

        Raises DamagedError, which names the file and the field.
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
"""Stands in for an unreadable spec where the directory is enough: to observe a machine, to end it, to clean up."""


_R = TypeVar("_R", Spec, Mount, Forward, PortRule, Disk, Probe, Copy)

_SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}
_NUMBERS = (_SCALARS[int], _SCALARS[float])


def _shape(record: type) -> dict[str, tuple[type, ...] | type]:
    """Return field → the types that its JSON value may have, or for a list of records, the type of the record."""
    return {name: _SCALARS.get(kind) or get_args(kind)[0] for name, kind in record.__annotations__.items()}


_SHAPES: dict[type, dict[str, tuple[type, ...] | type]] = {
    record: _shape(record) for record in (Spec, Mount, Forward, PortRule, Disk, Probe, Copy)
}


def _record(record: type[_R], data: dict[str, Any], place: str) -> _R:
    """Return the record that `data` describes; raise DamagedError, which names `place` and the field.

    A missing field gets its default; a field that this version does not know is ignored, and stays in the file.
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
        elif type(value) not in kind:  # for Python, a bool is an int
            raise DamagedError(f"{place}{name}: expected {kind[0].__name__}, found {value!r}")
        elif kind in _NUMBERS and not 0 <= value < _NUMBERS_BELOW:  # type: ignore[operator] # NaN is not
            raise DamagedError(f"{place}{name}: expected a number that is possible")
    return record(**values)
