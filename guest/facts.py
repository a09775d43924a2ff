"""What a seed tells its guest, in whichever form it is delivered.

All of it is resolved when the instance is created: files are read, variables are replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .keys import KeyPair

HOST_ADDRESS = "10.0.2.2"
"""The host, as a guest sees it. Source: QEMU, "Network emulation", using the user mode network stack."""

DNS_ADDRESS, GUEST_ADDRESS = "10.0.2.3", "10.0.2.15"
"""The address that forwards to the host's resolver, and the guest itself. Source: the same."""

HOST_NAMES = ("host.interlock.internal", "host.lima.internal")
"""The host's names in every guest."""

BOOT, DEPENDENCY, EDIT, SYSTEM, USER = "boot", "dependency", "edit", "system", "user"

MODES = (BOOT, DEPENDENCY, EDIT, SYSTEM, USER)
"""In the order in which a guest runs them, at each boot; files are written before `edit`. The user runs the scripts of
mode `user`, root runs the others."""


@dataclass(frozen=True, slots=True)
class Script:
    """Something to run in the guest."""

    mode: str
    """One of MODES."""
    text: bytes
    """Without a `#!` line it is run by sh."""
    once: bool = False
    """True: at the first boot only; False: at each."""
    title: str = ""
    """Its name in messages; empty: its number and mode."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write at each boot, after the scripts of the modes `boot` and `dependency`, and before the others."""

    path: str
    content: bytes
    owner: str = "root:root"
    """As for chown(1)."""
    permissions: int = 0o644
    overwrite: bool = True
    """False: an existing file is kept."""
    once: bool = False
    """True: at the first boot only."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where the guest mounts a folder of the host, at each boot."""

    tag: str
    """The hypervisor's name for the folder: `mount0`."""
    path: str
    """Absolute, may contain blanks; made if missing."""
    type: str
    """`9p` or `virtiofs`."""
    options: str
    """As for mount(8)'s -o: `trans=virtio,version=9p2000.L,msize=131072,ro`."""


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A disk beside the guest's own, mounted at each boot. Only an empty one is formatted."""

    serial: str
    """The guest finds it by this: `disk0`, in /sys/block/*/serial."""
    label: str
    """Label of a new file system, at most 16 bytes."""
    path: str
    """Where it is mounted, absolute."""
    format: bool
    """False: an empty disk is neither formatted nor mounted."""
    fs_type: str = "ext4"
    fs_args: tuple[str, ...] = ()
    """More arguments for mkfs."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What distinguishes a copy of a guest from its original."""

    name: str
    """Of the instance."""
    hostname: str
    instance_id: str
    host_key: KeyPair


@dataclass(frozen=True, slots=True)
class Seed:
    """The content of one seed."""

    user: str
    """Login; `root` is allowed."""
    hostname: str
    instance_id: str
    """The first boot happens once for each value."""
    authorized_keys: tuple[str, ...]
    """Who may log in: lines as in sshd(8), AUTHORIZED_KEYS."""
    host_key: KeyPair
    name: str = ""
    """Of the instance; empty: the hostname."""
    ssh_port: int = 0
    """TCP port of the host that always leads to the guest's sshd; 0: it is chosen at each start."""
    lan: str = ""
    """The guest's name for its card on the network of instances; empty: it is not on that network."""
    uid: int = 1000
    home: str = ""
    """Absolute; empty: /home/USER, or /root for root."""
    shell: str = "/bin/bash"
    """If the guest does not have it, /bin/sh."""
    comment: str = ""
    """The user's full name (GECOS)."""
    passwordless_sudo: bool = True
    timezone: str = ""
    """Name in the zoneinfo database; empty: the guest's own."""
    zone: bytes = b""
    """The file of that zone, for guests without the database. Source: tzfile(5)."""
    locale: str = ""
    """Such as `C.UTF-8`; empty: the guest's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of every login and of the scripts, proxies included."""
    param: Mapping[str, str] = field(default_factory=dict)
    """Environment of the scripts only, each name with the prefix `PARAM_`."""
    dns: tuple[str, ...] = ()
    """Addresses of name servers; empty: those from DHCP."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Name → address, for /etc/hosts."""
    ca_certs: tuple[bytes, ...] = ()
    """Certificates to trust, one PEM each."""
    remove_default_ca_certs: bool = False
    upgrade_packages: bool = False
    disks: tuple[GuestDisk, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    files: tuple[File, ...] = ()
    scripts: tuple[Script, ...] = ()
    """Scripts of one mode run in this order."""
