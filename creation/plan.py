"""Turns a template into a draft: the only place where a template, an image and this host meet.

A plan is made before the instance exists and carried out by the transition `create` under the instance's lock. It
yields a `Draft` that names no template, image or cache: its spec is complete and its materials are files.
"""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..disks import Disks
from ..drivers.contract import BASE, CD, INITRD, KERNEL, KNOWN_HOSTS, SEED, SSH_KEY, TEMPLATE, Driver, disk_file
from ..errors import UntrustedTemplateError, UsageError
from ..fsm.identity import hostname, new_instance_id
from ..fsm.port import Draft, Plan
from ..fsm.records import now
from ..fsm.spec import Disk, PortRule, Spec
from ..guest.keys import USER_KEY, new_host_key, pin, user_key
from ..guest.seed import nocloud, overlay
from ..host.files import RECORD_BYTES, make_private_directory
from ..host.home import Home, user_home
from ..host.progress import Report
from ..images.obtain import obtain, stored
from ..images.source import Kernel, Place, Source
from ..images.store import Image, Store
from ..images.usage import claim
from ..templates.expand import Guest, Host
from ..templates.load import Loaded, expand, load, refused
from ..templates.locate import public
from ..templates.mistakes import words_of
from ..templates.model import Wished
from ..templates.parts import ImageSource
from ..version import __version__
from . import handed, host_facts, requirements, resolve
from .reach import Reach, reach
from .warm import materials as of_warm_image
from .wishes import Wishes

START_TIMEOUT_S = 300.0
SCRIPTED_START_TIMEOUT_S = 1800.0
"""For a guest that runs scripts before it is ready: they may install whole container engines over a slow network."""
STOP_TIMEOUT_S = 60.0


def read(home: Home, template: str | Mapping[str, Any], edits: tuple[str, ...] = ()) -> Loaded:
    """Return the template that `template` means or is, changed by `edits` (`cpus=4`), with the home's defaults.

    `template` is a locator (templates/locate.py), a text of several lines, or a mapping. Raises what `load` raises.
    """
    return load(template, edits=edits, defaults=home.defaults if home.defaults.exists() else None)


def plan(home: Home, name: str, template: str | Mapping[str, Any] | Loaded, driver: Driver, wishes: Wishes) -> Plan:
    """Return the plan of the instance `name` from `template`: one already read, or one that `read` reads later.

    Nothing is read or made yet. Raises UsageError for wishes that no machine could fulfil. Carrying the plan out raises
    UntrustedTemplateError for a template from a server that asks for access to this host, unless `wishes.trust`.
    """

    planner = _trusted(home, name, template, driver, wishes)

    def draft(report: Report) -> Draft:
        if not isinstance(template, Loaded):
            report(f"reading template {public(template)}")
        return planner(report).draft(report)

    return draft


def rehearsed(
    home: Home, name: str, template: str | Mapping[str, Any] | Loaded, driver: Driver, wishes: Wishes
) -> Plan:
    """Return a plan like that of `plan` for a dry run: it makes nothing, and its files have no content.

    It reports what would be made besides the instance. If the store lacks the image, the draft is incomplete.
    """
    planner = _trusted(home, name, template, driver, wishes)
    return lambda report: planner(report).outline(report)


def _trusted(
    home: Home, name: str, template: str | Mapping[str, Any] | Loaded, driver: Driver, wishes: Wishes
) -> "Callable[[Report], _Planner]":
    """Return a function that makes the planner of `name`, or raises UntrustedTemplateError if trust is missing."""
    _check(wishes)

    def planner(report: Report) -> _Planner:
        loaded = template if isinstance(template, Loaded) else read(home, template, wishes.edits)
        for note in loaded.notes:
            report(note)
        made = _Planner(home, name, loaded, driver, wishes)
        untrusted = [str(one) for one in made.reach if one.server]
        if untrusted and not wishes.trust:
            raise UntrustedTemplateError(
                f"{loaded.name} comes from a server and asks for access to this host, which needs --trust",
                details=untrusted,
            )
        for one in made.reach:
            report(str(one))
        return made

    return planner


def machine_of(  # noqa: PLR0917 - what a plan is made of
    home: Home, name: str, loaded: Loaded, driver: Driver, wishes: Wishes, report: Report
) -> tuple[Image, Spec]:
    """Return the image and the machine of an instance to be created from `loaded`; the image is obtained now.

    Raises what creating the instance would raise.
    """
    planner = _trusted(home, name, loaded, driver, wishes)(report)
    return planner.image(report), planner.spec()


def described(home: Home, name: str, loaded: Loaded, driver: Driver, wishes: Wishes) -> Spec:
    """Return the machine of the instance `name`, created from `loaded`, as far as it does not depend on the image.

    Raises what creating the instance would raise before it looks for an image, except UntrustedTemplateError.
    """
    return _Planner(home, name, loaded, driver, wishes).spec()


def check(home: Home, name: str, loaded: Loaded, driver: Driver, wishes: Wishes) -> list[Reach]:
    """Return what the instance `name`, created from `loaded`, would reach on this host; nothing is made.

    Raises what creating the instance would raise before it looks for an image, except UntrustedTemplateError.
    """
    planner = _Planner(home, name, loaded, driver, wishes)
    planner.spec()
    return planner.reach


class _Planner:
    """Plans the machine of one instance from one template."""

    def __init__(self, home: Home, name: str, loaded: Loaded, driver: Driver, wishes: Wishes) -> None:
        self.home = home
        self.name = name
        self.driver = driver
        self.wishes = wishes
        self.loaded = loaded
        who = resolve.user(loaded.template, wishes.user)
        self.template = expand(loaded, _outside(name, home.directory(name)), _inside(name, who))
        self.who = replace(who, home=self.template.user.home or who.home)
        self.arch = wishes.arch or self.template.arch or platform.machine()
        if self.arch not in driver.abilities.arches:
            raise UsageError(f'driver "{driver.name}" has no machines of architecture {self.arch}')
        if lacking := requirements.unmet(loaded.tree, self.template, self.arch, driver, Disks(home)):
            raise refused(loaded, lacking)
        self.reach = reach(loaded.tree, self.template, self.arch, str(home.directory(name)))

    def draft(self, report: Report) -> Draft:
        """Return the spec and the files of the machine; obtains the image and makes missing folders."""
        spec = self.spec()
        whole = self._without_image(spec)
        self._make_folders(report)
        if whole:
            return whole
        store, image = Store(self.home.images), self.image(report)
        claim(store, image, make_private_directory(self.home.creating(self.name)))
        spec = self._booting(spec, image)
        report("making keys and seed")
        materials = {**self._materials(image, spec), **self._warm(image, spec, report)}
        return Draft(spec, materials, self._shared(spec))

    def outline(self, report: Report) -> Draft:
        """Return what `draft` would return, but with empty files; nothing is made or obtained."""
        spec = self.spec()
        for folder in requirements.missing_folders(self.template):
            report(f"makes the folder {folder}, to be mounted")
        if whole := self._without_image(spec):
            return whole
        image = stored(Store(self.home.images), self._sources())
        if image is None:
            report(f"obtains the image from {self._sources()[0].shown}")
            return Draft(spec, {}, self._shared(spec))
        spec = self._booting(spec, image)
        if not (self.home.keys / USER_KEY).exists():
            report(f"makes the key {self.home.keys / USER_KEY}, for logging in to guests")
        return Draft(
            spec,
            dict.fromkeys((*_material_names(image, spec), *self._warm(image, spec, report)), b""),
            self._shared(spec),
        )

    def _without_image(self, spec: Spec) -> Draft | None:
        """Return the whole draft if the driver takes no image from here; None if it does."""
        if self.driver.abilities.kept_by:
            return Draft(spec, {TEMPLATE: handed.text(self.loaded, self.template, spec)})
        return None if self.driver.abilities.images else Draft(spec, {})

    def _booting(self, spec: Spec, image: Image) -> Spec:
        """Return `spec` with the way in which `image` boots; raises UsageError if that is not possible."""
        boot = self.template.boot_way(self.arch) or _fastest(image, spec)
        if boot not in image.boot and not (boot == "bios" and "firmware" in image.boot):  # a disk may have both loaders
            raise UsageError(f"image {image.name} boots by {' or '.join(image.boot)}, not by {boot}")
        if spec.tpm and boot == "kernel":
            raise UsageError(
                f"a machine with a TPM boots by its firmware, but image {image.name} only by {' or '.join(image.boot)}",
                hint="interlock template list",
            )
        return spec._replace(boot=boot, kernel_arguments=image.kernel_arguments if boot == "kernel" else "")

    def _shared(self, spec: Spec) -> dict[str, Path]:
        return {disk_file(disk.name): Disks(self.home).path(disk.name) for disk in spec.disks}

    def _warm(self, image: Image, spec: Spec, report: Report) -> Mapping[str, Path]:
        """Return the files of the warm image that the machine begins from; empty if there is none."""
        if not self.driver.abilities.warms or spec.boot != "kernel":
            return {}
        return of_warm_image(Store(self.home.images), image, spec, self.template.warm, report)

    def image(self, report: Report) -> Image:
        """Return the image of the machine, obtained now if the store lacks it."""
        return obtain(Store(self.home.images), self._sources(), report)

    def _make_folders(self, report: Report) -> None:
        """Make the missing folders to be mounted; raises UsageError for those that cannot be made."""
        failed = []
        for folder in requirements.missing_folders(self.template):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                failed.append(f"{folder}: {error.strerror}")
            else:
                report(f"made the folder {folder}, to be mounted")
        if failed:
            raise UsageError("cannot make the folders to be mounted", details=failed)

    def spec(self) -> Spec:
        """Return the machine, as far as it does not depend on the image."""
        template, wishes = self.template, self.wishes
        scripted = template.provision or template.probes or template.containerd.asked
        spec = Spec(
            driver=self.driver.name,
            arch=self.arch,
            cpus=wishes.cpus or template.cpus or resolve.cpus(),
            memory_bytes=wishes.memory_bytes or template.memory or resolve.memory_bytes(),
            disk_bytes=wishes.disk_bytes or template.disk or resolve.DISK_BYTES,
            user=self.who.name,
            hostname=hostname(self.name),
            instance_id=new_instance_id(),
            boot="kernel",
            start_timeout_s=wishes.start_timeout_s or (SCRIPTED_START_TIMEOUT_S if scripted else START_TIMEOUT_S),
            stop_timeout_s=wishes.stop_timeout_s or STOP_TIMEOUT_S,
            created_at=now(),
            cpu_model=template.cpu_model(self.arch),
            ssh_port=template.ssh.local_port,
            forward_agent=template.ssh.forward_agent,
            forward_x11=template.ssh.forward_x11,
            forward_x11_trusted=template.ssh.forward_x11_trusted,
            lan=resolve.lan(template),
            network_host=template.network.host,
            network_internet=template.network.internet,
            restart=template.restart,
            timezone=host_facts.timezone() if template.timezone is None else template.timezone,
            cluster=wishes.cluster or "",
            node=wishes.node or "",
            group=wishes.group or "",
            message=template.message,
            mounts=resolve.mounts(template),
            forwards=resolve.forwards(template.port_forwards),
            port_rules=self._port_rules(),
            disks=tuple(self._disk(asked.name) for asked in template.additional_disks),
            probes=resolve.probes(template),
            copies=resolve.copies(template),
            vnc=resolve.vnc(template),
            tpm=template.tpm,
            nested=template.nested_virtualization,
            origin=self.loaded.name,
            kept_by=self.driver.abilities.kept_by,
            version=__version__,
        )
        if len(json.dumps(spec.to_json())) > RECORD_BYTES:
            raise UsageError(
                f"{self.loaded.name}: probes and message together are longer than {RECORD_BYTES >> 20} MiB"
            )
        self.driver.check(spec)
        return spec

    def _port_rules(self) -> tuple[PortRule, ...]:
        """Return the rules for ports that open in the guest. A guest cut off from the host gets no default rule."""
        template, able = self.template, self.driver.abilities
        if able.kept_by:
            return ()  # the program that keeps the machine follows the template
        default = able.follows_ports and template.network.host and not template.plain
        return resolve.port_rules(template.port_forwards, default=default)

    def _disk(self, name: str) -> Disk:
        return Disk(name, format=Disks(self.home).path(name).suffix.removeprefix("."))

    def _sources(self) -> list[Source]:
        """Return the sources of the image, in the template's order; they are mirrors of each other."""
        return [_source(one, self.arch) for one in self.template.images if one.arch in (self.arch, None)]

    def _materials(self, image: Image, spec: Spec) -> dict[str, Path | bytes]:
        """Return the files to put beside the spec: links into the store, keys, and the seed."""
        store, key, host_key = Store(self.home.images), user_key(self.home.keys), new_host_key()
        more_keys = host_facts.public_keys(user_home()) if self.template.ssh.load_dot_ssh_pub_keys else ()
        seed = resolve.seed(self.template, spec, self.who, (key.public.decode().strip(), *more_keys), host_key)
        seed = replace(seed, name=self.name)
        materials: dict[str, Path | bytes] = {SSH_KEY: key.private, KNOWN_HOSTS: pin(host_key)}
        materials |= {name: store.path(image.files[role].digest) for name, role in _links(image, spec).items()}
        if _seeded_by_initrd(image, spec):
            materials[INITRD] = store.path(image.files["initrd"].digest).read_bytes() + overlay(seed)
        else:
            materials[SEED] = nocloud(seed)
        return materials


def _fastest(image: Image, spec: Spec) -> str:
    """Return how a machine of `image` boots if the template does not say.

    A machine with a TPM boots by its firmware, which measures what it starts. Also, QEMU would put an initrd where the
    firmware of such a machine has its tables.
    """
    ways = [way for way in image.boot if way != "kernel" or not spec.tpm]
    return (ways or image.boot)[0]


def _material_names(image: Image, spec: Spec) -> list[str]:
    """Return the names of the files that `_Planner._materials` returns."""
    return [SSH_KEY, KNOWN_HOSTS, *_links(image, spec), INITRD if _seeded_by_initrd(image, spec) else SEED]


def _links(image: Image, spec: Spec) -> dict[str, str]:
    """Return the links beside the spec: name → role of the file of `image` that it leads to."""
    names = {BASE: "disk", CD: "cd"}
    if spec.boot == "kernel":
        names |= {KERNEL: "kernel", INITRD: "initrd"}
    return {name: role for name, role in names.items() if role in image.files}


def _seeded_by_initrd(image: Image, spec: Spec) -> bool:
    way = "firmware" if spec.boot == "bios" else spec.boot
    return image.first_boot[image.boot.index(way)] == "overlay"


def _inside(name: str, who: resolve.User) -> Guest:
    return Guest(name=name, hostname=hostname(name), uid=who.uid, user=who.name, home=who.home)


def _outside(name: str, directory: Path) -> Host:
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Host(name, str(directory), home=str(user_home()), uid=host_facts.uid(), user=host_facts.user(), arch=arch)


def _check(wishes: Wishes) -> None:
    try:
        Wished.model_validate(asdict(wishes))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(f"{problem['loc'][0]}: {words_of(problem)}") from error


def _source(asked: ImageSource, arch: str) -> Source:
    kernel = initrd = None
    if asked.kernel:
        kernel = Kernel(resolve.place(asked.kernel.location), asked.kernel.digest, asked.kernel.cmdline)
    if asked.initrd:
        initrd = Place(resolve.place(asked.initrd.location), asked.initrd.digest)
    return Source(resolve.place(asked.location), arch, asked.digest, kernel, initrd)
