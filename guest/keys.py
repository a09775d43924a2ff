"""ssh keys: the user key with which Interlock logs in, and the host keys by which guests are recognised.

A guest's host key is made on the host. Under emulation a guest would need ten seconds to make its own, and the first
connection would have to trust that key unseen.
"""

import errno
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import NamedTuple

from ..errors import DriverError
from ..host.files import PRIVATE_UMASK, make_private_directory, publish, read_own
from ..host.run import run
from .ssh import HOST_KEY_ALIAS

USER_KEY = Path("user/id_ed25519")
"""The private key, below the folder of keys, for `ssh -i`. The public half is beside it, as `.pub`."""


_MAGIC = b"openssh-key-v1\0"


class KeyPair(NamedTuple):
    """An ed25519 pair, each half in OpenSSH's file format."""

    private: bytes
    public: bytes


def user_key(keys_dir: Path) -> KeyPair:
    """Return the key with which Interlock logs in: `USER_KEY` below `keys_dir`, made if it is missing.

    If two processes make it at once, both return the same key: the pair lies in a folder of its own, which appears by a
    rename, and a rename onto a non-empty folder fails.
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
    """Return a fresh pair for a guest's sshd. It is on disk only briefly, in a private folder."""
    with tempfile.TemporaryDirectory(prefix="interlock-") as scratch:
        path = Path(scratch, "ssh_host_ed25519_key")
        _generate(path, "")
        return _read(path)


def in_dropbears_form(private: bytes) -> bytes:
    """Return an ed25519 private key, which OpenSSH wrote without a passphrase, in dropbear's format.

    Raises ValueError for any other key.

    Source: OpenSSH, PROTOCOL.key; dropbear, src/ed25519.c, buf_put_ed25519_priv_key.
    """
    lines = private.strip().splitlines()
    rest = b64decode(b"".join(lines[1:-1]))
    if not rest.startswith(_MAGIC):
        raise ValueError("it is not an OpenSSH key")
    rest = rest[len(_MAGIC) :]
    fields = []
    for _ in range(3):
        field, rest = _string(rest)
        fields.append(field)
    _, rest = _string(rest[4:])
    secret, _ = _string(rest)
    kind, rest = _string(secret[8:])
    _, rest = _string(rest)
    pair, _ = _string(rest)
    if fields[0] != b"none" or kind != b"ssh-ed25519":
        raise ValueError("it is not an ed25519 key without a passphrase")
    return b"".join(len(it).to_bytes(4) + it for it in (kind, pair))


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Return the string with which `data` begins, and the rest. Source: RFC 4251, section 5."""
    end = 4 + int.from_bytes(data[:4])
    return data[4:end], data[end:]


def pin(host_key: KeyPair) -> bytes:
    """Return the known_hosts line for `host_key`, under an alias, so that it fits any port and name."""
    kind, key = host_key.public.split()[:2]
    return b" ".join((HOST_KEY_ALIAS.encode(), kind, key)) + b"\n"


def _generate(path: Path, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    ended = run(command, umask=PRIVATE_UMASK)
    if ended.status:
        raise DriverError(f"ssh-keygen could not make {path.name}", details=ended.words)


def _read(path: Path) -> KeyPair:
    return KeyPair(read_own(path), read_own(path.with_name(path.name + ".pub")))
