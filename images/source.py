"""Where an image can come from: the record that `obtain` is given.

Source("build:debian", "x86_64")                                  an image that is, or was, built here
Source("https://example.org/a.qcow2", "x86_64", "sha256:...")     a cloud image that has a boot loader
Source(..., kernel=Kernel("https://...", None, "root=LABEL=..."), initrd=Place("https://..."))
                                                                  one that QEMU can also boot without that loader
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ..errors import ImageError

BUILD = "build:"

BUILT_HERE = ("debian", "tiny")
"""The images that can be built on this host (builders/). No other image can have one of these names."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_CD = re.compile(r"\.iso(\.(gz|bz2|xz|zst))?\Z", re.IGNORECASE)
_SCHEMES = ("http", "https", "file")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file lies."""

    location: str
    """A URL (http, https, file) or an absolute path."""
    digest: str | None = None
    """The digest that its publisher states: `sha256:` or `sha512:` and lowercase hexadecimal digits. It is that of the
    file as published, compressed or not."""

    @property
    def path(self) -> Path | None:
        """The file on this host; None if it has to be downloaded."""
        parts = urlsplit(self.location)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        return Path(self.location) if self.location.startswith("/") else None

    @property
    def shown(self) -> str:
        """The location without user and password, for people, logs and manifests; images are found by it."""
        parts = urlsplit(self.location)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host)) if host != parts.netloc else self.location

    @property
    def file_name(self) -> str:
        """The last part of the location: a readable name, but not a unique one."""
        return unquote(urlsplit(self.location).path if self.path is None else str(self.path)).rpartition("/")[2]

    def check(self) -> None:
        """Raise ImageError for a location or a digest that could never lead to a file."""
        scheme = "file" if self.location.startswith("/") else self.location.partition(":")[0].lower()
        if scheme not in _SCHEMES:
            raise ImageError(f"{self.location!r} is neither a URL nor an absolute path")
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise ImageError(
                f"{self.digest!r} is not a digest of {self.shown}: "
                "expected sha256: or sha512: and the lowercase hexadecimal digits"
            )


@dataclass(frozen=True, slots=True)
class Kernel(Place):
    """A kernel that boots the disk of an image, and the command line that it boots with."""

    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One place an image can come from."""

    location: str
    """`build:NAME`, or the location of a disk (qcow2 or raw) or a CD (`.iso`), as in Place; it may be compressed."""
    arch: str
    """x86_64 or aarch64."""
    digest: str | None = None
    kernel: Kernel | None = None
    initrd: Place | None = None

    @property
    def build(self) -> str | None:
        """The name of an image that is built here, or was imported under that name; None for a download or a copy."""
        return self.location.removeprefix(BUILD) if self.location.startswith(BUILD) else None

    @property
    def shown(self) -> str:
        """The location as people see it."""
        return Place(self.location).shown

    @property
    def places(self) -> dict[str, Place]:
        """The files by role, as in `Image.files`; empty for an image that is built."""
        if self.build is not None:
            return {}
        content = Place(self.location, self.digest)
        role = "cd" if _CD.search(content.file_name) else "disk"
        found = {role: content, "kernel": self.kernel, "initrd": self.initrd}
        return {role: place for role, place in found.items() if place}

    @property
    def kernel_arguments(self) -> str:
        return self.kernel.arguments if self.kernel else ""

    def check(self) -> None:
        """Raise ImageError if this source can never give an image, before anything is downloaded."""
        if self.build is not None:
            if self.digest or self.kernel or self.initrd:
                raise ImageError(f"{self.location} is built here: it has no digest, kernel or initrd of its own")
            return
        if self.initrd and not self.kernel:
            raise ImageError(f"{self.shown} has an initrd without a kernel")
        for place in self.places.values():
            place.check()
        if self.kernel and "cd" in self.places:
            raise ImageError(f"{self.shown} is the image of a CD, which boots by itself: it takes no separate kernel")
