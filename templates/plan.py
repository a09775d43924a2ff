"""Turns a template into a draft: the one place where a template, an image and this host meet.

A plan is made before the instance exists and carried out by the transition `create` under the instance's lock. What
comes out, a `Draft`, names no template, no image and no cache: its spec is complete and its materials are files.
"""

import getpass
import os
import platform
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from ..drivers.contract import Driver
from ..fsm.errors import UsageError
from ..fsm.home import Home
from ..fsm.port import Draft, Plan, Report
from ..fsm.records import now
from ..fsm.spec import Spec
from ..guest.facts import SYSTEM, Script, Seed
from ..guest.keys import KeyPair, new_host_key, user_key
from ..guest.seed import nocloud, overlay
from ..images.store import Image, Store
from .load import load, words
from .model import ImageSource, Template, Wished

DEFAULT_CPUS = 2
DEFAULT_MEMORY_BYTES = 1 << 30
DEFAULT_DISK_BYTES = 10 << 30
DEFAULT_USER = "interlock"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the template; None leaves the template's value, or the default."""

    arch: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    user: str | None = None
    start_timeout_s: float | None = None
    stop_timeout_s: float | None = None


def plan(home: Home, name: str, locator: str, driver: Driver, wishes: Wishes) -> Plan:
    """Return the plan of the instance `name` from the template that `locator` means. Nothing is read or made yet.

    Raises UsageError for wishes that no machine could fulfil.
    """
    _check(wishes)

    def resolve(report: Report) -> Draft:
        report(f"reading template {locator}")
        template = load(locator)
        arch = wishes.arch or template.arch or platform.machine()
        if arch not in driver.abilities.arches:
            raise UsageError(f'driver "{driver.name}" has no machines of architecture {arch}')
        if not driver.abilities.images:
            return Draft(_spec(name, locator, template, driver, wishes, arch=arch, boot="kernel"), {})
        image = bring_image(Store(home.images), _source(template, arch, locator), report)
        boot = template.boot or image.boot[0]
        if boot not in image.boot:
            raise UsageError(f"image {image.name} boots by {' or '.join(image.boot)}, not by {boot}")
        report("making keys and seed")
        spec = _spec(
            name, locator, template, driver, wishes, arch=arch, boot=boot, kernel_arguments=image.kernel_arguments
        )
        return Draft(spec, _materials(home, image, spec, template))

    return resolve


def bring_image(store: Store, source: ImageSource, report: Report) -> Image:
    """Return the image of `source`, built or fetched now if the store has none."""
    scheme, _, rest = source.location.partition(":")
    if scheme == "build":
        from ..images.build import build

        return store.get(rest, source.arch) or build(store, rest, source.arch, report)
    from ..images.fetch import fetch

    url = source.location if scheme in ("http", "https", "file") else Path(source.location).absolute().as_uri()
    name = re.sub(r"[^a-z0-9_-]+", "-", url.rsplit("/", 1)[-1].lower().removesuffix(".qcow2")).strip("-")[:63]
    return store.get(name, source.arch) or fetch(store, name, source.arch, url, source.digest, report)


def _check(wishes: Wishes) -> None:
    try:
        Wished.model_validate(asdict(wishes))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(f"{problem['loc'][0]}: {words(problem)}") from error


def _source(template: Template, arch: str, locator: str) -> ImageSource:
    for source in template.images:
        if source.arch == arch:
            return source
    offered = ", ".join(sorted({source.arch for source in template.images}))
    raise UsageError(f"template {locator} has no image for {arch}; it has: {offered}")


def _spec(
    name: str,
    locator: str,
    template: Template,
    driver: Driver,
    wishes: Wishes,
    *,
    arch: str,
    boot: str,
    kernel_arguments: str = "",
) -> Spec:
    return Spec(
        driver=driver.name,
        arch=arch,
        cpus=wishes.cpus or template.cpus or DEFAULT_CPUS,
        memory_bytes=wishes.memory_bytes or template.memory or DEFAULT_MEMORY_BYTES,
        disk_bytes=wishes.disk_bytes or template.disk or DEFAULT_DISK_BYTES,
        user=wishes.user or template.user.name or host_user(),
        hostname=hostname(name),
        instance_id=f"i-{uuid.uuid4().hex[:16]}",
        boot=boot,
        kernel_arguments=kernel_arguments,
        start_timeout_s=wishes.start_timeout_s or START_TIMEOUT_S,
        stop_timeout_s=wishes.stop_timeout_s or STOP_TIMEOUT_S,
        created_at=now(),
        origin=locator,
    )


def _materials(home: Home, image: Image, spec: Spec, template: Template) -> dict[str, Path | bytes]:
    """Return the files that must lie beside the spec: links into the store, keys, and the seed of the first boot."""
    store, key, host_key = Store(home.images), user_key(home.keys), new_host_key()
    seed = Seed(
        user=spec.user,
        hostname=spec.hostname,
        instance_id=spec.instance_id,
        authorized_keys=(key.public.decode().strip(),),
        host_key=host_key,
        scripts=tuple(Script(SYSTEM, step.script.encode()) for step in template.provision),
    )
    materials: dict[str, Path | bytes] = {"ssh.key": key.private, "known_hosts": _pin(host_key)}
    if disk := image.files.get("disk"):
        materials["base.qcow2"] = store.path(disk.digest)
    if spec.boot == "kernel":
        materials["kernel"] = store.path(image.files["kernel"].digest)
        initrd = store.path(image.files["initrd"].digest)
    if image.first_boot[image.boot.index(spec.boot)] == "overlay":
        materials["initrd"] = initrd.read_bytes() + overlay(seed)
    else:
        materials["seed.iso"] = nocloud(seed)
        if spec.boot == "kernel":
            materials["initrd"] = initrd
    return materials


def _pin(host_key: KeyPair) -> bytes:
    """Return the line of known_hosts; `guest` is the HostKeyAlias, so that no port and no name has to be known."""
    kind, key = host_key.public.split()[:2]
    return b"guest " + kind + b" " + key + b"\n"


def hostname(name: str) -> str:
    """Return what the guest calls itself: `name` without what RFC 1123 does not allow in a label."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "guest"


def host_user() -> str:
    """Return the login of whoever creates, so that it is the same inside; another where that cannot be a login."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):
        return DEFAULT_USER
    return login if os.geteuid() != 0 and re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", login) else DEFAULT_USER
