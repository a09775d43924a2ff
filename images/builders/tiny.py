"""The image `tiny`: a kernel, a busybox and an ssh server, which answers seconds after it is started.

It lives in its initrd; a blank disk is formatted at the first boot and keeps the homes (guests/tiny/etc/boot). It is
built from unpacked packages, without running anything of them, so any host can build it for any architecture.
"""

from functools import partial
from pathlib import Path

from ...guest import cpio
from ...host.progress import Report
from ..store import Image, Writer
from . import kernel
from .packages import ARCHES, RELEASE, Arch, Unpacked, bootstrap
from .recipe import Recipe

_PROGRAMS = ("busybox-static", "dropbear-bin", "openssh-sftp-server", "e2fsprogs", "util-linux")
_PROGRAMS_SUITE = {RELEASE: "trixie"}
"""The kernel's suite → the suite of the programs that go with it, if they differ.

Before trixie, sessions cannot share a connection to dropbear (`drivers.qemu.ssh_greeting`); since trixie, the kernel
takes longer to boot.
"""

_GUEST = Path(__file__).parent / "guests" / "tiny"


def build(writer: Writer, recipe: Recipe, name: str, report: Report) -> Image:
    """Return the image, built from Debian's packages and added to the store."""
    names, programs_suite = ARCHES[recipe.arch], _PROGRAMS_SUITE.get(recipe.suite, recipe.suite)
    tar, kernel_file, initrd = (writer.work / name for name in ("packages.tar", "kernel", "initrd"))
    fetch = partial(bootstrap, tar, recipe.arch, variant="extract", report=report)
    report("fetching Debian's kernel (step 1 of 3; once for all machines, less than a minute)")
    fetch((f"{kernel.PACKAGE}-{names.debian}",), suite=recipe.suite)
    with Unpacked(tar) as files:
        kernel_file.write_bytes(kernel.unpacked(kernel.image(files)))
        modules = kernel.modules(files, _text("modules"))
        modules |= kernel.modules(files, _text("mount-modules"), order="order.mounts")
    report("fetching Debian's programs (step 2 of 3)")
    fetch(_PROGRAMS, suite=programs_suite)
    report("packing the initrd (step 3 of 3)")
    with Unpacked(tar) as files:
        initrd.write_bytes(cpio.pack(_root(files, names) | modules))
    image = recipe.image(
        name,
        boot=("kernel",),
        first_boot=("overlay",),
        kernel_arguments=f"console={names.console} {kernel.ARGUMENTS}",
        programs_suite=programs_suite,
    )
    return writer.add(image, {"kernel": kernel_file, "initrd": initrd})


def _root(packages: Unpacked, arch: Arch) -> dict[str, cpio.Entry]:
    """Return the root file system, without the modules."""
    tree = {path: cpio.directory() for path in ("dev", "disk", "etc/dropbear", "home", "mnt", "proc", "run", "sys")}
    tree |= {
        # The kernel starts /init; busybox does the work of the program as which it is called, here of init.
        "init": cpio.symlink("bin/busybox"),
        "tmp": cpio.directory(0o1777),
        "root": cpio.directory(0o700),
        "var/lib/interlock": cpio.directory(),
        "etc/passwd": cpio.file(b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/shadow": cpio.file(b"root::::::::\n", 0o600),
        "etc/group": cpio.file(b"root:x:0:\ntty:x:5:\n"),
        "etc/shells": cpio.file(b"/bin/sh\n"),
        # Where dropbear looks for it, on Debian.
        "usr/lib/sftp-server": cpio.symlink("openssh/sftp-server"),
        # The name acpid gives to a press of the power button.
        "etc/acpi/PWRF/00000080": cpio.symlink("/etc/poweroff"),
        "etc/inittab": _guest("etc/inittab", 0o644),
        "etc/boot": _guest("etc/boot"),
        "etc/serve-ssh": _guest("etc/serve-ssh"),
        "etc/serve-agent": _guest("etc/serve-agent"),
        "etc/poweroff": _guest("etc/poweroff"),
        "usr/bin/sudo": _guest("etc/sudo"),
    }
    for line in _text("files").splitlines():
        path = line.partition("#")[0].strip().format(triplet=arch.triplet, loader=arch.loader)
        if path:
            tree[_place(path)] = cpio.file(packages.read(path), 0o755)
    # Set-user-ID for `su`: busybox drops the privilege before it runs an applet that does not need it.
    tree["bin/busybox"] = cpio.file(packages.read("bin/busybox"), 0o4755)
    return tree


def _place(path: str) -> str:
    """Return the place in the guest of a package's file: programs go into a folder of everyone's PATH."""
    return f"sbin/{Path(path).name}" if path.startswith(("usr/sbin/", "usr/lib/dropbear/")) else path


def _guest(path: str, permissions: int = 0o755) -> cpio.Entry:
    return cpio.file((_GUEST / path).read_bytes(), permissions)


def _text(path: str) -> str:
    return (_GUEST / path).read_text()
