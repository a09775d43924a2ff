"""The host's programs with which images are made."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import HostError, ImageError
from ..host.bounds import Words, last_words
from ..host.run import MERGED
from ..host.run import run as run_on_host

NEEDS = {
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "newuidmap": "uidmap",
    "fakeroot": "fakeroot",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "mformat": "mtools",
    "mmd": "mtools",
    "mcopy": "mtools",
    "qemu-img": "qemu-utils",
}
"""What building images needs of the host, a program or a file, and the Debian package that has it."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""On Debian, PATH lacks sbin for ordinary users, but mke2fs and sfdisk are there, although they do not need root."""

_GRACE_S = 10.0
"""How long a cancelled program may clean up: mmdebstrap unmounts, and removes files of other owners."""


def missing() -> Iterator[tuple[str, str]]:
    """Yield (program or file, package) for each of `NEEDS` that this host lacks."""
    for need, package in NEEDS.items():
        if not (Path(need).exists() if need.startswith("/") else shutil.which(need, path=_PATH)):
            yield need, package


def run(
    *command: str | Path,
    stdin: str = "",
    env: dict[str, str] | None = None,
    hear: Callable[[bytes], None] = lambda _: None,
) -> str:
    """Return what `command` printed, once it has succeeded; long output is shortened in the middle.

    `hear` gets the output piece by piece, as it comes.

    Raises HostError naming the package if the program is missing, ImageError with its last lines if it fails.
    """
    program, *words = command
    if not shutil.which(program, path=_PATH):
        raise HostError(f"{program} is not installed", hint=f"apt install {NEEDS.get(str(program), program)}")
    said = Words()

    def both(piece: bytes) -> None:
        said.hear(piece)
        hear(piece)

    ended = run_on_host(
        [program, *words],
        stdin=stdin.encode(),
        stdout=both,
        stderr=MERGED,
        # C, so that messages can be searched for; the path, because programs call programs.
        env=os.environ | {"LC_ALL": "C", "PATH": _PATH} | (env or {}),
        grace_s=_GRACE_S,
    )
    if ended.status:
        raise ImageError(f"{program} failed (exit status {ended.status})", details=last_words(bytes(said)))
    return bytes(said).decode(errors="replace")
