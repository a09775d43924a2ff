"""What this driver needs of a host, for `interlock doctor`."""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InterlockError
from ..contract import Check
from . import capabilities, firmware, mounts

_PROGRAMS = {
    "qemu-img": "apt install qemu-utils",
    "setsid": "apt install util-linux",
    "ssh": "apt install openssh-client",
}


def checks(runtime: Path, arches: Sequence[str]) -> list[Check]:
    """Return the findings about this host; what QEMU and KVM can do is cached in `runtime`."""
    return [*_programs(), *(check for arch in arches for check in _arch(runtime, arch)), _virtiofsd()]


def _programs() -> Iterator[Check]:
    for program, mend in _PROGRAMS.items():
        path = shutil.which(program)
        yield Check(program, ok=path is not None, finding=path or "not on PATH", mend=None if path else mend)


def _virtiofsd() -> Check:
    """Return whether mounts of type virtiofs work; those of type 9p need only QEMU."""
    try:
        found = mounts.find()
    except InterlockError:
        return Check("virtiofsd", ok=False, finding="not installed", mend=mounts.MISSING_HINT, essential=False)
    if found.in_c and os.geteuid() != 0:
        finding = f"{found.path} can be run by root only; mounts of type 9p need no program"
        return Check("virtiofsd", ok=False, finding=finding, mend=mounts.INSTEAD, essential=False)
    return Check("virtiofsd", ok=True, finding=found.path, essential=False)


def _arch(runtime: Path, arch: str) -> Iterator[Check]:
    """Yield what guests of `arch` need; it is not essential for another architecture than the host's."""
    native = arch == platform.machine()
    try:
        able = capabilities.capabilities(runtime, arch)
    except InterlockError as err:
        # QEMU's last words say why.
        finding = ": ".join([err.message, *err.details[-1:]])
        yield Check(f"qemu {arch}", ok=False, finding=finding, mend=err.hint, essential=native)
        return
    finding = f"QEMU {able.version}, machine {able.machine}"
    if able.threads == "single":
        finding += "; emulates on one core"
    yield Check(f"qemu {arch}", ok=True, finding=finding, essential=native)
    try:
        found = firmware.find(arch, able.machine)
        yield Check(f"firmware {arch}", ok=True, finding=str(found.code.path), essential=False)
    except InterlockError as err:
        yield Check(f"firmware {arch}", ok=False, finding=err.message, mend=err.hint, essential=False)
    if native:
        chosen = capabilities.acceleration(runtime, arch)
        yield Check("kvm", ok=chosen.name == "kvm", finding=chosen.reason, mend=chosen.mend, essential=False)
