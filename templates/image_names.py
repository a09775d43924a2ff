"""What an image's file name reveals: that it is an image, its architecture, and a name for an instance of it.

The words to look for are Lima's. Source: Lima, pkg/limatmpl/locator.go.
"""

import json
import platform
import re
from urllib.parse import urlsplit

_IMAGE = re.compile(r"\.(img|qcow2|raw|iso)(\.(gz|xz|bz2|zst|zstd))?\Z")

_ARCH = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armhf": "armv7l",
    "armv7l": "armv7l",
    "ppc64el": "ppc64le",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}

_SAY_NOTHING = (
    "base|basic|cloud|cloudimg|cloudinit|current|daily|default|generic|genericcloud|kvm|latest|linux|minimal|openstack"
    "|release|server|std|stream|uefi|vm"
)
"""Words that many images have in their names."""


def is_image(locator: str) -> bool:
    """True for the path or URL of an image: `cloud-amd64.qcow2`, `https://example.org/x.img.xz`."""
    return bool(_IMAGE.search(urlsplit(locator).path if locator.startswith(("http:", "https:")) else locator))


def arch(locator: str) -> str | None:
    """Return the architecture that the locator of an image contains, as Lima spells it; None if it contains none."""
    found = re.search(rf"\b({'|'.join(_ARCH)})\b", locator.replace("_", " ").replace("x86 64", "x86_64"))
    return _ARCH[found[1]] if found else None


def template(locator: str) -> bytes:
    """Return the text of a template with only the image at `locator`, for the architecture in it or this host's."""
    named = arch(locator) or platform.machine()
    return f"arch: {named}\nimages:\n- location: {json.dumps(locator)}\n  arch: {named}\n".encode(errors="replace")


def instance_name(locator: str) -> str:
    """Return a name for an instance of the image: `Rocky-9-GenericCloud-Base-9.4.x86_64.qcow2` gives `rocky-9.4`."""
    path = urlsplit(locator).path if "://" in locator else locator
    name = _IMAGE.sub("", path.rsplit("/", 1)[-1].lower()).removeprefix("nocloud_")
    name = re.sub(rf"[-_.]({_SAY_NOTHING})\b", "", name)
    ours = [word for word, meant in _ARCH.items() if meant == platform.machine()]
    name = re.sub(rf"[-_.]({'|'.join(ours) or 'none'})\b", "", name)
    name = re.sub(r"[-_.]20\d{6}([-_.]\d+)?\b", "", name)  # a date
    name = re.sub(r"\Aarch\b", "archlinux", name)
    return re.sub(r"-(\d+)-\1\.", r"-\1.", name)
