"""What no machine on this host can have: too many processors, too much memory, or a half-closed network."""

import re
from contextlib import suppress
from pathlib import Path

from ...errors import HostError
from ...fsm.spec import Spec
from . import capabilities, tpm

_CPUS_OF_EVERY_MACHINE = 255
"""Up to this number QEMU is not asked: q35 and virt have always supported it."""

_HEURISTIC, _ALWAYS = 0, 1
"""Values of vm.overcommit_memory. The third, 2, counts what was promised to all processes."""


def check(spec: Spec) -> None:
    """Raise HostError where QEMU on this host could never run what `spec` describes."""
    check_cpus(spec)
    check_memory(spec.memory_bytes)
    check_network(spec)
    tpm.check(spec)


def check_cpus(spec: Spec) -> None:
    """Raise HostError for more processors than QEMU's machine can have. The host may have fewer than its guest."""
    if spec.cpus <= _CPUS_OF_EVERY_MACHINE:
        return
    able = capabilities.ask(spec.arch)
    if spec.cpus > able.max_cpus:
        raise HostError(f"{spec.cpus} cpus are more than QEMU's {able.machine} can have ({able.max_cpus})")


def check_memory(memory_bytes: int, proc: Path = Path("/proc")) -> None:
    """Raise HostError where the kernel would refuse a machine of `memory_bytes`.

    By default the kernel refuses a process that asks for more than RAM and swap together. Two machines may have more
    than that between them, because memory is taken when the guest first writes to it. If the host's owner has set
    another rule, that rule is applied. Source: proc(5), vm.overcommit_memory.
    """
    rule = int((proc / "sys/vm/overcommit_memory").read_text())
    if rule == _ALWAYS:
        return
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE))
    ram, swap, limit = (int(found[key]) << 10 for key in ("MemTotal", "SwapTotal", "CommitLimit"))
    most, what = (ram + swap, "RAM and swap together") if rule == _HEURISTIC else (limit, "its limit of commitments")
    if memory_bytes > most:
        raise HostError(f"{_gib(memory_bytes)} of memory is more than this host can give ({_gib(most)}: {what})")


def check_network(spec: Spec) -> None:
    """Raise HostError for a machine whose guest may reach only one of host and internet.

    QEMU's user network reaches everything, including what listens on the host's loopback (10.0.2.2), or nothing: it
    cannot close one of them alone.
    """
    if spec.network_host != spec.network_internet:
        closed, open_ = ("the host", "the internet") if spec.network_internet else ("the internet", "the host")
        raise HostError(
            f"QEMU's user network cannot keep a guest from {closed} and let it reach {open_}: close both, or neither"
        )


def check_nested(spec: Spec, accelerator: str, sys: Path = Path("/sys")) -> None:
    """Raise HostError where the guest is to run virtual machines itself and KVM on this host does not let it.

    QEMU's emulation always supports it: AMD's virtualization on x86_64, the hypervisor exception level on aarch64.
    """
    if not spec.nested or accelerator != "kvm":
        return
    if spec.arch != "x86_64":
        raise HostError(f"KVM does not let guests of {spec.arch} run virtual machines themselves")
    for module in ("kvm_intel", "kvm_amd"):
        with suppress(FileNotFoundError):
            if (sys / f"module/{module}/parameters/nested").read_text().strip() in ("Y", "1"):
                return
            raise HostError(
                f"{module} does not let guests run virtual machines themselves",
                hint=f"modprobe -r {module} && modprobe {module} nested=1",
            )


def _gib(number: int) -> str:
    return f"{number / 2**30:.4g} GiB"
