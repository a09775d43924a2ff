"""The hypervisor's command line, which defines the whole machine.

File names are relative to the instance's directory, in which the hypervisor runs: that is renamed after it is built.
Only sockets are elsewhere, because their paths must be short.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from ...errors import DamagedError, HostError
from ...fsm.schema import check_schema
from ...fsm.spec import Spec
from ...guest.agent import PORT
from ...host.files import misread, read_own, write_whole
from ..contract import CD, INITRD, KERNEL, SEED, Site, disk_file
from . import agent, disk, events, firmware, hostfwd, lan, logs, monitor, mounts, tpm, vnc
from .capabilities import Capabilities

RECORD = "qemu.json"

_SCHEMA = 1

_SOCKET_PATH_BYTES = 107
"""The longest path of a socket. Source: unix(7), sun_path."""

_TRANSLATED_MIB = 128
"""QEMU's cache of translated code. Its default of 1 GiB fills up over time; with 128 MiB a debian guest takes a quarter
less memory and no more processor time, measured by benchmarks/translation.py."""


class Board(NamedTuple):
    """What was decided about the machine at its creation and stays so when the host's QEMU is upgraded.

    A versioned machine type is QEMU's promise that the guest always sees the same devices in the same slots.
    """

    machine: str
    """`pc-q35-7.2`"""
    panic_device: bool = False
    """True when it has a device by which the guest reports a kernel panic."""
    generation_device: bool = False
    """True when it has a device that tells the guest that its memory was copied, so that it renews its randomness."""
    agent_port: bool = False
    """True when it has a port on which a program in the guest answers the host."""
    schema: int = _SCHEMA

    @classmethod
    def newest(cls, capabilities: Capabilities) -> Self:
        """Return the board that a new instance gets."""
        devices = capabilities.devices
        return cls(
            machine=capabilities.machine,
            panic_device="pvpanic-pci" in devices,
            # A machine without ACPI tables of a PC cannot tell its guest where the device is.
            generation_device="vmgenid" in devices and capabilities.machine.startswith("pc-"),
            agent_port="virtio-serial-pci" in devices,
        )

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Return the board of the instance in `directory`.

        Raises DamagedError when it cannot be understood, UnreadableError or HostError when it cannot be read.
        """
        path = directory / RECORD
        try:
            data = json.loads(read_own(path))
            check_schema(data, _SCHEMA, path)
            return cls(**{name: value for name, value in data.items() if name in cls._fields})
        except OSError as err:
            raise misread(path, err) from err
        except (ValueError, TypeError, AttributeError, RecursionError) as err:
            raise DamagedError(f"{path}: {err}") from err

    def write(self, directory: Path) -> None:
        """Put the board into `directory`."""
        write_whole(directory / RECORD, json.dumps(self._asdict()).encode() + b"\n")

    def check(self, capabilities: Capabilities) -> None:
        """Raise HostError when this host's QEMU no longer has that machine type."""
        if self.machine not in capabilities.machines:
            raise HostError(
                f"the instance has the machine type {self.machine}, which QEMU {capabilities.version} does not have; "
                "install the QEMU that it was created with"
            )


def build(
    site: Site,
    board: Board,
    capabilities: Capabilities,
    accelerator: str,
    ssh_port: int,
    *,
    materials: Collection[str] | None = None,
) -> list[str]:
    """Return the command line for `site`'s machine, to be run in its directory.

    `materials` names the files that creation put into the directory; by default, the directory is searched for them.
    """
    spec = site.spec
    if materials is None:
        materials = [name for name in (CD, SEED) if (site.directory / name).exists()]
    socket = site.runtime / monitor.SOCKET
    longest = site.runtime / agent.SOCKET if board.agent_port else socket
    if len(bytes(longest)) > _SOCKET_PATH_BYTES:
        raise HostError(
            f"{longest}: longer than the {_SOCKET_PATH_BYTES} bytes that a socket's path may have; "
            "XDG_RUNTIME_DIR must be shorter"
        )
    command = [
        capabilities.binary,
        "-name", f"guest={site.name}",
        # No default devices, no configuration of the host, no window.
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        *_processor(spec, accelerator, capabilities.threads),
        "-smp", str(spec.cpus),
        "-m", f"size={spec.memory_bytes >> 20}M",
        "-chardev", f"file,id=serial,path={logs.SERIAL.pipe},append=on",
        "-serial", "chardev:serial",
        # Two monitors: one writes the log of events, the other takes commands from its socket.
        "-chardev", f"pipe,id=events,path={events.CHANNEL}",
        "-mon", "chardev=events,mode=control",
        "-chardev", f"socket,id=monitor,path={mounts.value(str(socket))},server=on,wait=off",
        "-mon", "chardev=monitor,mode=control",
        # The order of devices is their order on the bus, hence the guest's names for them: append, never insert.
        "-netdev", _network(spec, ssh_port),
        # No option ROM: no machine boots from this network.
        "-device", "virtio-net-pci,netdev=net,romfile=",
        "-blockdev", f"qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={disk.DISK}",
        "-device", "virtio-blk-pci,drive=disk,bootindex=1",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip
    command += _fixed_devices(site, board)
    if SEED in materials:
        command += [
            "-blockdev", f"raw,node-name=seed,read-only=on,file.driver=file,file.filename={SEED}",
            "-device", "virtio-blk-pci,drive=seed",
        ]  # fmt: skip
    command += [*_disks(spec), *mounts.arguments(site)]
    if CD in materials:
        command += _cd(spec.arch)
    command += [*vnc.arguments(site), *tpm.arguments(site), *lan.arguments(site, capabilities)]
    if capabilities.sandbox:
        # If a guest breaks out, seccomp ends the hypervisor when it runs a program or tries to gain rights.
        command += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    machine = [board.machine]
    if capabilities.memfd:
        # Shared, so that virtiofsd can reach it, and so that it can be saved beside the state of the devices.
        command += ["-object", f"memory-backend-memfd,id=memory,size={spec.memory_bytes >> 20}M,share=on"]
        machine += ["memory-backend=memory"]
    if spec.nested and spec.arch == "aarch64":
        machine += ["virtualization=on"]
    if spec.boot == "kernel":
        command += [
            "-kernel", KERNEL,
            "-initrd", INITRD,
            "-append", spec.kernel_arguments,
        ]  # fmt: skip
    elif spec.boot == "bios":
        # Without a screen, SeaBIOS writes to the serial port, such as that it finds nothing to boot.
        machine += [] if spec.vnc else ["graphics=off"]
    else:
        command += [
            "-blockdev", f"raw,node-name=code,read-only=on,file.driver=file,file.filename={firmware.CODE}",
            "-blockdev", f"raw,node-name=variables,file.driver=file,file.filename={firmware.VARIABLES}",
        ]  # fmt: skip
        machine += ["pflash0=code", "pflash1=variables"]
    return [*command, "-machine", ",".join(machine)]


def _fixed_devices(site: Site, board: Board) -> list[str]:
    """Return the devices that a machine has only if it was created with them."""
    devices = []
    if board.panic_device:
        devices += ["-device", "pvpanic-pci"]
    if board.generation_device:
        devices += ["-device", "vmgenid,guid=auto"]
    if board.agent_port:
        devices += [
            "-chardev", f"socket,id=agent,path={mounts.value(str(site.runtime / agent.SOCKET))},server=on,wait=off",
            "-device", "virtio-serial-pci,id=ports,max_ports=2",
            "-device", f"virtserialport,bus=ports.0,chardev=agent,id={agent.DEVICE},name={PORT}",
        ]  # fmt: skip
    return devices


def _disks(spec: Spec) -> Iterator[str]:
    """Yield QEMU's options for the disks that outlive the machine."""
    for number, attached in enumerate(spec.disks):
        file = disk_file(attached.name)
        yield from (
            "-blockdev",
            f"{attached.format},node-name=disk{number},discard=unmap,file.driver=file,file.filename={file},file.locking=on",
            "-device", f"virtio-blk-pci,drive=disk{number},serial=disk{number}",
        )  # fmt: skip


def _cd(arch: str) -> list[str]:
    """Return the drive from which the machine boots first, whatever is on its disk, as Lima's do.

    A PC gets an IDE drive, which every system supports; other machines have no IDE controller.
    """
    drive = ["ide-cd"] if arch == "x86_64" else ["virtio-scsi-pci", "scsi-cd"]
    return [
        "-blockdev", f"raw,node-name=cd,read-only=on,file.driver=file,file.filename={CD}",
        *(word for device in drive[:-1] for word in ("-device", device)),
        "-device", f"{drive[-1]},drive=cd,bootindex=0",
    ]  # fmt: skip


def _network(spec: Spec, ssh_port: int) -> str:
    """Return the network of the guest's card. Forwards from the host work even if the network is closed to the guest.

    Source: qemu(1), `-netdev user,restrict=on`.
    """
    closed = "" if spec.network_host and spec.network_internet else ",restrict=on"
    ways_in = (f"tcp:127.0.0.1:{ssh_port}-:22", *hostfwd.rules(spec.forwards))
    return ",hostfwd=".join([f"user,id={hostfwd.NETWORK}{closed}", *ways_in])


def _processor(spec: Spec, accelerator: str, threads: str) -> list[str]:
    """Return QEMU's options for running guest code: by KVM, or emulated with every feature of the emulation."""
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", spec.cpu_model or "host"]
    # With the architecture's own cipher, pointer authentication takes half of an emulated guest's time.
    best = "max,pauth-impdef=on" if spec.arch == "aarch64" else "max"
    return ["-accel", f"tcg,thread={threads},tb-size={_TRANSLATED_MIB}", "-cpu", spec.cpu_model or best]
