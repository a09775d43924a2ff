"""A TPM 2.0, emulated by `swtpm`: a child of the hypervisor that dies with it.

    tpm/        in the instance's directory: what the TPM keeps, made at the first start

A copy of a machine gets a TPM of its own, because a TPM's secrets must not be copied. Source: QEMU, docs/specs/tpm.rst;
swtpm(8).
"""

import shutil

from ...errors import HostError
from ...fsm.spec import Spec
from ..contract import Site
from .hypervisor import Daemon
from .mounts import value

STATE = "tpm"

_SOCKET = "tpm.sock"
_DEVICES = {"x86_64": "tpm-crb", "aarch64": "tpm-tis-device"}


def check(spec: Spec) -> None:
    """Raise HostError where `spec` has a TPM and this host has no swtpm."""
    if spec.tpm and not shutil.which("swtpm"):
        raise HostError("swtpm is not installed, and the instance has a TPM", hint="apt install swtpm")


def daemons(site: Site) -> list[Daemon]:
    """Return what the hypervisor of `site` needs beside it for a TPM, if it has one."""
    if not site.spec.tpm:
        return []
    socket = site.runtime / _SOCKET
    command = [
        "swtpm", "socket", "--tpm2",
        "--tpmstate", f"dir={STATE},mode=0600",
        "--ctrl", f"type=unixio,path={socket},mode=0600",
    ]  # fmt: skip
    return [Daemon(socket, ["sh", "-c", f'mkdir -p -m 700 {STATE} && exec "$@"', "sh", *command])]


def arguments(site: Site) -> list[str]:
    """Return QEMU's options for the TPM of `site`; an empty list if it has no TPM."""
    if not site.spec.tpm:
        return []
    return [
        "-chardev", f"socket,id=tpm,path={value(str(site.runtime / _SOCKET))}",
        "-tpmdev", "emulator,id=tpm,chardev=tpm",
        "-device", f"{_DEVICES[site.spec.arch]},tpmdev=tpm",
    ]  # fmt: skip
