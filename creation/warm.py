"""Chooses the warm image that a new instance begins from: one that fits its machine."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ..drivers.contract import WARM
from ..errors import UsageError
from ..fsm.spec import Spec
from ..guest.seed import PROGRAMS
from ..host.progress import Report
from ..host.sizes import exact
from ..images.store import Image, Store
from ..images.warm import WarmImage, warm_images


def choose(store: Store, image: Image, spec: Spec) -> tuple[WarmImage | None, str]:
    """Return the warm image that an instance of `image` and `spec` can begin from, or None and why none fits."""
    if spec.mounts or spec.disks or spec.cpu_model or spec.vnc or spec.tpm or spec.nested or spec.lan:
        return None, "a machine with mounts, attached disks, other devices or a cpuType cannot start from one"
    why, ours = "", programs()
    for found in warm_images(store, image.name, image.arch):
        misfit = found.misfit(image, spec, ours)
        if misfit is None:
            return found, ""
        why = f"{found.folder.name}: {misfit}"
    return None, why


def materials(store: Store, image: Image, spec: Spec, wanted: str, report: Report) -> Mapping[str, Path]:
    """Return the files of the warm image that an instance of `image` and `spec` begins from, by their names beside the
    spec. `wanted` is the template's value of `warm`: `auto`, `never` or `always`.

    Raises UsageError if `wanted` is `always` and no warm image fits.
    """
    if wanted == "never":
        return {}
    found, why = choose(store, image, spec)
    if found:
        report(f"using the warm image of {image.name}, {found.machine}")
        return {f"{WARM}/{name}": path for name, path in found.files.items()}
    if wanted == "always":
        raise UsageError(
            f"the template asks for a warm image of {image.name}, but none fits{why and f': {why}'}",
            hint=f"interlock image warm {image.name} {_options(spec)}",
        )
    if why:
        report(f"no warm image fits, so the first start boots: {why}")
    return {}


def programs() -> str:
    """Return the SHA-256 of the programs that a new guest gets; the guest of a warm image must have the same."""
    return sha256(b"".join(file.read_bytes() for file in PROGRAMS.values())).hexdigest()


def _options(spec: Spec) -> str:
    return f"--cpus {spec.cpus} --memory {exact(spec.memory_bytes)} --disk {exact(spec.disk_bytes)}"
