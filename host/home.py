"""Where everything is on disk."""

import os
import re
import shlex
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..errors import DamagedError, HostError
from .files import make_private_directory

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAME_WORDS = "names have 1 to 63 letters, digits, '.', '_' and '-', and begin with a letter or digit"
"""Valid names of instances and disks; in words for the message that refuses a name."""

IMAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Valid names of images, by which templates find them, too."""


class Home(NamedTuple):
    """The folder with everything that Interlock keeps, and the folder for what a reboot must clear.

        root/                       $INTERLOCK_HOME, else $XDG_DATA_HOME/interlock; 0700
        ├── instances/
        │   ├── NAME/               appears by one rename at the end of create, disappears by one at the end of delete
        │   │   ├── spec.json       the machine, resolved; replaced by edit
        │   │   ├── journal.jsonl   what happened to it; appended to, under the lock
        │   │   └── ...             the driver's files: disk, seed, firmware, keys, logs
        │   ├── .creating/NAME/     being created: removed by the next command if its creator died
        │   └── .deleting/NAME/     being deleted: the same
        ├── images/                 immutable, by digest; instances hold hard links, so it may be emptied
        ├── disks/                  disks that outlive instances; those hold hard links
        ├── clusters/NAME.yaml      optional, written by the user: how a cluster is reached, and its secret; 0600
        ├── keys/                   the user's key pair, copied into new instances
        ├── keeper/                 the keeper's lock, calls and log (`keeper.calls`)
        ├── defaults.yaml           optional, written by the user: defaults for templates; only create reads it
        └── locks/NAME              flock(2), held while NAME is worked on; removed with the instance
        runtime/<12 hex digits>/    sockets of one instance, under a short name: a socket's path ends at 107 bytes
        └── instance                a link to the instance's directory: if that is gone, nothing needs the sockets

    Reading needs no lock. Writing to an instance needs its lock. The image store has its own lock. Two hosts cannot
    share a home over a network file system: neither flock nor pids work across hosts.
    """

    root: Path
    runtime: Path

    @classmethod
    def from_environment(cls) -> Self:
        """Return the home that $INTERLOCK_HOME, $XDG_DATA_HOME and $XDG_RUNTIME_DIR name. Creates nothing.

        Raises HostError if none of them nor $HOME is set and the user has no account.
        """
        given = os.environ.get("INTERLOCK_HOME")
        return cls.at(
            Path(given) if given else (_from_xdg("XDG_DATA_HOME") or user_home() / ".local" / "share") / "interlock"
        )

    @classmethod
    def at(cls, root: Path) -> Self:
        """Return the home in the folder `root`, with its sockets where the environment says. Creates nothing."""
        return cls(root=root.absolute(), runtime=_runtime_root())

    @property
    def instances(self) -> Path:
        return self.root / _INSTANCES

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def defaults(self) -> Path:
        """A template with defaults for all others; it may be missing."""
        return self.root / "defaults.yaml"

    @property
    def clusters(self) -> Path:
        """The folder with a record of each cluster; it may be missing."""
        return self.root / "clusters"

    @property
    def key(self) -> str:
        """A short name that distinguishes this home from others in file names."""
        return short_name(self.root)

    def directory(self, name: str) -> Path:
        """Return the directory of the instance `name`, which need not exist."""
        return self.instances / name

    def exists(self, name: str) -> bool:
        """Return whether `name` has a directory; raises DamagedError for a file or a link in its place."""
        path = f"{self.instances}/{name}"
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(mode):
            raise DamagedError(f"{path}: not a directory")
        return True

    def names(self) -> list[str]:
        """Return the names of the instances that exist, sorted."""
        try:
            found = os.listdir(self.instances)  # noqa: PTH208 - `list` makes no more paths than it must
        except FileNotFoundError:
            return []
        return sorted(filter(NAME.fullmatch, found))

    def image_names(self) -> list[str]:
        """Return the names of the images in the store, sorted; of one for several architectures, the name once."""
        return sorted({path.name.rpartition(".")[0] for path in (self.images / "manifests").glob("[!.]*.*")})

    def disk_names(self) -> list[str]:
        """Return the names of the disks that outlive instances, sorted."""
        return sorted(path.parent.name for path in (self.root / "disks").glob("[!.]*/disk.*"))

    def creating(self, name: str) -> Path:
        """Return where `name` is built before it exists."""
        return self.instances / _CREATING / name

    def deleting(self, name: str) -> Path:
        """Return where `name` is moved to be removed."""
        return self.instances / ".deleting" / name

    def lock(self, name: str) -> Path:
        """Return the file whose lock guards `name`."""
        return self.root / "locks" / name

    def sockets(self, name: str) -> Path:
        """Return the runtime directory of `name`; no two homes share one."""
        return self.runtime / short_name(self.directory(name))

    def prepare(self) -> None:
        """Make the folders, private to their owner; raise HostError if others could write to the home."""
        make_private_directory(self.root)
        make_private_directory(self.runtime)
        self.check()
        for path in (self.instances / ".creating", self.instances / ".deleting", self.root / "locks"):
            make_private_directory(path)

    def check(self) -> None:
        """Raise HostError if others could replace what we are about to read, run or write to. Changes nothing."""
        for path, mend in ((self.root, "export INTERLOCK_HOME=~/interlock"), (self.runtime, _OWN_RUNTIME)):
            # Another user's link could lead to a folder of ours, so the link is checked too. Our own links are fine.
            for look in (path.lstat, path.stat):
                try:
                    seen = look()
                except FileNotFoundError:
                    break
                except OSError as error:
                    raise HostError(f"{path}: {error.strerror}", hint=mend) from error
                if seen.st_uid != os.geteuid():
                    raise HostError(f"{path} belongs to uid {seen.st_uid}, not to you (uid {os.geteuid()})", hint=mend)
            else:
                if seen.st_mode & _OTHERS_WRITE:
                    raise HostError(f"{path} can be written by others", hint=f"chmod 700 {shlex.quote(str(path))}")


def root_of(directory: Path) -> Path:
    """Return the root of the home of the instance in `directory`, which may also be in `.creating` or `.deleting`.

    Raises HostError for a folder that is in no home.
    """
    for folder in directory.parents:
        if folder.name == _INSTANCES:
            return folder.parent
    raise HostError(f"{directory} is not the directory of an instance")


def is_unfinished(directory: Path) -> bool:
    """Return whether the instance in `directory` is still being created, so that nobody has seen it yet."""
    return directory.parent.name == _CREATING


def make_runtime(runtime: Path, directory: Path) -> None:
    """Make the folder `runtime` for the sockets of the instance in `directory`."""
    make_private_directory(runtime)
    with suppress(FileExistsError):
        (runtime / _OWNER).symlink_to(directory)


def owner(runtime: Path) -> Path | None:
    """Return the directory of the instance whose sockets are in `runtime`; None if `make_runtime` did not make it."""
    try:
        directory = (runtime / _OWNER).readlink()
    except OSError:
        return None
    return directory if runtime.name == short_name(directory) else None


def neighbours(runtime_root: Path, directory: Path) -> Path:
    """Return the runtime folder that the instance in `directory` shares with the other instances of its home only."""
    return runtime_root / f"net-{short_name(directory.parent)}"


_CREATING = ".creating"
_INSTANCES = "instances"

_OWNER = "instance"

_OWN_RUNTIME = 'export XDG_RUNTIME_DIR="$(mktemp -d)"'


def _from_xdg(variable: str) -> Path | None:
    """Return the folder that `variable` names; a relative path counts as unset. Source: XDG Base Directory, Basics."""
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else None  # noqa: PTH117 - `list` makes no more paths than it must


def config_folder() -> Path:
    """Return the folder of what the user writes about Interlock: in XDG_CONFIG_HOME. Creates nothing."""
    return (_from_xdg("XDG_CONFIG_HOME") or user_home() / ".config") / "interlock"


def user_home() -> Path:
    """Return the current user's home; raises HostError if neither $HOME nor an account names one."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise HostError(
            f"HOME is not set, and uid {os.geteuid()} has no account that names a home",
            hint='export HOME="$(mktemp -d)"',
        ) from error


def short_name(what: str | Path) -> str:
    """Return 12 hex digits that stand for the path or text `what`: a socket's path ends at 107 bytes."""
    return str(_sha256()(os.fsencode(what)).hexdigest())[:12]


@cache
def _sha256() -> Any:
    """Return the hash's constructor, from the module below `hashlib`, as in the standard library's `random`.

    hashlib loads OpenSSL, which costs a third of a bare interpreter's start. Looking for a module that is not there
    costs a third of a millisecond, and `list` asks for one digest of each instance.
    """
    for module in ("_sha2", "_sha256"):  # Python 3.12 and later, and 3.11
        with suppress(ImportError):
            return __import__(module).sha256
    from hashlib import sha256

    return sha256


def _runtime_root() -> Path:
    """Return the folder for sockets: the session's if it belongs to us, else one in /tmp.

    After `su`, the variable still names the folder of the user who logged in. XDG says that the folder is 0700; some
    hosts make it 0755 or 0777 (WSL does). A folder that only its owner can write to is safe. One that others can write
    to is used only if it already holds a folder of ours: version 0.1.0 put sockets there, and those machines may
    still run. Source: XDG Base Directory, Environment variables.
    """
    session = _from_xdg("XDG_RUNTIME_DIR") or Path(f"/run/user/{os.geteuid()}")
    place = session / "interlock"
    with suppress(OSError):
        seen = session.stat()
        if _is_ours(seen) and (not seen.st_mode & _OTHERS_WRITE or _is_ours(place.lstat())):
            return place
    return Path("/tmp") / f"interlock-{os.geteuid()}"  # noqa: S108 - `prepare` refuses one that is not ours


_OTHERS_WRITE = 0o022


def _is_ours(seen: os.stat_result) -> bool:
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid()
