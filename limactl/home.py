"""LIMA_HOME: where embedders look for files, and where the instances behind them are kept.

    LIMA_HOME and INTERLOCK_HOME set   instances in INTERLOCK_HOME, the files below in LIMA_HOME
    LIMA_HOME set                      instances in LIMA_HOME/_interlock
    otherwise                          instances where `interlock` keeps them, the files in `lima` beside them

    LIMA_HOME/
    ├── NAME/               one for each instance, written for embedders; a start does not read it
    │   ├── interlock       a link to the instance's own directory; it marks this folder as ours
    │   ├── lima.yaml       the complete template that it was created from, with the changes of `edit`; or its spec
    │   ├── lima-version    the version of limactl that this one stands in for
    │   ├── protected       exists while the instance is protected
    │   ├── ssh.config      written once it runs: with it `ssh -F` reaches the instance as lima-NAME
    │   └── *.log           links to the instance's logs
    ├── _config/user        a link to the private key of this home, and user.pub to the public one
    └── _disks/NAME/        datadisk, a link to the disk's file; in_use_by, a link to the instance that has it attached

Commands update these files, so instances that `interlock` made, started or deleted show up here with the next command
that looks at them. A folder without the link `interlock` is an instance of Lima's own: it is left alone, and no other
instance can take its name.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidTemplateError, UsageError
from ..host.files import make_private_directory, remove_tree, write_whole
from ..host.home import Home
from .version import LIMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..api import Interlock
    from ..creation.templates import Templates
    from ..fsm.records import Status
    from ..fsm.spec import Spec

MARK = "interlock"
CONFIG = "lima.yaml"
SSH_CONFIG = "ssh.config"
PROTECTED = "protected"
VERSION = "lima-version"
_DISK = "datadisk"

ADDRESS = "127.0.0.1"
"""The address at which ssh reaches every guest."""


class LimaHome:
    """The folder LIMA_HOME, and the home of the instances that it shows."""

    def __init__(self) -> None:
        """Find both from the environment variables. Nothing is created yet."""
        given = os.environ.get("LIMA_HOME", "")
        self.home = Home.from_environment()
        if given:
            self.root = Path(os.path.realpath(os.path.expanduser(given)))  # noqa: PTH111 - Path's own raises
            if not os.environ.get("INTERLOCK_HOME"):
                self.home = self.home._replace(root=self.root / "_interlock")
        else:
            self.root = self.home.root / "lima"

    def directory(self, name: str) -> Path:
        """Return the folder of the instance `name` in LIMA_HOME."""
        return self.root / name

    def is_foreign(self, name: str) -> bool:
        """Return whether `name` is an instance of Lima's own, which we must not touch."""
        folder = f"{self.root}/{name}"
        return os.path.lexists(f"{folder}/{CONFIG}") and not os.path.lexists(f"{folder}/{MARK}")

    def foreign(self) -> list[str]:
        """Return the names of the instances of Lima's own, sorted."""
        return [name for name in self._folders() if self.is_foreign(name)]

    def check_free(self, name: str) -> None:
        """Raise UsageError if an instance of Lima's own has the name."""
        if self.is_foreign(name):
            raise UsageError(f'instance "{name}" already exists ("{self.directory(name)}"), made by Lima itself')

    def write(self, status: "Status", template: str | None = None) -> None:
        """Write the folder of the instance of `status`; lima.yaml is `template`, or is made from the spec."""
        name, folder = status.name, self.directory(status.name)
        make_private_directory(folder)
        self._link_to(status)
        _write(folder / VERSION, LIMA_VERSION + "\n")
        text = template if template is not None else json.dumps(config(status), indent=2) + "\n"
        _write(folder / CONFIG, text)
        os.utime(folder / CONFIG, ns=(_created_ns(status), _created_ns(status)))
        key = make_private_directory(self.root / "_config") / "user"
        _link(key, self.home.keys / "user" / "id_ed25519")
        _link(key.with_suffix(".pub"), self.home.keys / "user" / "id_ed25519.pub")
        self._write_protection(name, protected=status.protected)

    def move(self, name: str, status: "Status") -> None:
        """Rename the folder of the instance that was called `name` to the name that it has in `status`."""
        folder = self.directory(status.name)
        self.remove(status.name)  # left by a deleted instance of that name
        with suppress(FileNotFoundError):
            self.directory(name).rename(folder)
            (folder / SSH_CONFIG).unlink(missing_ok=True)
            self._link_to(status)

    def clone(self, original: "Status", status: "Status") -> None:
        """Write the folder of the instance of `status`, a clone of `original`, with the original's lima.yaml."""
        text = None
        if not self.was_edited(original):
            with suppress(OSError):
                text = (self.directory(original.name) / CONFIG).read_text(encoding="utf-8")
        self.write(status, text)

    def edit(self, status: "Status", templates: "Templates", edits: "Sequence[str]") -> None:
        """Write the changes of `edits` into lima.yaml of the instance, unless somebody else has changed the file."""
        place = self.directory(status.name) / CONFIG
        if not place.exists() or self.was_edited(status):
            return
        text = None
        with suppress(InvalidTemplateError):  # a lima.yaml made from a spec names no image
            text = templates.dump(templates.parse(templates.find(str(place)), edits))
        self.write(status, text)

    def refresh(self, status: "Status", vms: "Interlock") -> None:
        """Update the folder of the instance to `status`; write it if it does not exist yet."""
        name = status.name
        folder = f"{self.root}/{name}"
        if status.damage or not status.spec or self.is_foreign(name):
            return
        if not os.path.lexists(f"{folder}/{MARK}"):
            self.write(status)
        elif os.path.lexists(f"{folder}/{PROTECTED}") != status.protected:
            self._write_protection(name, protected=status.protected)
        port = status.observation.ssh_port if status.observation and status.observation.alive else None
        if port and not status.operation:
            self._write_ssh_config(status, vms, port)

    def was_edited(self, status: "Status") -> bool:
        """Return whether somebody has changed lima.yaml since the instance was created, without opening the file."""
        with suppress(OSError):
            return (self.directory(status.name) / CONFIG).stat().st_mtime_ns != _created_ns(status)
        return False

    def remove(self, name: str) -> None:
        """Remove the folder of the instance `name`, which no longer exists."""
        if not self.is_foreign(name):
            remove_tree(self.directory(name))

    def sweep(self, names: "set[str]") -> None:
        """Remove the folders of instances that no longer exist, which are all except `names`."""
        for name in self._folders():
            if name not in names and (self.directory(name) / MARK).is_symlink():
                remove_tree(self.directory(name))

    def show_disks(self, disks: "Mapping[str, tuple[Path, Sequence[str]]]") -> None:
        """Update `_disks` to `disks`: name → the disk's file, and the instances that have it attached."""
        shown = self.root / "_disks"
        with suppress(FileNotFoundError):
            for folder in list(shown.iterdir()):
                if folder.name not in disks and (folder / _DISK).is_symlink():
                    remove_tree(folder)
        for name, (path, instances) in disks.items():
            folder = make_private_directory(shown / name)
            _link(folder / _DISK, path)
            if instances:
                _link(folder / "in_use_by", self.directory(instances[0]))
            else:
                (folder / "in_use_by").unlink(missing_ok=True)

    def _link_to(self, status: "Status") -> None:
        """Link the folder of the instance to the instance's own directory, and to the logs there."""
        folder = self.directory(status.name)
        _link(folder / MARK, status.directory)
        for log in ("serial", "qemu"):
            _link(folder / f"{log}.log", status.directory / f"{log}.log")

    def _folders(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.root) if name[0] not in "._")  # noqa: PTH208
        return []

    def _write_protection(self, name: str, *, protected: bool) -> None:
        mark = self.directory(name) / PROTECTED
        if protected:
            mark.touch(mode=0o400)
        else:
            mark.unlink(missing_ok=True)

    def ssh_config_at_rest(self, name: str, spec: "Spec") -> str:
        """Return what is known of a stopped instance's ssh_config(5); the port is 0 unless its spec sets one."""
        options = {
            "HostName": ADDRESS,
            "Port": spec.ssh_port,
            "User": spec.user,
            "IdentityFile": f'"{self.root / "_config" / "user"}"',
            "IdentitiesOnly": "yes",
        }
        return "".join([f"Host {host_name(name)}\n", *(f"  {key} {value}\n" for key, value in options.items())])

    def _write_ssh_config(self, status: "Status", vms: "Interlock", port: int) -> None:
        place = self.directory(status.name) / SSH_CONFIG
        with suppress(OSError):
            if f"  Port {port}\n" in place.read_text():
                return
        write_whole(place, ssh_config(vms, status.name).encode())


def ssh_config(vms: "Interlock", name: str) -> str:
    """Return the ssh_config(5) with which ssh reaches the running instance `name` under Lima's name for it."""
    text = vms.ssh_config(name).read_text()
    return text.replace(f"Host {name}\n", f"Host {host_name(name)}\n", 1)


def host_name(name: str) -> str:
    """Return Lima's name for the instance `name` in ssh.config, such as `lima-web`."""
    return "lima-" + name.replace(".", "-").replace("_", "-")


def config(status: "Status") -> dict[str, Any]:
    """Return the spec of the instance with the keys of Lima's templates; empty without a spec."""
    spec = status.spec
    if spec is None:
        return {}
    return {
        "vmType": spec.driver,
        "os": "Linux",
        "arch": spec.arch,
        "cpus": spec.cpus,
        "memory": in_units(spec.memory_bytes),
        "disk": in_units(spec.disk_bytes),
        "mounts": [
            {"location": it.location, "mountPoint": it.mount_point, "writable": it.writable} for it in spec.mounts
        ],
        **({"mountType": spec.mounts[0].type} if spec.mounts else {}),
        "additionalDisks": [{"name": disk.name, "format": True} for disk in spec.disks],
        "ssh": {
            "localPort": spec.ssh_port,
            "forwardAgent": spec.forward_agent,
            "forwardX11": spec.forward_x11,
            "forwardX11Trusted": spec.forward_x11_trusted,
        },
        "portForwards": [_forward(it) for it in spec.forwards],
        **({"timezone": spec.timezone} if spec.timezone else {}),
        **({"message": spec.message} if spec.message else {}),
        "user": {"name": spec.user},
    }


def _forward(forward: Any) -> dict[str, Any]:
    """Return one port forward with the keys of a template."""
    named = {
        "guestIP": forward.guest_ip,
        "guestPort": forward.guest_port,
        "guestSocket": forward.guest_socket,
        "hostIP": forward.host_ip,
        "hostPort": forward.host_port,
        "hostSocket": forward.host_socket,
        "proto": forward.proto,
        "reverse": forward.reverse,
    }
    return {key: value for key, value in named.items() if value}


def in_units(number: int) -> str:
    """Return a size as Lima writes it: `512MiB`, `1.5GiB`."""
    from ..host.sizes import in_words

    return in_words(number).replace(" ", "")


def _created_ns(status: "Status") -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(status.spec.created_at).timestamp()) * 10**9 if status.spec else 0


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode())


def _link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`."""
    with suppress(OSError):
        if path.readlink() == target:
            return
    with suppress(FileNotFoundError):
        path.unlink()
    path.symlink_to(target)
