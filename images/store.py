"""The images that instances are created from: complete, immutable, their files named by their content."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

from ..errors import ImageError
from ..host.files import (
    UnfitFileError,
    flush_directory,
    make_private_directory,
    open_own,
    publish,
    read_own,
    remove_tree,
    write_whole,
)
from ..host.home import IMAGE_NAME
from ..host.locks import held
from ..host.progress import Report, unheard

SCHEMA = 2
"""Version of a manifest's JSON form. A manifest of another version counts as absent: an image can be made again."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

Kind = Literal["built", "fetched", "imported"]
"""How an image came here. A fetched image is found only by what it was made from, because nobody chose its name."""


NAME_LENGTH = 63
_TAG_LENGTH = 8


def tagged(name: str, what: object) -> str:
    """Return `name`, shortened if necessary, with a tag that distinguishes `what` from others of that name."""
    tag = hashlib.sha256(repr(what).encode()).hexdigest()[:_TAG_LENGTH]
    return f"{name[: NAME_LENGTH - _TAG_LENGTH - 1]}-{tag}"


class Blob(NamedTuple):
    """One file of an image: the SHA-256 of its content in hexadecimal, which is its name in the store; its length."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """The files that a machine can be made from, and how such a machine boots."""

    name: str
    arch: str
    """x86_64 or aarch64."""
    kind: Kind
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
    """The command line of the way `kernel`; the way `firmware` has its own on the disk."""
    files: Mapping[str, Blob] = field(default_factory=dict)
    """By role: `disk` (qcow2), `cd` (ISO 9660), `kernel`, `initrd`. A kernel without a disk lives in memory.
    `Writer.add` fills it."""
    made_of: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from, by which it is found again. For a built image, its recipe: {recipe, suite, packages,
    script}. For others, by role, each file as it was published: {location, digest}, the digest computed if none was
    given, and {version} of a local file, which may change."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Debian's packages in it, name → version; empty if they are not known."""

    @property
    def size_bytes(self) -> int:
        return sum(blob.size_bytes for blob in self.files.values())

    @property
    def mark(self) -> Blob:
        """The file by which an instance of this image is recognised, because it has a hard link to it."""
        return self.files.get("disk") or self.files.get("cd") or self.files["kernel"]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest: one key for each field, a file as {digest, size_bytes}."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "arch": self.arch,
            "kind": self.kind,
            "origin": self.origin,
            "created_at": self.created_at,
            "boot": list(self.boot),
            "first_boot": list(self.first_boot),
            "files": {role: blob._asdict() for role, blob in self.files.items()},
            "kernel_arguments": self.kernel_arguments,
            "made_of": dict(self.made_of),
            "packages": dict(self.packages),
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Return the image that the manifest `data` describes. Raises KeyError, TypeError or ValueError."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        files = {role: Blob(str(blob["digest"]), int(blob["size_bytes"])) for role, blob in data["files"].items()}
        if not all(_DIGEST.fullmatch(blob.digest) for blob in files.values()):
            raise ValueError("a digest is not one")
        if data["kind"] not in get_args(Kind):
            raise ValueError(f"kind {data['kind']!r}")
        if not files.keys() & {"disk", "cd", "kernel"}:
            raise ValueError("nothing to boot")
        return cls(
            name=str(data["name"]),
            arch=str(data["arch"]),
            kind=data["kind"],
            origin=str(data["origin"]),
            created_at=str(data["created_at"]),
            boot=tuple(data["boot"]),
            first_boot=tuple(data["first_boot"]),
            files=files,
            kernel_arguments=str(data["kernel_arguments"]),
            made_of=dict(data["made_of"]),
            packages=dict(data["packages"]),
        )


class Store:
    """A folder of images, which any number of processes read while at most one changes it.

        DIRECTORY/
        ├── lock                        flock(2): exclusive, to build, add or delete
        ├── manifests/debian.x86_64     JSON: one `Image`; its rename into place is the moment the image exists
        ├── blobs/<sha256>              a file of some image, mode 0400, never written again
        ├── warm/                       machines that instances begin from (warm.py)
        ├── work/                       of the lock's holder; everything in it is removed with the lock
        └── downloads/<key>/            one file being downloaded, kept when that is cut off (download.py)
            ├── lock                    flock(2): exclusive, to download it; taken before the store's
            ├── content                 the bytes so far
            └── validators.json         by which the server says whether it still has the same file

    Readers take no lock: a manifest is complete or absent, and the files it names existed before it. The kernel
    releases a dead writer's lock; the next writer sweeps what is left in `work/`, and blobs that no manifest names.

    An instance has the files it needs under names of its own (os.link, made at creation), so deleting an image, or the
    whole store, takes nothing from it. The inodes show which files those are (usage.py); no list could be wrong.

    Not promised: that a manifest found is still there a moment later. To link files while others may delete,
    look the image up and link under `writing()`, or handle a file that is gone.
    """

    def __init__(self, directory: Path) -> None:
        """Describe the store in `directory`; nothing is read or made yet."""
        self.directory = directory
        self.manifests = directory / "manifests"
        self.blobs = directory / "blobs"
        self.warm = directory / "warm"
        self.work = directory / "work"
        self.downloads = directory / "downloads"

    def get(self, name: str, arch: str) -> Image | None:
        """Return the image, or None if it is missing or damaged: a damaged image is made again."""
        try:
            image = Image.from_json(json.loads(read_own(self.manifest(name, arch))))
        except (FileNotFoundError, UnfitFileError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
            return None
        return image if all(self.path(blob.digest).is_file() for blob in image.files.values()) else None

    def list(self) -> tuple[Image, ...]:
        """Return every image, by name and architecture."""
        keys = sorted(path.name.rpartition(".") for path in self.manifests.glob("[!.]*.*"))
        return tuple(image for name, _, arch in keys if (image := self.get(name, arch)))

    def path(self, digest: str) -> Path:
        """Return the path of the blob with this digest, if it exists: to be linked or read, never to be written."""
        return self.blobs / digest

    @contextlib.contextmanager
    def writing(self, report: Report = unheard) -> Iterator["Writer"]:
        """Hold the store's lock, and yield the one object that can change the store.

        Waits while another process holds it, and calls `report` with that. Once you have the lock, look again for the
        image that you want: the other process may have made it.
        """
        for folder in (self.directory, self.manifests, self.blobs, self.work):
            make_private_directory(folder)
        waiting = "waiting for another process to finish with the image store"
        with held(self.directory / "lock", waiting, report):
            self._sweep()
            try:
                yield Writer(self, Path(tempfile.mkdtemp(dir=self.work)))
            finally:
                self._sweep()

    def manifest(self, name: str, arch: str) -> Path:
        """Return the path of the manifest, if it exists. Raises ImageError for a name that could lead elsewhere."""
        if not (IMAGE_NAME.fullmatch(name) and IMAGE_NAME.fullmatch(arch)):
            raise ImageError(
                f"an image cannot be called {name!r} for {arch!r}; names have lowercase letters, digits, '_' and '-'"
            )
        return self.manifests / f"{name}.{arch}"

    def leftovers(self) -> "tuple[Path, ...]":
        """Return what a dead process left: its work, half-written manifests, blobs that no image names.

        Unless the caller holds the lock, some of it may be a living writer's.
        """
        named = {blob.digest for image in self.list() for blob in image.files.values()}
        unnamed = (blob for blob in self.blobs.glob("*") if blob.name not in named)
        return (*self.work.glob("*"), *self.manifests.glob(".*"), *unnamed)

    def _sweep(self) -> None:
        for leftover in self.leftovers():
            remove_tree(leftover)


class Writer:
    """The right to change a store, while its lock is held. Only `Store.writing` makes one."""

    def __init__(self, store: Store, work: Path) -> None:
        self.store = store
        self.work = work
        """An empty folder on the store's own file system, for the work before `add`."""

    def add(self, image: Image, files: Mapping[str, Path]) -> Image:
        """Put `image` into the store, made of `files` by role; return it with `files` filled in.

        The files must lie in `work`, and are moved from there. The image replaces one of the same name and architecture
        at the instant when it is complete and on the disk; before that instant, nothing of it can be seen.
        """
        blobs = {role: self._take(path) for role, path in files.items()}
        whole = replace(image, files=blobs)
        write_whole(self.store.manifest(image.name, image.arch), json.dumps(whole.to_json(), indent=2).encode() + b"\n")
        return whole

    def delete(self, name: str, arch: str) -> bool:
        """Remove the image; False if it does not exist. Files that no other image has are swept with the lock."""
        manifest = self.store.manifest(name, arch)
        existed = os.path.lexists(manifest)
        remove_tree(manifest)
        flush_directory(manifest.parent)
        return existed

    def _take(self, path: Path) -> Blob:
        """Move the file `path` among the blobs, under the name of its content."""
        path.chmod(0o400)
        blob = Blob(_sha256(path), path.stat().st_size)
        there = self.store.path(blob.digest)
        # An existing blob stays, because instances share it, unless it is corrupt, which only reading shows.
        if not _holds(there, blob.digest):
            remove_tree(there)
            publish(path, there)
        return blob


def _holds(blob: Path, digest: str) -> bool:
    try:
        return _sha256(blob) == digest
    except (FileNotFoundError, UnfitFileError):
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb", opener=open_own) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
