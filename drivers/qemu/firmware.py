"""UEFI for machines that boot from their own disk: found on the host at creation and copied into the instance.

    firmware.code.fd       executed, never written
    firmware.vars.fd       the machine's boot variables: the guest writes here
    firmware.vars.new.fd   the package's original variables, to which `reset` returns

Code and variables belong together, so both are copied: an upgrade of the host's package changes no existing instance.

QEMU's firmware descriptors say which files a host has. Source: QEMU, docs/interop/firmware.json.
"""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import HostError
from . import disk

CODE = "firmware.code.fd"
VARIABLES = "firmware.vars.fd"
PRISTINE = "firmware.vars.new.fd"

DESCRIPTORS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
"""The administrator's folder comes first: a file there hides the package's of the same name."""

_PACKAGES = {"x86_64": "ovmf", "aarch64": "qemu-efi-aarch64"}

_UNWANTED = {"requires-smm", "secure-boot", "enrolled-keys"}
"""Features that need SMM in the machine, or a signed boot loader in the guest."""


class Image(NamedTuple):
    """A file of the host and its format (`raw` or `qcow2`)."""

    path: Path
    format: str


class Firmware(NamedTuple):
    """Code and variables that belong together."""

    code: Image
    variables: Image


def find(arch: str, machine: str) -> Firmware:
    """Return the host's plain UEFI for `machine` (`pc-q35-7.2`); raise HostError if none is installed."""
    for descriptor in _descriptors():
        if firmware := _match(descriptor, arch, machine):
            return firmware
    raise HostError(f"this host has no UEFI firmware for {arch} guests", hint=f"apt install {_PACKAGES[arch]}")


def install(directory: Path, firmware: Firmware) -> None:
    """Copy `firmware` into `directory`, as sparse raw files."""
    for image, name in ((firmware.code, CODE), (firmware.variables, PRISTINE)):
        _copy(directory, image, name)
    renew(directory)


def renew(directory: Path) -> None:
    """Restore the machine's variables to the package's."""
    _copy(directory, Image(Path(PRISTINE), "raw"), VARIABLES)


def _copy(directory: Path, image: Image, name: str) -> None:
    with disk.whole(directory, name) as fresh:
        disk.run_qemu_img(["convert", "-f", image.format, "-O", "raw", str(image.path), fresh], directory)


def _descriptors() -> Iterator[dict[str, Any]]:
    """Yield the host's descriptors in order of preference, which is that of their names."""
    files = {path.name: path for folder in reversed(DESCRIPTORS) for path in folder.glob("*.json")}
    for _, path in sorted(files.items()):
        yield json.loads(path.read_bytes() or b"{}")


def _match(descriptor: dict[str, Any], arch: str, machine: str) -> Firmware | None:
    """Return what `descriptor` describes if it is plain UEFI for `machine` whose files exist."""
    mapping = descriptor.get("mapping", {})
    if (
        "uefi" not in descriptor.get("interface-types", [])
        or mapping.get("device") != "flash"
        or mapping.get("mode", "split") != "split"
        or _UNWANTED & set(descriptor.get("features", []))
        or not any(
            target["architecture"] == arch and any(fnmatch(machine, glob) for glob in target["machines"])
            for target in descriptor.get("targets", [])
        )
    ):
        return None
    code, variables = (
        Image(Path(mapping[part]["filename"]), mapping[part]["format"]) for part in ("executable", "nvram-template")
    )
    return Firmware(code, variables) if code.path.exists() and variables.path.exists() else None
