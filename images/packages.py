"""Debian's packages as the material of images: where they come from, and what is in them.

mmdebstrap(1) finds, verifies and unpacks them without root, into a tar file that keeps owners and modes, so that an
ordinary user can build a root file system whose files belong to root.
"""

import io
import os
import platform
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ..fsm.errors import HostError, ImageError
from .run import NEEDS, run

RELEASE = "bookworm"
_SUITES = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Arch(NamedTuple):
    """What one architecture is called by those who name it differently."""

    debian: str
    triplet: str
    """The folder of its libraries. Source: Debian, Multiarch."""
    loader: str
    """The dynamic linker's path, fixed by the ABI."""
    console: str
    """The serial port of QEMU's machine."""
    efi: str
    """As in BOOTX64.EFI. Source: UEFI specification, 3.5.1.1."""


ARCHES = {
    "x86_64": Arch("amd64", "x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", "ttyS0", "x64"),
    "aarch64": Arch("arm64", "aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1", "ttyAMA0", "aa64"),
}


def bootstrap(
    tar: Path,
    arch: str,
    packages: Sequence[str],
    *,
    variant: str,
    hooks: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Make `tar` of `packages` and what they depend on.

    The variant `extract` only unpacks, hence works for any architecture; others run the packages' own scripts, hence
    need one that this host runs. `hooks` are mmdebstrap's customize hooks: shell with the new root in `$1`.
    """
    if not _KEYRING.exists():
        raise HostError(
            "the keys that Debian signs its packages with are not installed", hint=f"apt install {NEEDS[str(_KEYRING)]}"
        )
    if variant != "extract" and arch != platform.machine():
        raise HostError(f"an image of a whole Debian for {arch} is built on a host of that architecture")
    run(
        "mmdebstrap",
        "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
        f"--variant={variant}",
        f"--architectures={ARCHES[arch].debian}",
        f"--keyring={_KEYRING}",
        "--format=tar",
        f"--include={','.join(packages)}",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        *options,
        *(f"--customize-hook={hook}" for hook in hooks),
        RELEASE,
        tar,
        *mirrors(Path("/etc")),
    )


def mirrors(etc: Path) -> list[str]:
    """Return the host's own apt lines for `RELEASE`: the mirror that works here. Empty when it runs another system.

    Only Debian's own suites, because a third party's packages have no place in an image.
    """
    if f"VERSION_CODENAME={RELEASE}" not in (etc / "os-release").read_text().splitlines():
        return []
    files = [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*"))]
    found = dict.fromkeys(line for file in files if file.is_file() for line in _lines(file))
    return [f"deb {uri} {suite} main" for uri, suite in found]


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of what `file` offers of ours, in either of apt's two forms. Source: sources.list(5)."""
    if file.suffix == ".list":
        pattern = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(?:\S+\s+)*main\b")
        offers = [(match[1], match[2]) for line in file.read_text().splitlines() if (match := pattern.match(line))]
    elif file.suffix == ".sources":
        offers = []
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") == "yes":
                offers += [(u, s) for u in fields.get("URIs", "").split() for s in fields.get("Suites", "").split()]
    else:
        return
    yield from ((uri, suite) for uri, suite in offers if suite in _SUITES)


class Unpacked:
    """The content of a tar file that mmdebstrap made, by path without the leading slash."""

    def __init__(self, tar: Path) -> None:
        self._tar = tarfile.open(tar)  # noqa: SIM115 - closed by __exit__
        self._members = {member.name.removeprefix("./"): member for member in self._tar}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def matching(self, pattern: str) -> list[str]:
        """Return the paths that the regular expression matches as a whole, sorted."""
        return sorted(path for path in self._members if re.fullmatch(pattern, path))

    def only(self, pattern: str) -> str:
        """Return the one path that matches. Raises ImageError when there is none, or more."""
        found = self.matching(pattern)
        if len(found) != 1:
            raise ImageError(f"expected one {pattern} among the packages, found {len(found)}", details=found[:5])
        return found[0]

    def read(self, path: str) -> bytes:
        """Return the content of the file `path`, through symbolic links. Raises ImageError when it is not there.

        What is not in /lib may be in /usr/lib, and so for every folder of /: Debian makes them one when it installs,
        but packages are unpacked as they were built, on either side.
        """
        for _ in range(8):
            member = self._members.get(path) or self._members.get(f"usr/{path}")
            if member is None:
                break
            if not member.issym():
                return (self._tar.extractfile(member) or io.BytesIO()).read()
            target = member.linkname
            path = target[1:] if target.startswith("/") else os.path.normpath(f"{Path(path).parent}/{target}")
        raise ImageError(f"the packages have no {path}")
