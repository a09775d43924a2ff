"""A kernel out of Debian's package, and those of its modules that a guest loads before it has a file system."""

import re

from ..fsm.errors import ImageError
from ..guest import cpio
from .packages import Unpacked

_MODULES = r"(?:usr/)?lib/modules/[^/]+"

ARGUMENTS = "panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check"
"""Of every kernel that we start.

    panic=-1            reboot at once instead of hanging; where the pvpanic device was told first, QEMU ends there
    quiet               a line on an emulated serial port costs more than what it reports
    cryptomgr.notests   no self-tests of ciphers: seconds under emulation
    tsc=reliable        the hypervisor's clock needs no watchdog...
    no_timer_check      ...and its timer no trial
"""


def image(packages: Unpacked) -> bytes:
    """Return the kernel as it boots: a bzImage, or an Image on aarch64."""
    return packages.read(packages.only(r"boot/vmlinuz-.*"))


def modules(packages: Unpacked, listing: str, order: str = "order") -> dict[str, cpio.Entry]:
    """Return the modules that the text `listing` names, one a line, and those that they depend on.

    They lie in `lib/modules`, beside a file named `order` that lists them so that each comes after what it needs:
    insmod can load them one by one, and no modprobe, no depmod and no index is needed. One that the kernel has built
    in, or that it does not have on this architecture and the listing marks with a `?`, is left out.
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
    """Return a module's name as the kernel knows it: in file names, `-` and `_` are one. Source: modprobe(8)."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def _depends(module: bytes) -> list[str]:
    """Return the names that the module itself says it needs, in its section `.modinfo`."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module)
    return [_name(name) for name in found[1].decode().split(",") if name] if found else []
