"""What an image is built from: which builder, which release of Debian, and what was added."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...errors import ImageError
from ..source import BUILT_HERE
from ..store import NAME_LENGTH, Image, tagged
from .packages import ARCHES, RELEASE

_SUITE = re.compile(r"[a-z][a-z0-9-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""Source: Debian Policy, 5.6.1 (names of packages)."""

_SCRIPT_TAG_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """An order to a builder."""

    name: str
    """The builder's name: one of BUILT_HERE."""
    arch: str
    suite: str = RELEASE
    """Debian's code name of a release, or `sid`."""
    packages: tuple[str, ...] = ()
    """Debian packages to add to the builder's own."""
    script: bytes | None = None
    """Run by root in the new system at the end; one without a `#!` line is read by sh."""

    @property
    def is_plain(self) -> bool:
        """True when nothing was added or changed: only such an image has the builder's own name."""
        return self == Recipe(self.name, self.arch)

    @property
    def default_name(self) -> str:
        """A name made from the differences: `debian-trixie`, `debian-nginx-curl`, `debian-4f2a9c11` with a script."""
        parts = [self.name, *([self.suite] if self.suite != RELEASE else []), *self.packages]
        parts += [hashlib.sha256(self.script).hexdigest()[:_SCRIPT_TAG_LENGTH]] if self.script is not None else []
        name = re.sub(r"[^a-z0-9-]", "-", "-".join(parts))
        return name if len(name) <= NAME_LENGTH else tagged(name, self.to_json())

    def check(self) -> None:
        """Raise ImageError for what no builder could make, before anything is downloaded."""
        if self.name not in BUILT_HERE:
            raise ImageError(
                f"the store has no image {self.name!r}, and there is no recipe for it; "
                f"recipes: {', '.join(BUILT_HERE)}",
                hint="interlock image list",
            )
        if self.arch not in ARCHES:
            raise ImageError(f"{self.name} cannot be built for {self.arch!r}, only for {' and '.join(ARCHES)}")
        if not _SUITE.fullmatch(self.suite):
            raise ImageError(f"{self.suite!r} is not the name of a release of Debian, such as bookworm or trixie")
        for package in self.packages:
            if not _PACKAGE.fullmatch(package):
                raise ImageError(f"{package!r} is not the name of a Debian package")
        if self.name == "tiny" and (self.packages or self.script is not None):
            raise ImageError(
                "tiny takes no packages and no script: it has no package manager, and building it runs nothing in it",
                hint=" ".join(("interlock image build debian", *(f"--package {name}" for name in self.packages))),
            )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe's form in the manifest, `Image.made_of`, with the digest of the script."""
        return {
            "recipe": self.name,
            "suite": self.suite,
            "packages": list(self.packages),
            "script": None if self.script is None else f"sha256:{hashlib.sha256(self.script).hexdigest()}",
        }

    def image(
        self,
        name: str,
        *,
        boot: tuple[str, ...],
        first_boot: tuple[str, ...],
        kernel_arguments: str,
        programs_suite: str | None = None,
        packages: Mapping[str, str] | None = None,
    ) -> Image:
        """Return the image that was just built from this recipe, without its files; `packages` are name → version.

        `programs_suite` is the release of everything except the kernel, if it differs from the kernel's.
        """
        suites = dict.fromkeys((self.suite, programs_suite or self.suite))
        return Image(
            name=name,
            arch=self.arch,
            kind="built",
            origin=f"built from Debian {' and '.join(suites)}",
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            boot=boot,
            first_boot=first_boot,
            kernel_arguments=kernel_arguments,
            made_of=self.to_json(),
            packages=packages or {},
        )
