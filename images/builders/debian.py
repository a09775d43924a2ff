"""The image `debian`: a Debian with systemd, ssh and sudo, on a disk that boots in two ways.

    kernel     QEMU loads kernel and initrd, which brings the seed along. No boot loader, no cloud-init: the fast way.
    firmware   UEFI starts systemd-boot from the disk, which starts the same kernel and initrd; cloud-init then looks
               for its NoCloud seed. Other people's cloud images boot like this, and it shows that ours is one.

The disk: GPT; 1 an EFI system partition with loader, kernel and initrd; 2 the root, last so that it can grow.
It is made without root and without mounting anything: mtools writes into a FAT, mke2fs copies a folder into an ext4,
and fakeroot remembers who owns the files of that folder.
"""

import io
import shlex
import tarfile
from pathlib import Path

from ...guest import cpio
from ...host.progress import Report
from ..store import Image, Writer
from ..tools import run
from . import kernel
from .packages import ARCHES, Arch, Unpacked, bootstrap
from .recipe import Recipe

_PACKAGES = (
    *("systemd-sysv", "systemd-boot-efi", "udev", "dbus", "libpam-systemd", "openssh-server", "sudo"),
    *("cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs"),
    *("ca-certificates", "iproute2", "iputils-ping", "netbase", "procps", "less", "busybox-static"),
)
_NO_MODULES = (
    *("sound", "net/bluetooth", "net/mac80211", "net/wireless", "drivers/bluetooth", "drivers/gpu", "drivers/hwmon"),
    *("drivers/iio", "drivers/infiniband", "drivers/isdn", "drivers/media", "drivers/net/ethernet"),
    *("drivers/net/wireless", "drivers/staging"),
)
"""Folders of kernel modules for hardware that our machines do not have; they make up three quarters of the package."""

_GUEST = Path(__file__).parent / "guests" / "debian"

_RUN_SCRIPT = (
    # The guest's name server is QEMU's, which is not running yet.
    'mv "$1/etc/resolv.conf" "$1/guest.resolv.conf" && cp -L /etc/resolv.conf "$1/etc/resolv.conf" && '
    'chroot "$1" env DEBIAN_FRONTEND=noninteractive HOME=/root /script </dev/null && '
    'mv -f "$1/guest.resolv.conf" "$1/etc/resolv.conf" && rm "$1/script"'
)

_MIB = 2**20
_DISK_BYTES = 2048 * _MIB
_ESP_START_BYTES, _ESP_BYTES = 1 * _MIB, 64 * _MIB
_ROOT_START_BYTES = _ESP_START_BYTES + _ESP_BYTES
_ROOT_BYTES = _DISK_BYTES - _ROOT_START_BYTES - _MIB  # GPT keeps a copy of itself in the last sectors

_ARGUMENTS = f"{kernel.ARGUMENTS} systemd.gpt_auto=no"


def build(writer: Writer, recipe: Recipe, name: str, report: Report) -> Image:
    """Return the image, built from Debian's packages and added to the store."""
    names = ARCHES[recipe.arch]
    tar, kernel_file, initrd, disk = (writer.work / name for name in ("root.tar", "kernel", "initrd", "disk"))
    packed_kernel = writer.work / "vmlinuz"
    report("installing Debian packages (step 1 of 3; once for all machines, some minutes)")
    _install(tar, recipe, writer.work / "ours.tar", report)
    with Unpacked(tar) as packages:
        report("packing the initrd (step 2 of 3)")
        packed_kernel.write_bytes(kernel.image(packages))
        kernel_file.write_bytes(kernel.unpacked(packed_kernel.read_bytes()))
        initrd.write_bytes(cpio.pack(_initrd(packages)))
        versions = packages.versions()
        loader = packages.read(f"usr/lib/systemd/boot/efi/systemd-boot{names.efi}.efi")
    report("making the disk (step 3 of 3)")
    raw = writer.work / "disk.raw"
    _partition(raw)
    _fill_esp(raw, names, {"kernel": packed_kernel, "initrd": initrd}, loader, writer.work)
    _fill_root(raw, tar, writer.work / "root")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    image = recipe.image(
        name,
        boot=("kernel", "firmware"),
        first_boot=("overlay", "nocloud"),
        kernel_arguments=f"console={names.console} {_ARGUMENTS} cloud-init=disabled",
        packages=versions,
    )
    return writer.add(image, {"disk": disk, "kernel": kernel_file, "initrd": initrd})


def _install(tar: Path, recipe: Recipe, ours: Path, report: Report) -> None:
    """Make `tar`: a Debian with our own files, which the archive `ours` brings in, and what the recipe asks for."""
    hooks = [f"tar-in {shlex.quote(str(ours))} /", 'chroot "$1" sh -e /customize', 'rm "$1/customize"']
    with tarfile.open(ours, "w") as archive:
        archive.add(_GUEST / "root", arcname=".", filter=_as_root)
        archive.add(_GUEST / "customize", arcname="customize", filter=_as_root)
        if recipe.script is not None:
            script = recipe.script if recipe.script.startswith(b"#!") else b"#!/bin/sh\n" + recipe.script
            member = tarfile.TarInfo("script")
            member.size, member.mode = len(script), 0o755
            archive.addfile(member, io.BytesIO(script))
            hooks.append(_RUN_SCRIPT)
    bootstrap(
        tar,
        recipe.arch,
        (f"{kernel.PACKAGE}-{ARCHES[recipe.arch].debian}", *_PACKAGES, *recipe.packages),
        suite=recipe.suite,
        variant="minbase",
        report=report,
        hooks=hooks,
        options=[
            *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")),
            *(f"--dpkgopt=path-exclude=/lib/modules/*/kernel/{folder}/*" for folder in _NO_MODULES),
            # Debian's own initrd takes longer to make than everything else, and we never start it.
            "--dpkgopt=path-exclude=/etc/kernel/*/initramfs-tools",
        ],
    )


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the member owned by root and readable by all, whatever the owner and umask of this checkout."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _initrd(packages: Unpacked) -> dict[str, cpio.Entry]:
    return {
        "init": cpio.file((_GUEST / "init").read_bytes(), 0o755),
        "bin/busybox": cpio.file(packages.read("bin/busybox"), 0o755),
        **{folder: cpio.directory() for folder in ("dev", "newroot", "proc", "sys")},
        **kernel.modules(packages, (_GUEST / "modules").read_text()),
        **kernel.modules(packages, (_GUEST / "modules-firmware").read_text(), order="order.firmware"),
    }


def _partition(raw: Path) -> None:
    with raw.open("wb") as file:
        file.truncate(_DISK_BYTES)
    table = f"""\
label: gpt
start={_ESP_START_BYTES // 512}, size={_ESP_BYTES // 512}, type=uefi, name=esp
start={_ROOT_START_BYTES // 512}, size={_ROOT_BYTES // 512}, type=linux, name=root
"""
    run("sfdisk", "--quiet", raw, stdin=table)


def _fill_esp(raw: Path, arch: Arch, boot_files: dict[str, Path], loader: bytes, work: Path) -> None:
    """Make the EFI system partition. Source: The Boot Loader Specification; systemd-boot(7)."""
    boot_loader, entry = work / "loader", work / "entry.conf"
    boot_loader.write_bytes(loader)
    entry.write_text(f"title Debian\nlinux /kernel\ninitrd /initrd\noptions console={arch.console} {_ARGUMENTS}\n")
    # mtools find the partition by its offset; a name that begins with `::` is on it.
    partition = f"{raw}@@{_ESP_START_BYTES}"
    run("mformat", "-i", partition, "-T", str(_ESP_BYTES // 512), "-h", "64", "-s", "32", "-v", "ESP", "::")
    run("mmd", "-i", partition, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries")
    for source, target in {
        boot_loader: f"EFI/BOOT/BOOT{arch.efi.upper()}.EFI",
        entry: "loader/entries/debian.conf",
        **{path: name for name, path in boot_files.items()},
    }.items():
        run("mcopy", "-i", partition, source, f"::/{target}")


def _fill_root(raw: Path, tar: Path, folder: Path) -> None:
    """Make the root file system from the content of `tar`, which is unpacked into `folder` for mke2fs."""
    folder.mkdir()
    fill = (
        # The kernel makes the devices (devtmpfs); we are not allowed to.
        'tar --extract --file "$1" --directory "$2" --numeric-owner --exclude="./dev/*" && '
        'mke2fs -q -t ext4 -L interlock -m 1 -e remount-ro -d "$2" -E "root_owner=0:0,offset=$4" "$3" "$5"'
    )
    run("fakeroot", "sh", "-c", fill, "sh", tar, folder, raw, str(_ROOT_START_BYTES), f"{_ROOT_BYTES // 1024}k")
