"""The one place where this folder runs other programs."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import HostError, ImageError

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
"""What building images takes from the host, a program or a file, and the Debian package that has it."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""An ordinary user of Debian has no sbin on the path, and mke2fs and sfdisk lie there although they need no root."""

_LAST_LINES = 8


def missing() -> Iterator[tuple[str, str]]:
    """Yield (program or file, package) for each of `NEEDS` that this host lacks."""
    for need, package in NEEDS.items():
        if not (Path(need).exists() if need.startswith("/") else shutil.which(need, path=_PATH)):
            yield need, package


def run(*command: str | Path, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """Return what `command` printed, once it has succeeded; what it makes, it makes in files.

    Raises HostError naming the package when the program is not there, ImageError with its last lines when it fails.
    """
    words = [str(word) for word in command]
    program = words[0]
    found = shutil.which(program, path=_PATH)
    if not found:
        raise HostError(f"{program} is not installed", hint=f"apt install {NEEDS.get(program, program)}")
    done = subprocess.run(
        [found, *words[1:]],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # C, so that messages can be searched for; the path, because programs call programs.
        env=os.environ | {"LC_ALL": "C", "PATH": _PATH} | (env or {}),
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ImageError(f"{program} failed (exit status {done.returncode})", details=_last(done.stdout.splitlines()))
    return done.stdout


def _last(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()][-_LAST_LINES:]
