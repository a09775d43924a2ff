"""ssh keys: the one that Interlock logs in with, and the one by which a guest proves who it is.

A host key is made on the host and given to the guest: a guest that makes its own spends ten seconds of its first boot
on it under emulation, and whoever connects first must take it on trust.
"""

import errno
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..errors import DriverError
from ..host.files import PRIVATE_UMASK, make_private_directory, publish, read_own
from ..host.run import run

USER_KEY = Path("user/id_ed25519")
"""The private key, below the folder of keys: what `ssh -i` is given. Its public half lies beside it, as `.pub`."""


class KeyPair(NamedTuple):
    """An ed25519 pair, each half as OpenSSH keeps it in a file."""

    private: bytes
    public: bytes


def user_key(keys_dir: Path) -> KeyPair:
    """Return the key that Interlock logs in with: `USER_KEY` below `keys_dir`, made now if there is none.

    Of two processes that make it at once, one wins and both return the winner's: the pair lies in a folder of its own,
    which appears by one rename, and a rename onto a folder that holds something fails.
    """
    path = keys_dir / USER_KEY
    if not path.exists():
        make_private_directory(keys_dir)
        with tempfile.TemporaryDirectory(dir=keys_dir, prefix=".new-") as scratch:
            made = Path(scratch, "pair")
            made.mkdir(mode=0o700)
            _generate(made / path.name, "interlock")
            try:
                publish(made, path.parent)
            except OSError as err:
                if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    return _read(path)


def new_host_key() -> KeyPair:
    """Return a fresh pair for a guest's sshd. It is on disk for a moment only, in a folder that is ours alone."""
    with tempfile.TemporaryDirectory(prefix="interlock-") as scratch:
        path = Path(scratch, "ssh_host_ed25519_key")
        _generate(path, "")
        return _read(path)


def _generate(path: Path, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    ended = run(command, umask=PRIVATE_UMASK)
    if ended.status:
        raise DriverError(f"ssh-keygen could not make {path.name}", details=ended.words)


def _read(path: Path) -> KeyPair:
    return KeyPair(read_own(path), read_own(path.with_name(path.name + ".pub")))
