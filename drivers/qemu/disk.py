"""The machine's disk: `disk.qcow2` holds what the guest wrote, over `base.qcow2`, which is never written to.

The base is a hard link to a file that other instances boot from too. The overlay names it by a relative path, because
the directory is renamed after it is built.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DriverError
from ...host.files import PRIVATE_UMASK, beside, flush, publish, remove_tree, sweep_beside, write_whole
from ...host.run import run
from ..contract import BASE, Site
from .monitor import Monitor

DISK = "disk.qcow2"

ROOT = "disk"
"""The node of the disk that the guest sees; `disk-NUMBER` after a fork. No other node's name begins like this."""

GROWN = "grown"
"""Exists while the disk has grown and the guest's file system has not been grown yet."""

LAYERS = "layer-*.qcow2"
"""The layers between disk and base of a machine that was cloned or is a clone (`cloning`)."""


def make(directory: Path, size_bytes: int) -> None:
    """Put a fresh disk of `size_bytes` into `directory`, replacing any existing one."""
    backing: list[str] = []
    if (directory / BASE).exists():
        _check_base(directory, size_bytes)
        backing = ["-F", "qcow2", "-b", BASE]
    with whole(directory, DISK) as name:
        run_qemu_img(["create", "-q", "-f", "qcow2", *backing, name, str(size_bytes)], directory)
    for layer in directory.glob(LAYERS):
        remove_tree(layer)


def grow(directory: Path, size_bytes: int) -> None:
    """Make the disk in `directory` at least `size_bytes` large. Only its header and tables change.

    QEMU writes the larger table first and names it in the header last, so a crash leaves the disk as it was, or grown.
    """
    info: dict[str, Any] = json.loads(run_qemu_img(["info", "--output=json", "-f", "qcow2", DISK], directory))
    if info["virtual-size"] < size_bytes:
        write_whole(directory / GROWN, b"")
        run_qemu_img(["resize", "-q", "-f", "qcow2", DISK, str(size_bytes)], directory)
        flush(directory / DISK)


def grow_in_use(site: Site) -> None:
    """Make the disk of the machine of `site`, which is alive, as large as its spec says; its guest sees that at once.

    Raises MonitorError. Source: QEMU, qapi/block-core.json, block_resize.
    """
    with Monitor(site.runtime) as monitor:
        node, size_bytes = root(monitor)
        if size_bytes < site.spec.disk_bytes:
            write_whole(site.directory / GROWN, b"")
            monitor.ask("block_resize", node_name=node, size=site.spec.disk_bytes)


def root(monitor: Monitor) -> tuple[str, int]:
    """Return the node of the disk that the guest sees, and its size."""
    devices: Any = monitor.ask("query-block")
    for device in devices:
        inserted = device.get("inserted", {})
        node = inserted.get("node-name", "")
        if node == ROOT or node.startswith(f"{ROOT}-"):
            return str(node), int(inserted["image"]["virtual-size"])
    raise DriverError("the hypervisor does not say which disk the guest writes to")


_LOST_SPACE = 3


@contextmanager
def whole(directory: Path, name: str) -> Iterator[str]:
    """Yield a temporary name for a file that replaces `name` in `directory` once the block is done.

    Until then the old file is kept. The name is unique, because the `qemu-img` of a killed process may still write to
    the previous one and have it locked.
    """
    sweep_beside(directory / name)
    fresh = beside(directory / name)
    try:
        yield fresh.name
        publish(fresh, directory / name)
    finally:
        fresh.unlink(missing_ok=True)


def check(directory: Path) -> None:
    """Raise DriverError if the disk in `directory` is damaged. Space that is merely lost does no harm.

    Source: qemu-img(1), check: status 2 is damage, 3 is lost space.
    """
    ended = run(["qemu-img", "check", "-q", "-f", "qcow2", DISK], cwd=directory)
    if ended.status not in (0, _LOST_SPACE):
        raise DriverError("the disk is damaged", details=list(ended.words))


def run_qemu_img(arguments: Sequence[str], directory: Path) -> str:
    """Return what `qemu-img`, run in `directory`, printed; raise DriverError with its words if it fails."""
    ended = run(["qemu-img", *arguments], cwd=directory, umask=PRIVATE_UMASK)
    if ended.status:
        said = [line.removeprefix("qemu-img: ") for line in ended.words] or ["failed"]
        raise DriverError(f"qemu-img {arguments[0]}: {said[0]}", details=said[1:])
    return ended.stdout.decode(errors="replace")


def _check_base(directory: Path, size_bytes: int) -> None:
    """Raise DriverError for a base that is larger than the disk, or that refers to other files."""
    info: dict[str, Any] = json.loads(run_qemu_img(["info", "--output=json", "-f", "qcow2", BASE], directory))
    if info["virtual-size"] > size_bytes:
        raise DriverError(
            f"the disk ({size_bytes} bytes) is smaller than its image ({info['virtual-size']} bytes): use --disk"
        )
    if {"backing-filename", "full-backing-filename"} & info.keys() or _data_file(info):
        raise DriverError("the image refers to another file; images must be self-contained")


def _data_file(info: dict[str, Any]) -> Any:
    return info.get("format-specific", {}).get("data", {}).get("data-file")
