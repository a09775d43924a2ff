"""What this host's QEMU and KVM can do: asked of them, and remembered until they change.

    runtime/qemu-x86_64.json     what one QEMU can do: true for that binary (path, size, modification time)
    runtime/acceleration.json    the verdict on KVM: true for this boot of this kernel

They are in the runtime root, which a reboot clears; a missing or unreadable one is written again.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DriverError, HostError
from ...host.bounds import HEAD_BYTES
from ...host.files import make_private_directory, read_own, write_whole
from ...host.process import boot_id
from ...host.run import run
from . import kvm

_MACHINES = {"x86_64": "q35", "aarch64": "virt"}
"""The machine of each architecture; QEMU resolves the name to its newest version (`pc-q35-7.2`)."""

_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}

DEVICES = frozenset(
    {"pvpanic-pci", "virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "virtio-serial-pci", "vmgenid"}
)
"""Of QEMU's hundreds of devices, the ones that a machine of ours may have."""

_TIMEOUT_S = 20.0
"""QEMU answers in a tenth of a second, or later on a busy host."""


class Acceleration(NamedTuple):
    """How guest code is run, and why."""

    name: str
    """`kvm` or `tcg`."""
    reason: str
    mend: str | None = None
    """With `tcg`: the command that makes KVM work, if there is one."""


class Capabilities(NamedTuple):
    """What one QEMU binary can do."""

    binary: str
    version: str
    machine: str
    """The newest versioned machine type, the one to give to a new instance."""
    machines: list[str]
    accelerators: list[str]
    devices: list[str]
    """Those of `DEVICES` that it has."""
    sandbox: bool
    """True when it was built with seccomp."""
    max_cpus: int
    """The most processors that `machine` can have."""
    memfd: bool
    """True when a guest's memory can be an anonymous file that other processes can open."""

    @property
    def threads(self) -> str:
        """How its emulation runs several processors: `multi`, each in a thread of its own; `single`, by turns in one.

        Before 8.1, if one thread translated code while another wrote to it, a half-written translation could stay in
        use. Linux patches its own code by way of a breakpoint, so now and then a guest with several processors hit a
        breakpoint that was long removed, and hung: with 7.2, once in a few hundred boots. Source: QEMU, commit
        deba78709ae8.
        """
        major, minor = self.version.split(".")[:2]
        return "multi" if (int(major), int(minor)) >= (8, 1) else "single"


def capabilities(
    runtime_root: Path, arch: str, timeout_s: float = _TIMEOUT_S, *, remember: bool = True
) -> Capabilities:
    """Return what this host's QEMU for `arch` guests can do; waits for its answer for `timeout_s` at most.

    The answer is cached only with `remember`. Raises HostError if QEMU is not installed, DeadlineError if it does not
    answer.
    """
    binary = _binary(arch)
    stat = os.stat(binary)  # noqa: PTH116 - follows the link, as exec does
    key = [
        binary,
        stat.st_size,
        stat.st_mtime_ns,
        *Capabilities._fields,
        *sorted(DEVICES),
    ]  # another version of us asks for more
    found = _remembered(
        runtime_root / f"qemu-{arch}.json",
        key,
        lambda: _ask(binary, arch, min(timeout_s, _TIMEOUT_S))._asdict(),
        lambda _: remember,
    )
    return Capabilities(**found)


def ask(arch: str) -> Capabilities:
    """Return what `capabilities` returns, but always ask QEMU."""
    return _ask(_binary(arch), arch, _TIMEOUT_S)


def acceleration(runtime_root: Path, arch: str, *, remember: bool = True) -> Acceleration:
    """Return the fastest way to run `arch` guests that was tried and works here; cached as in `capabilities`."""
    host = platform.machine()
    if arch != host:
        return Acceleration("tcg", f"KVM runs no {arch} guest on {host}")
    key = [boot_id(), os.uname().release, *kvm.Verdict._fields]
    path = runtime_root / "acceleration.json"
    verdict = kvm.Verdict(
        **_remembered(path, key, lambda: kvm.judge()._asdict(), lambda found: remember and bool(found["lasting"]))
    )
    return Acceleration("kvm" if verdict.usable else "tcg", verdict.reason, verdict.mend)


def _remembered(
    path: Path, key: list[Any], find_out: Callable[[], dict[str, Any]], worth_keeping: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return what the file `path` has for `key`; otherwise what `find_out` returns, and write that to the file."""
    try:
        known = json.loads(read_own(path))
        if known["key"] == key:
            return dict(known["found"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    found = find_out()
    if worth_keeping(found):
        make_private_directory(path.parent)
        write_whole(path, json.dumps({"key": key, "found": found}).encode())
    return found


def _binary(arch: str) -> str:
    name = f"qemu-system-{arch}"
    if binary := shutil.which(name):
        return binary
    raise HostError(f"{name} is not installed", hint=f"apt install {_PACKAGES.get(arch, 'qemu-system')}")


def _ask(binary: str, arch: str, timeout_s: float) -> Capabilities:
    """Run `binary` without a machine, send all questions at once, and read the answers in their order.

    The machine protocol needs one run of a tenth of a second, and its form is stable; `-machine help` and its like
    would be four runs, with text for people. Source: QEMU, docs/interop/qmp-spec.txt.
    """
    questions: list[dict[str, Any]] = [
        {"execute": "qmp_capabilities"},
        {"execute": "query-version"},
        {"execute": "query-machines"},
        {"execute": "qom-list-types", "arguments": {"implements": "accel", "abstract": False}},
        {"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": False}},
        {"execute": "qom-list-types", "arguments": {"implements": "memory-backend", "abstract": False}},
        {"execute": "query-command-line-options", "arguments": {"option": "sandbox"}},
        {"execute": "quit"},
    ]
    command = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-qmp", "stdio"]
    asked = "".join(json.dumps(question) + "\n" for question in questions)
    # Into a file, because QEMU discards at exit whatever a full pipe could not take.
    with os.fdopen(os.memfd_create("answers", os.MFD_CLOEXEC), "w+b") as answered:
        ended = run(command, stdin=asked.encode(), stdout=answered, timeout_s=timeout_s)
        answered.seek(0)
        said = answered.read(HEAD_BYTES)
    if ended.status:
        raise DriverError(f"{binary} ended with status {ended.status}", details=ended.words)
    try:
        lines = [json.loads(line) for line in said.splitlines()]
        answers = [line for line in lines if "return" in line or "error" in line]
        _, version, machines, accelerators, devices, memories, sandbox, _ = answers
        number = version["return"]["qemu"]
        newest = next(it for it in machines["return"] if it.get("alias") == _MACHINES[arch])
        return Capabilities(
            binary=binary,
            version=f"{number['major']}.{number['minor']}.{number['micro']}",
            machine=newest["name"],
            machines=sorted(it["name"] for it in machines["return"]),
            accelerators=sorted(it["name"].removesuffix("-accel") for it in accelerators["return"]),
            devices=sorted(DEVICES & {it["name"] for it in devices["return"]}),
            sandbox="return" in sandbox,
            max_cpus=int(newest["cpu-max"]),
            memfd=any(it["name"] == "memory-backend-memfd" for it in memories["return"]),
        )
    except (ValueError, LookupError, StopIteration) as err:
        raise HostError(f"{binary} gave an answer that Interlock does not understand: {err!r}") from err
