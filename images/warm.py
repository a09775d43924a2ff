"""Warm images: machines saved once their guest was ready, from which instances begin instead of booting an image.

    STORE/warm/debian.x86_64-2-1024-10240-5f0c2a/     image, architecture, processors, MiB of memory and of disk
    ├── warm.json       one `WarmImage`
    └── ...             what the driver begins from (drivers/contract.py, `warm`)

Such a folder appears and vanishes by one rename, under the store's lock, and nothing in it is written again. Instances
have all of it under names of their own (os.link), so a warm image can be deleted at any time. The last part of the name
is random, and never the same twice: a process that links a warm image while it is made again finds either all of the
old one, or a name that is gone, but never the memory of one beside the disk of another.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..fsm.spec import Spec
from ..host.files import UnfitFileError, make_private_directory, publish, read_own, retire, write_whole
from ..host.sizes import in_words
from ..host.unneeded import bytes_in
from .store import Image, Store, Writer

RECORD = "warm.json"

_SCHEMA = 1
"""A record of another version counts as absent: a warm image can be made again."""


class WarmImage(NamedTuple):
    """A machine of an image that others begin from."""

    image: str
    arch: str
    mark: str
    """SHA-256 of the image's file by which its instances are recognised; another build of the image has another."""
    driver: str
    cpus: int
    memory_bytes: int
    disk_bytes: int
    programs: str
    """SHA-256 of Interlock's programs in its guest."""
    created_at: str
    """UTC, ISO 8601."""
    version: str
    """The version of Interlock that made it."""
    folder: Path

    @property
    def size_bytes(self) -> int:
        """The space that it takes on the disk."""
        return bytes_in(self.folder)

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that an instance links: name → file."""
        return {path.name: path for path in self.folder.iterdir()}

    @property
    def sizes(self) -> tuple[str, int, int, int]:
        """Return what makes two warm images of one image differ: driver, processors, memory, disk."""
        return self.driver, self.cpus, self.memory_bytes, self.disk_bytes

    @property
    def machine(self) -> str:
        """Return a description of the machine, for people."""
        return f"cpus {self.cpus}, memory {in_words(self.memory_bytes)}, disk {in_words(self.disk_bytes)}"

    def misfit(self, image: Image, spec: Spec, programs: str) -> str | None:
        """Return why an instance of `image` and `spec`, whose seed has `programs`, cannot begin from it, or None."""
        if self.mark != image.mark.digest:
            return "the image has been rebuilt since"
        if self.programs != programs:
            return "another version of Interlock made it"
        for name, here, there in (
            ("processors", spec.cpus, self.cpus),
            ("memory", spec.memory_bytes, self.memory_bytes),
            ("disk", spec.disk_bytes, self.disk_bytes),
            ("driver", spec.driver, self.driver),
        ):
            if here != there:
                said = [str(it) if name in ("processors", "driver") else in_words(int(it)) for it in (there, here)]
                return f"it has {name} {said[0]}, not {said[1]}"
        return None

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the warm image in `folder`, or None if it is missing or incomplete."""
        try:
            data = json.loads(read_own(folder / RECORD))
            if data["schema"] != _SCHEMA:
                return None
            return cls(**{name: data[name] for name in cls._fields if name != "folder"}, folder=folder)
        except (OSError, UnfitFileError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form, without the instances that use it."""
        hidden = ("folder", "mark", "programs", "image", "arch")
        record = {name: value for name, value in self._asdict().items() if name not in hidden}
        return {**record, "size_bytes": self.size_bytes}


def key(image: str, arch: str, spec: Spec) -> str:
    """Return a new name for the folder of a warm image for machines like `spec`."""
    return f"{image}.{arch}-{spec.cpus}-{spec.memory_bytes >> 20}-{spec.disk_bytes >> 20}-{secrets.token_hex(3)}"


def warm_images(store: Store, name: str | None = None, arch: str | None = None) -> Iterator[WarmImage]:
    """Yield the warm images in the store, or those of the image `name` for `arch`."""
    for folder in sorted(store.warm.glob("[!.]*/")):
        found = WarmImage.read(folder)
        if found and name in (None, found.image) and arch in (None, found.arch):
            yield found


def add(writer: Writer, warm: WarmImage) -> WarmImage:
    """Publish the warm image in `warm.folder`, a folder in the writer's `work`; it replaces one of the same machine.

    Returns it with the folder where it lies now.
    """
    make_private_directory(writer.store.warm)
    replaced = [one for one in warm_images(writer.store, warm.image, warm.arch) if one.sizes == warm.sizes]
    record = {**warm._asdict(), "folder": None, "schema": _SCHEMA}
    write_whole(warm.folder / RECORD, json.dumps(record).encode() + b"\n")
    place = writer.store.warm / warm.folder.name
    publish(warm.folder, place)
    for one in replaced:
        remove(writer, one.folder)
    return warm._replace(folder=place)


def remove(writer: Writer, folder: Path) -> None:
    """Remove the warm image in `folder`; instances keep their links to it."""
    retire(folder, writer.work / f"{folder.name}.gone")
