"""The kernel from Debian's package, and the modules that a guest loads before it has a file system."""

import lzma
import re
import struct
import zlib

from ...errors import ImageError
from ...guest import cpio
from .packages import Unpacked

_MODULES = r"(?:usr/)?lib/modules/[^/]+"

ARGUMENTS = "panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check"
"""Options of every kernel that we start.

    panic=-1            reboot at once instead of hanging; if the pvpanic device gets the panic first, QEMU ends there
    quiet               to write a line to an emulated serial port costs more than the work that it reports
    cryptomgr.notests   no self-tests of ciphers, which take seconds under emulation
    tsc=reliable        the hypervisor's clock needs no watchdog...
    no_timer_check      ...and its timer needs no check
"""


PACKAGE = "linux-image"
"""Debian's kernel for any machine. The kernel for clouds lacks 9p, so a guest with it could not mount host folders."""

_PVH = re.compile(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0")
"""The ELF note with the entry point by which QEMU starts a kernel. Source: Xen, docs/misc/pvh.pandoc: PHYS32_ENTRY."""


def image(packages: Unpacked) -> bytes:
    """Return the kernel as a boot loader starts it: a bzImage, or an Image on aarch64."""
    return packages.read(packages.only(r"boot/vmlinuz-.*"))


def unpacked(bzimage: bytes) -> bytes:
    """Return the ELF file in `bzimage`, which QEMU starts directly; `bzimage` itself if it holds no such file.

    An emulated guest takes longer to unpack its kernel than to boot it. Source: Linux, Documentation/arch/x86/boot.rst.
    """
    if bzimage[0x202:0x206] != b"HdrS":
        return bzimage
    (offset, length), setup_sectors = struct.unpack_from("<II", bzimage, 0x248), bzimage[0x1F1]
    begin = (setup_sectors + 1) * 512 + offset
    payload = bzimage[begin : begin + length]
    try:
        # Not to the payload's end: its last bytes state the unpacked size.
        if payload.startswith(b"\xfd7zXZ\0"):
            kernel = lzma.LZMADecompressor().decompress(payload)
        elif payload.startswith(b"\x1f\x8b"):
            kernel = zlib.decompressobj(wbits=31).decompress(payload)
        elif payload.startswith(b"\x28\xb5\x2f\xfd"):
            import zstandard

            kernel = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
        else:
            return bzimage
    except (lzma.LZMAError, zlib.error) as error:
        raise ImageError(f"the kernel cannot be unpacked: {error}") from error
    return kernel if kernel.startswith(b"\x7fELF") and _PVH.search(kernel) else bzimage


def modules(packages: Unpacked, listing: str, order: str = "order") -> dict[str, cpio.Entry]:
    """Return the modules that the text `listing` names, one a line, and those that they depend on.

    They lie in `lib/modules`, beside a file named `order` that lists each module after those that it needs. So insmod
    can load them one by one, without modprobe, depmod or an index. Left out are modules that are built into the kernel,
    and those that the listing marks with a `?` if the kernel lacks them on this architecture.
    """
    files = {_name(path): path for path in packages.matching(rf"{_MODULES}/kernel/.*\.ko")}
    built_in = {_name(line) for line in packages.read(packages.only(rf"{_MODULES}/modules\.builtin")).decode().split()}
    content: dict[str, bytes] = {}

    def load(name: str, *, optional: bool = False) -> None:
        if name in content or name in built_in or (optional and name not in files):
            return
        if name not in files:
            raise ImageError(f"the kernel has no module {name}")
        module = packages.read(files[name])
        for needed in _depends(module):
            load(needed)
        content[name] = module

    for line in listing.splitlines():
        name = line.partition("#")[0].strip()
        if name:
            load(_name(name.rstrip("?")), optional=name.endswith("?"))
    names = "".join(f"{name}\n" for name in content)
    return {f"lib/modules/{order}": cpio.file(names.encode())} | {
        f"lib/modules/{name}.ko": cpio.file(module) for name, module in content.items()
    }


def _name(path: str) -> str:
    """Return a module's name as the kernel knows it: in file names, `-` and `_` mean the same. Source: modprobe(8)."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def _depends(module: bytes) -> list[str]:
    """Return the names of the modules that `module` needs, as its section `.modinfo` states."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module)
    return [_name(name) for name in found[1].decode().split(",") if name] if found else []
