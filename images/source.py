"""Where an image can come from: the record that `obtain` is given.

Source("build:debian", "x86_64")                                  an image that is built here, or was
Source("https://example.org/a.qcow2", "x86_64", "sha256:...")     a cloud image that has a boot loader
Source(..., kernel=Kernel("https://...", None, "root=LABEL=..."), initrd=Place("https://..."))
                                                                  one that QEMU can also boot without it
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
    """What its publisher says it is: `sha256:` or `sha512:` and small hexadecimal digits. Of the file as published,
    compressed if it is."""

    @property
    def path(self) -> Path | None:
        """The file on this host; None when it is to be downloaded."""
        parts = urlsplit(self.location)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        return Path(self.location) if self.location.startswith("/") else None

    @property
    def shown(self) -> str:
        """The location without a password: what people, logs and manifests get to see, and what it is found by."""
        parts = urlsplit(self.location)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host)) if host != parts.netloc else self.location

    @property
    def file_name(self) -> str:
        """The last part of the location: a readable name, and no identity."""
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
    """A kernel beside the disk that belongs to it, and the command line that it boots with."""

    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One place an image can come from."""

    location: str
    """`build:NAME`; else as of a place: a disk in qcow2 or raw form, or a CD (`.iso`); it may be compressed."""
    arch: str
    """x86_64 or aarch64."""
    digest: str | None = None
    kernel: Kernel | None = None
    initrd: Place | None = None

    @property
    def build(self) -> str | None:
        """The name of an image that is built here or was imported under it; None for a download or a copy."""
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
        """Raise ImageError when it cannot give an image, before anything is downloaded."""
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
