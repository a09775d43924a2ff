"""Everything that a template asks for and this host lacks, each with its place.

`create` and `template validate` both use this module, so they report the same. What a driver cannot do, the driver
itself reports (`Driver.check`).
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path as HostPath

import yaml

from ..disks import Disks
from ..drivers.contract import Driver
from ..errors import NotFoundError, UsageError
from ..templates.document import Path, written
from ..templates.mistakes import Mistake, mistake
from ..templates.model import Template
from . import host_facts, resolve


def unmet(tree: yaml.Node, template: Template, arch: str, driver: Driver, disks: Disks) -> list[Mistake]:
    """Return a mistake for each thing that `template`, resolved from `tree`, asks for and this host lacks."""
    return [mistake(tree, path, words) for path, words in _problems(template, arch, driver, disks)]


def missing_folders(template: Template) -> list[HostPath]:
    """Return the folders that `template` mounts and that do not exist yet."""
    return [path for path in (HostPath(mount.location) for mount in template.mounts) if not path.exists()]


_Problems = Iterator[tuple[Path, str]]


def _problems(template: Template, arch: str, driver: Driver, disks: Disks) -> _Problems:
    if driver.abilities.images and not any(image.arch in (arch, None) for image in template.images):
        offered = ", ".join(sorted({image.arch for image in template.images if image.arch}))
        yield ("images",), f"there is no image for {arch}; there are images for {offered}"
    engine = template.containerd
    if engine.asked and engine.archives and engine.archive(arch) is None:
        yield ("containerd", "archives"), f"there is no archive for {arch}"
    for number, mount in enumerate(template.mounts):
        yield from _folder(("mounts", number, "location"), HostPath(mount.location))
    for number, disk in enumerate(template.additional_disks):
        yield from _found(("additionalDisks", number), partial(disks.path, disk.name))
    if template.timezone:
        yield from _found(("timezone",), partial(host_facts.zone, template.timezone))
    for name in template.host_resolver.hosts:
        yield from _found(("hostResolver", "hosts", name), partial(resolve.address, template, name))
    for number in range(len(template.ca_certs.files)):
        yield from _found(("caCerts", "files", number), partial(resolve.certificates, template, number))


def _found(path: Path, look: Callable[[], object]) -> _Problems:
    try:
        look()
    except (UsageError, NotFoundError) as error:
        yield path, error.message.removeprefix(f"{written(path)}: ")


def _folder(path: Path, folder: HostPath) -> _Problems:
    """Yield why `folder` cannot be mounted or, if it is missing, cannot be made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists() or parent.is_symlink())
    if not there.is_dir():
        yield path, f"{there} is not a folder"
    elif there != folder and not os.access(there, os.W_OK | os.X_OK):
        yield path, f"there is no folder {folder}, and you may not make one in {there}"
