"""What one guest is told: the facts that a seed carries, whatever its form.

All of them are resolved when the instance is created: texts are the final ones, files are read, variables replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .keys import KeyPair

HOST_ADDRESS = "10.0.2.2"
"""The host, as a guest sees it. Source: QEMU, "Network emulation", using the user mode network stack."""

DNS_ADDRESS, GUEST_ADDRESS = "10.0.2.3", "10.0.2.15"
"""What answers for the host's resolver, and the guest itself. Source: the same."""

HOST_NAMES = ("host.interlock.internal", "host.lima.internal")
"""What the host is called in every guest."""

BOOT, DEPENDENCY, SYSTEM, USER = "boot", "dependency", "system", "user"

MODES = (BOOT, DEPENDENCY, SYSTEM, USER)
"""In the order in which a guest runs them, at each boot; `user` by the user, the others by root."""


@dataclass(frozen=True, slots=True)
class Script:
    """Something to run in the guest."""

    mode: str
    """One of MODES."""
    text: bytes
    """One without a `#!` line is read by sh."""
    once: bool = False
    """True: at the first boot alone, else at each."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write, at each boot after the scripts of the modes `boot` and `dependency` and before the others."""

    path: str
    content: bytes
    owner: str = "root:root"
    """As for chown(1)."""
    permissions: int = 0o644
    overwrite: bool = True
    """False: one that is there stays."""
    once: bool = False
    """True: at the first boot alone."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where the guest mounts a folder of the host's, at each boot."""

    tag: str
    """What the hypervisor calls the folder: `mount0`."""
    path: str
    """Absolute, may hold blanks; made if it is not there."""
    type: str
    """`9p` or `virtiofs`."""
    options: str
    """As for mount(8)'s -o: `trans=virtio,version=9p2000.L,msize=131072,ro`."""


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A disk beside the guest's own, mounted at each boot. Only one that holds nothing at all is formatted."""

    serial: str
    """By which the guest finds it: `disk0`, in /sys/block/*/serial."""
    label: str
    """Of the file system that is made, at most 16 bytes."""
    path: str
    """Where it is mounted, absolute."""
    format: bool
    """False: it is mounted only if somebody has formatted it."""
    fs_type: str = "ext4"
    fs_args: tuple[str, ...] = ()
    """More arguments for mkfs."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What one guest is told, once."""

    user: str
    """Login; `root` is allowed."""
    hostname: str
    instance_id: str
    """The first boot happens once for each value."""
    authorized_keys: tuple[str, ...]
    """Lines of sshd(8)'s AUTHORIZED_KEYS: who may log in."""
    host_key: KeyPair
    name: str = ""
    """Of the instance; empty: as the hostname."""
    uid: int = 1000
    home: str = ""
    """Absolute; empty: /home/USER, or /root for root."""
    shell: str = "/bin/bash"
    """/bin/sh where the guest does not have it."""
    comment: str = ""
    """The user's full name (GECOS)."""
    passwordless_sudo: bool = True
    timezone: str = ""
    """Name in the zoneinfo database; empty: the guest's own."""
    zone: bytes = b""
    """That zone's file, for guests without the database. Source: tzfile(5)."""
    locale: str = ""
    """Such as `C.UTF-8`; empty: the guest's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of every login and of the scripts, proxies included."""
    param: Mapping[str, str] = field(default_factory=dict)
    """Environment of the scripts alone, each with `PARAM_` before its name."""
    dns: tuple[str, ...] = ()
    """Addresses of name servers; empty: those that the network offers."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Name → address, for /etc/hosts."""
    ca_certs: tuple[bytes, ...] = ()
    """PEM, one certificate each, to be trusted."""
    remove_default_ca_certs: bool = False
    upgrade_packages: bool = False
    disks: tuple[GuestDisk, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    files: tuple[File, ...] = ()
    scripts: tuple[Script, ...] = ()
    """In the order in which those of one mode are run."""
