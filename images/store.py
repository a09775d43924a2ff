"""The images that creation may start from: whole, immutable, named by what is in them."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..fsm.errors import ImageError
from ..fsm.files import open_private

SCHEMA = 1
"""Version of a manifest's JSON form. One of another version counts as absent: an image can be made again."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Report = Callable[[str], None]
"""Says which step the work has reached, in words for people."""


class Blob(NamedTuple):
    """One file of an image: the SHA-256 of its content in hexadecimal, which is its name in the store; its length."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine can be made of, and how such a machine is booted."""

    name: str
    arch: str
    """x86_64 or aarch64."""
    origin: str
    """Where it came from, in words for people: a URL, a release."""
    created_at: str
    """UTC, ISO 8601."""
    boot: tuple[str, ...]
    """The ways it boots, the fastest first: `kernel` (QEMU loads the files `kernel` and `initrd`), `firmware` (UEFI
    starts what is on the disk)."""
    first_boot: tuple[str, ...]
    """The seed that goes with each way of `boot`, in the same order: `overlay` or `nocloud`, as in guest/seed.py."""
    kernel_arguments: str = ""
    """The command line of `kernel`; the firmware's way has its own on the disk."""
    files: Mapping[str, Blob] = field(default_factory=dict)
    """By role: `disk` (qcow2), `kernel`, `initrd`. An image without a disk lives in memory. `Writer.add` fills it."""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest: one key for each field, a file as {digest, size_bytes}."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "arch": self.arch,
            "origin": self.origin,
            "created_at": self.created_at,
            "boot": list(self.boot),
            "first_boot": list(self.first_boot),
            "files": {role: blob._asdict() for role, blob in self.files.items()},
            "kernel_arguments": self.kernel_arguments,
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Return the image that the manifest `data` describes. Raises KeyError, TypeError or ValueError."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        files = {role: Blob(str(blob["digest"]), int(blob["size_bytes"])) for role, blob in data["files"].items()}
        if not all(_DIGEST.fullmatch(blob.digest) for blob in files.values()):
            raise ValueError("a digest is not one")
        return cls(
            name=str(data["name"]),
            arch=str(data["arch"]),
            origin=str(data["origin"]),
            created_at=str(data["created_at"]),
            boot=tuple(data["boot"]),
            first_boot=tuple(data["first_boot"]),
            files=files,
            kernel_arguments=str(data["kernel_arguments"]),
        )


class Store:
    """A folder of images, which any number of processes read while at most one changes it.

        DIRECTORY/
        ├── lock                        flock(2): exclusive for whoever builds, fetches, adds or deletes
        ├── manifests/debian.x86_64     JSON: one `Image`; its rename into place is the moment the image exists
        ├── blobs/<sha256>              a file of some image, mode 0400, never written again
        └── work/                       of the lock's holder; everything in it goes when the lock does

    Readers take no lock: a manifest is complete or absent, and what it names was there before it. The kernel releases
    a dead writer's lock; what that writer left in `work/` and the blobs that no manifest names are swept by the next.

    An instance has the files it needs under names of its own (os.link, made at creation), so deleting an image, or the
    whole store, takes nothing from it. How many there are is the inode's count of links: no list that could be wrong.

    Not promised: that a manifest found is still there a moment later. Who links files while others may delete
    looks the image up and links under `writing()`, or is ready to be told that a file is gone.
    """

    def __init__(self, directory: Path) -> None:
        """Describe the store in `directory`; nothing is read or made yet."""
        self.directory = directory
        self.manifests = directory / "manifests"
        self.blobs = directory / "blobs"
        self.work = directory / "work"

    def get(self, name: str, arch: str) -> Image | None:
        """Return the image, or None when there is none that is whole: damage is mended by making the image again."""
        try:
            image = Image.from_json(json.loads(self.manifest(name, arch).read_bytes()))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None
        return image if all(self.path(blob.digest).exists() for blob in image.files.values()) else None

    def list(self) -> tuple[Image, ...]:
        """Return every image, by name and architecture."""
        keys = sorted(path.name.rpartition(".") for path in self.manifests.glob("[!.]*.*"))
        return tuple(image for name, _, arch in keys if (image := self.get(name, arch)))

    def path(self, digest: str) -> Path:
        """Return where the blob of this digest lies, if it does: to be linked or read, never to be written."""
        return self.blobs / digest

    def users(self, image: Image) -> int:
        """Return how many files outside the store share `image`'s largest file: the number of its instances.

        The largest, because a kernel may well be common to two images. A copy made on another file system is not
        counted, and needs no counting.
        """
        largest = max(image.files.values(), key=lambda blob: blob.size_bytes)
        return self.path(largest.digest).stat().st_nlink - 1

    def delete(self, name: str, arch: str) -> bool:
        """Remove the image; False when there was none. Instances made from it notice nothing."""
        with self.writing() as writer:
            return writer.delete(name, arch)

    @contextlib.contextmanager
    def writing(self, report: Report | None = None) -> Iterator["Writer"]:
        """Hold the store's lock, and yield the one object that can change the store.

        Waits while another process holds it, telling `report` so. Look again for what you came for once you have it:
        the other may have made it.
        """
        for folder in (self.directory, self.manifests, self.blobs, self.work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Close-on-exec, as Python opens everything: a program that we run must not keep the lock beyond our death.
        with open_private(self.directory / "lock", "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report:
                    report("waiting for another process to finish with the image store")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._sweep()
            try:
                yield Writer(self, Path(tempfile.mkdtemp(dir=self.work)))
            finally:
                self._sweep()

    def manifest(self, name: str, arch: str) -> Path:
        """Return where the manifest lies, if it does. Raises ImageError for a name that could lead elsewhere."""
        if not (_NAME.fullmatch(name) and _NAME.fullmatch(arch)):
            raise ImageError(
                f"an image cannot be called {name!r} for {arch!r}", hint="use small letters, digits, '_' and '-'"
            )
        return self.manifests / f"{name}.{arch}"

    def _sweep(self) -> None:
        """Remove what nobody needs: other's work, half-written manifests, blobs that no image names."""
        for leftover in self.work.iterdir():
            shutil.rmtree(leftover)
        for leftover in self.manifests.glob(".*"):
            leftover.unlink()
        named = {blob.digest for image in self.list() for blob in image.files.values()}
        for blob in self.blobs.iterdir():
            if blob.name not in named:
                blob.unlink()


class Writer:
    """The right to change a store, while its lock is held. Made by `Store.writing` alone."""

    def __init__(self, store: Store, work: Path) -> None:
        self.store = store
        self.work = work
        """An empty folder on the store's own file system, for whatever comes before `add`."""

    def add(self, image: Image, files: Mapping[str, Path]) -> Image:
        """Put `image` into the store, made of `files` by role; return it with `files` filled in.

        The files must lie in `work` and are taken from there. The image replaces one of the same name and architecture
        at the instant when it is whole and on the disk; before that instant, nothing of it can be seen.
        """
        blobs = {role: self._take(path) for role, path in files.items()}
        _flush(self.store.blobs)
        whole = replace(image, files=blobs)
        manifest = self.store.manifest(image.name, image.arch)
        new = manifest.with_name(f".{manifest.name}")
        with open_private(new, "wb") as file:
            file.write(json.dumps(whole.to_json(), indent=2).encode() + b"\n")
        _flush(new)
        new.rename(manifest)
        _flush(manifest.parent)
        return whole

    def delete(self, name: str, arch: str) -> bool:
        """Remove the image; False when there was none. Its files go with the lock, save those another image names."""
        manifest = self.store.manifest(name, arch)
        existed = manifest.exists()
        manifest.unlink(missing_ok=True)
        _flush(manifest.parent)
        return existed

    def _take(self, path: Path) -> Blob:
        """Move the file `path` among the blobs, under the name of its content."""
        path.chmod(0o400)
        _flush(path)
        blob = Blob(_sha256(path), path.stat().st_size)
        there = self.store.path(blob.digest)
        # One that is there stays, because instances share it; unless the disk has spoilt it, which only reading shows.
        if not there.exists() or _sha256(there) != blob.digest:
            path.rename(there)
        return blob


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Return once the content of the file, or the names in the folder, are on the disk. Source: fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
