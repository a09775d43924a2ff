"""Whether KVM runs guest code, found out by running some.

That /dev/kvm opens, tells its API version and makes a virtual CPU proves nothing: under some nested hypervisors it does
all that, and then runs each instruction a thousand times slower than the processor, or never returns. So a few
instructions are run and timed in a throw-away machine.

KVM_RUN may never return, so it is called in a child process that can be killed. That child runs this file, which
therefore imports only the standard library.

Source: Linux, Documentation/virt/kvm/api.rst.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

DEVICE = Path("/dev/kvm")

CPUINFO = Path("/proc/cpuinfo")

_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
"""Flag of a processor → the kernel module for it."""

_DEADLINE_S = 2.0
"""It takes milliseconds, including the start of the child."""

_LOOPS = 2000
_SLOWEST_NS = 100.0
"""For one instruction of the loop. A processor needs about 1 ns, QEMU's emulation less than 10."""

_API_VERSION = 12
_PAGE = 4096
_CODE_AT = _PAGE

# ioctl(2) request numbers of KVM's stable interface.
_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01
_GET_VCPU_MMAP_SIZE = 0xAE04
_CREATE_VCPU = 0xAE41
_SET_USER_MEMORY_REGION = 0x4020AE46
_RUN = 0xAE80
_GET_SREGS, _SET_SREGS, _SREGS_BYTES = 0x8138AE83, 0x4138AE84, 0x138
_SET_REGS, _REGS_BYTES = 0x4090AE82, 0x90
_ARM_PREFERRED_TARGET, _ARM_VCPU_INIT, _ARM_INIT_BYTES = 0x8020AEAF, 0x4020AEAE, 32
_SET_ONE_REG = 0x4010AEAC

_EXIT_IO = 2
_EXIT_MMIO = 6


class Verdict(NamedTuple):
    """Whether KVM works, and why."""

    usable: bool
    reason: str
    lasting: bool = True
    """False if a change of permissions can fix it at once, True if it stays until the host reboots."""
    mend: str | None = None
    """The command that makes it usable, if there is one."""


def judge() -> Verdict:
    """Return the verdict on this host's KVM, within a few seconds."""
    from ...errors import DeadlineError
    from ...host.run import run

    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Verdict(usable=False, reason=f"{DEVICE} does not exist", lasting=False, mend=_load())
    except OSError as err:
        mend = _admit() if isinstance(err, PermissionError) else None
        return Verdict(usable=False, reason=f"{DEVICE} does not open: {err.strerror}", lasting=False, mend=mend)
    try:
        ended = run([sys.executable, "-I", "-S", __file__], timeout_s=_DEADLINE_S)
    except DeadlineError:
        return Verdict(usable=False, reason=f"{DEVICE} opens but does not run guest code within {_DEADLINE_S:g} s")
    if ended.status:
        said = ended.words or [f"the probe ended with status {ended.status}"]
        return Verdict(usable=False, reason=f"{DEVICE} opens but does not run guest code: {said[-1]}")
    nanoseconds = float(ended.stdout)
    if nanoseconds > _SLOWEST_NS:
        return Verdict(
            usable=False,
            reason=f"{DEVICE} opens but takes {nanoseconds:.0f} ns for an instruction, slower than emulation",
        )
    return Verdict(usable=True, reason="it runs guest code")


def _load() -> str | None:
    """Return the command that loads the module of this host's processor; None if it shows no virtualization."""
    words = CPUINFO.read_text().split()
    return next((f"sudo modprobe {module}" for flag, module in _MODULES.items() if flag in words), None)


def _admit() -> str:
    """Return the command that lets this user open the device."""
    import grp

    group = grp.getgrgid(DEVICE.stat().st_gid).gr_name
    if group == "root":
        return f"sudo setfacl -m u:$USER:rw {DEVICE}"
    return f"sudo usermod --append --groups {group} $USER && newgrp {group}"


def run_guest_code() -> float:
    """Return how many nanoseconds this host's KVM takes for one guest instruction. May never return."""
    kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, _GET_API_VERSION) != _API_VERSION:
        raise OSError("KVM has another API version")
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, 2 * _PAGE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # struct kvm_userspace_memory_region: slot 0, no flags, guest address 0, size, where it lies in this process.
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, 2 * _PAGE, address))
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    run = mmap.mmap(cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE))

    code, expected = _prepare_x86(cpu) if platform.machine() == "x86_64" else _prepare_arm(machine, cpu)
    memory[_CODE_AT : _CODE_AT + len(code)] = code
    before = time.perf_counter_ns()
    fcntl.ioctl(cpu, _RUN, 0)
    elapsed_ns = time.perf_counter_ns() - before
    (reason,) = struct.unpack_from("<I", run, 8)  # exit_reason of struct kvm_run
    if reason != expected:
        raise OSError(f"the guest left with exit reason {reason} instead of {expected}")
    return elapsed_ns / (2 * _LOOPS)


def _prepare_x86(cpu: int) -> tuple[bytes, int]:
    """Set `cpu` to real mode at the code, and return the code and the exit reason that it must lead to."""
    sregs = bytearray(_SREGS_BYTES)
    fcntl.ioctl(cpu, _GET_SREGS, sregs)
    struct.pack_into("<QIH", sregs, 0, 0, 0xFFFF, 0)  # cs: base, limit, selector
    fcntl.ioctl(cpu, _SET_SREGS, bytes(sregs))
    regs = bytearray(_REGS_BYTES)
    struct.pack_into("<QQ", regs, 128, _CODE_AT, 2)  # rip, rflags (whose bit 1 is always set)
    fcntl.ioctl(cpu, _SET_REGS, bytes(regs))
    return (
        b"\x66\xb9" + struct.pack("<I", _LOOPS)  # mov ecx, LOOPS
        + b"\x66\x49"  # again: dec ecx
        + b"\x75\xfc"  # jnz again
        + b"\xba\x01\x05\xb0\x10\xee"  # mov dx, 0x501; mov al, 0x10; out dx, al
    ), _EXIT_IO  # fmt: skip


def _prepare_arm(machine: int, cpu: int) -> tuple[bytes, int]:
    """Do the same on aarch64, where the CPU begins in EL1 with the MMU off."""
    init = bytearray(_ARM_INIT_BYTES)
    fcntl.ioctl(machine, _ARM_PREFERRED_TARGET, init)
    fcntl.ioctl(cpu, _ARM_VCPU_INIT, bytes(init))
    value = ctypes.c_uint64(_CODE_AT)
    program_counter = 0x6030_0000_0010_0040  # ARM64, 64 bits, core register, offset of regs.pc in words
    fcntl.ioctl(cpu, _SET_ONE_REG, struct.pack("<QQ", program_counter, ctypes.addressof(value)))
    instructions = (
        0xD2800000 | _LOOPS << 5,  # mov x0, LOOPS
        0xF1000400,  # again: subs x0, x0, 1
        0x54FFFFE1,  # b.ne again
        0xD2A20001,  # mov x1, 0x10000000: no memory is there
        0xF9000020,  # str x0, [x1]
    )
    return struct.pack(f"<{len(instructions)}I", *instructions), _EXIT_MMIO


if __name__ == "__main__":
    try:
        # The first run pays for pages and caches: the best of three is the processor's own speed.
        print(min(run_guest_code() for _ in range(3)))  # noqa: T201 - the answer to `judge`
    except OSError as error:
        sys.exit(error.strerror or str(error))
