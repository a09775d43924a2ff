"""Folders of the host that are mounted in the guest, by one of two devices. The guest knows each by a tag, `mountN`.

    9p         QEMU reads and writes the folder itself
    virtiofs   a daemon does, one `virtiofsd` for each folder; faster, because it shares the guest's memory

QEMU's descriptors say where a host has its virtiofsd. There are two programs of that name: QEMU's own up to 7.2, in C,
which only root can run, and its successor in Rust. Source: QEMU, docs/interop/vhost-user.json.
"""

import json
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...errors import DegradedError, DriverError, HostError
from ...fsm.spec import Mount, Spec
from ..contract import INITRD, SEED, Site
from .hypervisor import Daemon

if TYPE_CHECKING:
    from ...guest.facts import MountPoint

DESCRIPTORS = (Path("/etc/qemu/vhost-user"), Path("/usr/share/qemu/vhost-user"))
"""The administrator's folder comes first: a file there hides the package's of the same name."""

MISSING_HINT = "apt install virtiofsd || apt install qemu-system-common"

INSTEAD = "interlock create web --template debian --set mountType=9p"
"""For a host that has only the virtiofsd in C, and whose distribution may have no other."""

_HELP_TIMEOUT_S = 10.0

CHANGED = "remount"
"""Exists while the mounts of the spec differ from those that the guest knows."""


class Program(NamedTuple):
    """A virtiofsd, and which of the two it is."""

    path: str
    in_c: bool
    can_readonly: bool
    """True when it has an option that keeps the guest from writing."""


def check(spec: Spec) -> None:
    """Raise DriverError naming all folders that `spec` mounts and that are missing.

    They are not made here: `create` did that, so a missing one has moved, or is on a disk that is not mounted yet.
    """
    import shlex

    if gone := [mount.location for mount in spec.mounts if not Path(mount.location).is_dir()]:
        raise DriverError(
            f"the instance mounts {', '.join(gone)}, but this host has no such folder",
            hint=f"mkdir -p {shlex.join(gone)}",
        )


def points(spec: Spec) -> "list[MountPoint]":
    """Return what the guest of a machine has to know of its mounts."""
    from ...guest.facts import MountPoint

    return [
        MountPoint(f"mount{number}", it.mount_point, it.type, it.options or _usual_options(it))
        for number, it in enumerate(spec.mounts)
    ]


def _usual_options(mount: Mount) -> str:
    """Return the mount options for a folder whose spec gives none, the same that creation writes."""
    access = "rw" if mount.writable else "ro"
    if mount.type == "virtiofs":
        return access
    return f"trans=virtio,version=9p2000.L,msize={128 << 10},cache=mmap,{access}"


def reseed(site: Site) -> None:
    """Write the mounts of the spec into the seed of the machine of `site`, which is down.

    After its first boot, a guest no longer reads the seed, unless its root is in memory or the machine is reset.
    """
    from ...guest import seed
    from ...host.files import read_own, write_whole

    for file, changed in ((SEED, seed.nocloud_with), (INITRD, seed.overlay_with)):
        if (site.directory / file).exists():
            content = read_own(site.directory / file, seed.SEED_BYTES)
            try:
                write_whole(site.directory / file, changed(content, points(site.spec)))
            except ValueError as error:
                raise DriverError(f"{site.directory / file} cannot be read: {error}") from error
            return


def arguments(site: Site) -> list[str]:
    """Return QEMU's options for the mounts of `site`, in their order."""
    command: list[str] = []
    for number, mount in enumerate(site.spec.mounts):
        tag = f"mount{number}"
        if mount.type == "virtiofs":
            command += [
                "-chardev", f"socket,id={tag},path={value(str(_socket(site, number)))}",
                "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size={mount.queue_size}",
            ]  # fmt: skip
        else:
            # remap: a folder may contain a mount point, and inode numbers of both file systems may be the same.
            rules = f"security_model={mount.security_model},multidevs=remap{'' if mount.writable else ',readonly=on'}"
            command += [
                "-fsdev", f"local,id={tag},path={value(mount.location)},{rules}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
            ]  # fmt: skip
    return command


def daemons(site: Site) -> list[Daemon]:
    """Return the daemons that the hypervisor of `site` needs; raise HostError when this host does not have them."""
    return [Daemon(socket, _serve(find(), mount, socket)) for socket, mount in _served(site)]


def cut_off(site: Site) -> DegradedError | None:
    """Return an error for a running machine's mount whose daemon has ended, or None.

    The kernel lists a socket by its path while a process has it open. Source: proc(5), /proc/net/unix.
    """
    served = _served(site)
    listed = Path("/proc/net/unix").read_bytes() if served else b""
    for socket, mount in served:
        if b" %b\n" % bytes(socket) not in listed:
            return DegradedError(
                f"{mount.location} is cut off: its virtiofsd ended", hint=f"interlock restart {site.name}"
            )
    return None


def find() -> Program:
    """Return this host's virtiofsd; raise HostError if it is not installed."""
    files = {path.name: path for folder in reversed(DESCRIPTORS) for path in folder.glob("*.json")}
    for _, path in sorted(files.items()):
        with suppress(OSError, ValueError, LookupError, TypeError):  # a file of another package, which may be malformed
            descriptor = json.loads(path.read_bytes())
            if descriptor["type"] == "fs" and os.access(descriptor["binary"], os.X_OK):
                return _known(descriptor["binary"])
    raise HostError("virtiofsd is not installed, and the instance has mounts of type virtiofs", hint=MISSING_HINT)


def value(text: str) -> str:
    """Return `text` as the value of an option of QEMU, where a comma must be doubled."""
    return text.replace(",", ",,")


@cache
def _known(path: str) -> Program:
    from ...host.run import MERGED, run

    said = run([path, "--help"], stderr=MERGED, timeout_s=_HELP_TIMEOUT_S).stdout
    return Program(path, in_c=b"--shared-dir" not in said, can_readonly=b"--readonly" in said)


def _serve(program: Program, mount: Mount, socket: Path) -> list[str]:
    """Return the command line that serves `mount` on `socket`."""
    location = mount.location
    if not program.in_c:
        command = [program.path, "--log-level", "error", "--socket-path", str(socket), "--shared-dir", location]
    elif os.geteuid() != 0:
        raise HostError(f"{program.path} can be run by root only", hint=INSTEAD)
    else:
        escaped = location.replace("\\", "\\\\").replace(",", "\\,")
        command = [program.path, f"--socket-path={socket}", "-o", f"log_level=err,source={escaped}"]
    if mount.writable:
        return command
    if program.can_readonly:
        return [*command, "--readonly"]
    if os.geteuid() != 0:
        raise HostError(
            f"{program.path} cannot keep a guest from writing to {location}; mounts of type 9p can", hint=INSTEAD
        )
    # In its own mount namespace the folder is read-only, so the daemon cannot write to it either.
    return ["unshare", "--mount", "sh", "-c", 'mount -o bind,ro "$0" "$0" && exec "$@"', location, *command]


def _served(site: Site) -> list[tuple[Path, Mount]]:
    """Return the mounts that a daemon serves, each after its socket."""
    return [(_socket(site, number), it) for number, it in enumerate(site.spec.mounts) if it.type == "virtiofs"]


def _socket(site: Site, number: int) -> Path:
    return site.runtime / f"mount{number}.sock"
