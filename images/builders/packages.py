"""The Debian packages that images are made from: where they come from, and what is in them.

mmdebstrap(1) finds, verifies and unpacks them without root, into a tar file that keeps owners and modes, so that an
ordinary user can build a root file system whose files belong to root.
"""

import io
import lzma
import os
import platform
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from ...errors import HostError, ImageError
from ...host.progress import Pace, Report
from ..tools import NEEDS, run

RELEASE = "bookworm"
"""The default release."""

_ROLLING = ("sid", "unstable", "testing", "experimental")
"""Suites that have neither updates nor a security archive."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Arch(NamedTuple):
    """The names of one architecture."""

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
    suite: str,
    variant: str,
    report: Report,
    hooks: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Make `tar` from `packages` of Debian's `suite` and their dependencies.

    The variant `extract` only unpacks, so it works for any architecture; other variants run the packages' own scripts,
    so they need this host's architecture. `report` is called with how many packages are done. `hooks` are mmdebstrap's
    customize hooks: shell with the new root in `$1`.
    """
    if not _KEYRING.exists():
        raise HostError(
            "the keys that Debian signs its packages with are not installed", hint=f"apt install {NEEDS[str(_KEYRING)]}"
        )
    if variant != "extract" and arch != platform.machine():
        raise HostError(f"an image of a whole Debian for {arch} is built on a host of that architecture")
    run(
        "mmdebstrap",
        "--verbose",
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
        suite,
        tar,
        *mirrors(Path("/etc"), suite),
        hear=Count(report, *_COUNTED[variant == "extract"]).hear,
    )


_COUNTED = {True: ("fetching packages", b"Get:"), False: ("installing packages", b"Setting up ")}
"""Whether packages are only unpacked → the words for the progress, and how a line about one package begins."""

_TENTHS = 10


class Count:
    """Reports how many packages are done, at every tenth, from the output of apt-get(8) and dpkg(1)."""

    def __init__(self, report: Report, doing: str, begins: bytes) -> None:
        self._report = report
        self._doing = doing
        self._begins = begins
        self._pace = Pace()
        self._rest = b""
        self._done = self._all = self._told = 0

    def hear(self, piece: bytes) -> None:
        """Take the next piece of output."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-_LINE_BYTES:]
        for line in lines:
            if found := _NEW.search(line):
                self._all += int(found[1])
                self._told = self._tenth()
            elif self._all and line.startswith(self._begins):  # earlier lines are about lists
                self._done += 1
            if self._told < self._tenth() <= _TENTHS:
                self._told = self._tenth()
                left = self._pace.left(self._done, self._all)
                self._report(f"{self._doing}: {self._done} of {self._all}{left}")

    def _tenth(self) -> int:
        return _TENTHS * self._done // self._all if self._all else 0


_NEW = re.compile(rb"(\d{1,6}) newly installed")
"""How apt announces the number of packages; mmdebstrap calls it twice: for the essential ones, and for the rest."""

_LINE_BYTES = 4096


def mirrors(etc: Path, suite: str) -> list[str]:
    """Return apt lines for `suite`, made from the host's own: a mirror that works here has other releases, too.

    Empty if the host does not run Debian. Only Debian's own suites count: third-party packages have no place in an
    image.
    """
    about = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', (etc / "os-release").read_text(), re.MULTILINE))
    release = about.get("VERSION_CODENAME", "")
    if about.get("ID") != "debian" or not release:
        return []
    ours = {release: suite}
    if suite not in _ROLLING:
        ours |= {f"{release}-{part}": f"{suite}-{part}" for part in ("updates", "security")}
    files = [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*"))]
    found = dict.fromkeys(offer for file in files if file.is_file() for offer in _offers(file))
    return [f"deb {uri} {ours[offered]} main" for uri, offered in found if offered in ours]


def _offers(file: Path) -> list[tuple[str, str]]:
    """Return (URI, suite) of each component `main` in `file`, in either of apt's two forms. Source: sources.list(5)."""
    offers = []
    if file.suffix == ".list":
        pattern = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(?:\S+\s+)*main\b")
        offers = [(match[1], match[2]) for line in file.read_text().splitlines() if (match := pattern.match(line))]
    elif file.suffix == ".sources":
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") == "yes":
                offers += [(u, s) for u in fields.get("URIs", "").split() for s in fields.get("Suites", "").split()]
    return offers


_MODULE = re.compile(r"(\.ko)\.xz$")


class Unpacked:
    """The content of a tar file that mmdebstrap made, by path without the leading slash.

    Debian's kernel modules are compressed since trixie; here they are decompressed, and their names lack the suffix.
    """

    def __init__(self, tar: Path) -> None:
        self._tar = tarfile.open(tar)  # noqa: SIM115 - closed by __exit__
        self._members = {_MODULE.sub(r"\1", member.name.removeprefix("./")): member for member in self._tar}

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
        """Return the one path that matches. Raises ImageError unless exactly one does."""
        found = self.matching(pattern)
        if len(found) != 1:
            raise ImageError(f"expected one {pattern} among the packages, found {len(found)}", details=found[:5])
        return found[0]

    def read(self, path: str) -> bytes:
        """Return the content of the file `path`, following symbolic links. Raises ImageError if it does not exist.

        A file that is not in /lib may be in /usr/lib, and likewise for other folders of /: an installed Debian merges
        them, but unpacked packages have their files in either place, as they were built.
        """
        for _ in range(8):
            member = self._members.get(path) or self._members.get(f"usr/{path}")
            if member is None:
                break
            if not member.issym():
                content = (self._tar.extractfile(member) or io.BytesIO()).read()
                return lzma.decompress(content) if _MODULE.search(member.name) else content
            target = member.linkname
            path = target[1:] if target.startswith("/") else os.path.normpath(f"{Path(path).parent}/{target}")
        raise ImageError(f"the packages have no {path}")

    def versions(self) -> dict[str, str]:
        """Return the version of each package that is installed, by name. Source: deb-control(5), dpkg's status file."""
        found = {}
        for stanza in self.read("var/lib/dpkg/status").decode().split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", stanza, re.MULTILINE))
            if fields.get("Status") == "install ok installed":
                found[fields["Package"]] = fields["Version"]
        return dict(sorted(found.items()))
