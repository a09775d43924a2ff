"""The guest's screen, shown by VNC on this host's loopback to those who know the password.

    vncdisplay      where, while the machine runs: `127.0.0.1:0`; display N is TCP port 5900 + N
    vncpassword     a new one for each run, of the eight characters that the protocol has room for

Both names are Lima's. Connections are not encrypted, so the screen is never offered to other hosts: from there, tunnel
to this host by ssh. Source: RFC 6143, 7.2.2; qemu(1), `-vnc`.
"""

import re
import secrets
import string
from pathlib import Path

from ...errors import DriverError
from ...fsm.records import Screen
from ...host.files import read_own, remove_tree, write_whole
from ..contract import Site
from . import host_ports

DISPLAY, PASSWORD = "vncdisplay", "vncpassword"

REFUSED = "Failed to find an available port"
"""What QEMU says when another program took the port after it was found free."""

_FIRST_PORT = 5900
_LENGTH = 8
_LETTERS = string.ascii_letters + string.digits

_FORM = re.compile(r"(?P<ip>.+):(?P<first>\d+)(,to=(?P<last>\d+))?")


def prepare(site: Site) -> None:
    """Choose a display and a password for the run of `site` that begins, if its machine has a screen.

    Raises DriverError where no display is free.
    """
    if not site.spec.vnc:
        return
    write_whole(site.directory / DISPLAY, f"{chosen(site)}\n".encode())
    password = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    write_whole(site.directory / PASSWORD, password.encode())


def chosen(site: Site) -> str:
    """Return the display that `prepare` would choose now, and raise what it would; nothing is recorded."""
    ip, first, last = _displays(site.spec.vnc)
    for number in range(first, last + 1):
        if host_ports.free(_FIRST_PORT + number, ip):
            return f"{ip}:{number}"
    if first == last:
        host_ports.check_free(ip, _FIRST_PORT + first)
    raise DriverError(f"no TCP port from {_FIRST_PORT + first} to {_FIRST_PORT + last} of {ip} is free for the screen")


def arguments(site: Site) -> list[str]:
    """Return QEMU's options for the screen, keyboard and pointer of `site`; an empty list if it has no screen."""
    if not site.spec.vnc:
        return []
    # A tablet reports absolute positions, so the guest's pointer stays below the viewer's.
    devices = ["qemu-xhci,id=usb", "usb-tablet,bus=usb.0"]
    # Firmware and every kernel know VGA; machines other than PCs need virtio-gpu, and a keyboard too.
    devices += ["VGA"] if site.spec.arch == "x86_64" else ["usb-kbd,bus=usb.0", "virtio-gpu-pci"]
    return [
        "-object", f"secret,id=vnc,file={PASSWORD}",
        "-vnc", f"{_display(site)},password-secret=vnc",
        *(word for device in devices for word in ("-device", device)),
    ]  # fmt: skip


def screen(directory: Path) -> Screen | None:
    """Return where the screen of the machine in `directory`, which is alive, is shown; None where that is unknown."""
    try:
        ip, first, _ = _displays(read_own(directory / DISPLAY).decode().strip())
    except (OSError, ValueError):
        return None
    return Screen(f"{ip}:{_FIRST_PORT + first}", str(directory / PASSWORD))


def forget(directory: Path) -> None:
    """Remove what `prepare` wrote."""
    for name in (DISPLAY, PASSWORD):
        remove_tree(directory / name)


def _display(site: Site) -> str:
    """Return the display of this run; before the first run, the first display that the spec names."""
    try:
        return read_own(site.directory / DISPLAY).decode().strip()
    except OSError:
        ip, first, _ = _displays(site.spec.vnc)
        return f"{ip}:{first}"


def _displays(text: str) -> tuple[str, int, int]:
    """Return the address, and the first and last display on it, that `text` names."""
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a display")
    first = int(found["first"])
    return found["ip"], first, int(found["last"] or first)
