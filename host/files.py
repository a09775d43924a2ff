"""The one way to open, publish and remove our own files.

- Reading: `open_own` follows no link, waits for no FIFO and accepts only regular files; `read_own` bounds the size.
- Publishing: a file or folder is made under a temporary name, flushed, and renamed by `publish`, which then flushes
  the names. So it is whole or absent, after a power cut too.
- Removing: `remove_tree` removes whatever is there, and continues past what cannot be removed.
"""

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import DamagedError, DriverError, HostError, InterlockError, UnreadableError
from . import cancellation

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
PRIVATE_UMASK = 0o077
"""For programs that make files for us: whatever mode they ask for, only the owner gets access."""

RECORD_BYTES = 1 << 20
"""Our records are a few KiB; larger files are rejected unread."""

_NAME_BYTES = 200
"""How much of a file's name its temporary name repeats: names are limited to 255 bytes."""

_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)
"""How open(2) fails for a link, a folder, a socket, a FIFO without a reader, or a device without a driver."""


_SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""How open(2) fails, whatever the file, when this process or host is out of descriptors or memory."""


class UnfitFileError(OSError):
    """One of our files is not a regular file, or is too large."""


def make_private_directory(path: Path) -> Path:
    """Make `path` and its parents, private to their owner, and return it; folders that exist are left as they are."""
    if not path.is_dir():  # mkdir(parents=True) would leave the parents to the umask
        make_private_directory(path.parent)
        with suppress(FileExistsError):  # another thread was quicker
            path.mkdir(mode=PRIVATE_DIRECTORY)
            flush_directory(path.parent)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return path


def own(path: str | Path, flags: int) -> int:
    """Return a descriptor of the file or folder `path`; follow no link, and do not wait for the other end of a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE_FILE)


def call(fifo: Path) -> bool:
    """Write a line to `fifo`, without waiting for anybody to read it; return whether a process has it open to read."""
    try:
        descriptor = own(fifo, os.O_WRONLY)
    except OSError:
        return False
    try:
        with suppress(BlockingIOError):  # it is full of calls
            os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
    return True


def open_own(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of the regular file `path`, made 0600 if `flags` ask for it; usable as open()'s `opener`.

    Raises UnfitFileError for anything else in its place, at once.
    """
    try:
        descriptor = own(path, flags)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def open_private(path: Path, mode: str) -> IO[bytes]:
    """Open the regular file `path` as open(path, mode) does; a file made by this is private to its owner."""
    return open(path, mode, opener=open_own)


def read_own(path: str | Path, limit_bytes: int = RECORD_BYTES, *, tail: bool = False) -> bytes:
    """Return the content of the regular file `path`, or with `tail` its last `limit_bytes` at most.

    Raises UnfitFileError as `open_own` does, and without `tail` for a longer file. It makes system calls because
    `open` costs three times as much, and `list` does this twice for each instance.
    """
    descriptor = open_own(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > limit_bytes and not tail:
            raise UnfitFileError(errno.EFBIG, f"larger than {limit_bytes} bytes", str(path))
        return os.pread(descriptor, min(size, limit_bytes), max(0, size - limit_bytes))
    finally:
        os.close(descriptor)


def misread(path: str | Path, error: OSError) -> InterlockError:
    """Return the error to raise when reading the record `path` raised `error`: "cannot read" is not "damaged".

    DamagedError if the record is missing or is not a regular file, HostError if this host is short of descriptors or
    memory, else UnreadableError.
    """
    words = f"{path}: {error.strerror or error}"
    if isinstance(error, UnfitFileError | FileNotFoundError | NotADirectoryError):
        return DamagedError(words)
    if error.errno in _SHORTAGE:
        return HostError(words)
    return UnreadableError(words, hint=None if isinstance(error, PermissionError) else "sudo dmesg")


def beside(path: Path) -> Path:
    """Return a temporary name in the folder of `path` that no other thread or process uses."""
    return path.with_name(f".{path.name[:_NAME_BYTES]}.{os.urandom(4).hex()}")


def sweep_beside(path: Path) -> None:
    """Remove what processes that died left under names that `beside` gave for `path`; nobody else works on it."""
    for abandoned in path.parent.glob(f".{path.name[:_NAME_BYTES]}.*"):
        remove_tree(abandoned)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new, private, empty folder, to be renamed to `path`; it is removed where the block raises.

    Remains of such folders from dead processes are removed first.
    """
    sweep_beside(path)
    fresh = beside(path)
    fresh.mkdir(mode=PRIVATE_DIRECTORY)
    try:
        yield fresh
    except BaseException:
        with cancellation.shielded(), suppress(DriverError):
            remove_tree(fresh)
        raise


def write_whole(path: Path, content: bytes, *, program: bool = False) -> None:
    """Put `content` into `path`, 0600: a reader sees the old file or the new one, a power cut leaves one of them.

    A `program` is 0700.
    """
    fresh = beside(path)
    try:
        with open_private(fresh, "xb") as file:
            file.write(content)
            if program:
                os.fchmod(file.fileno(), 0o700)
        publish(fresh, path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise


def publish(fresh: Path, place: Path) -> None:
    """Rename `fresh`, a file or a whole folder, to `place`, once its content is on disk.

    A power cut during the call leaves either what was at `place` before or all of `fresh`; after the call, all of
    `fresh`. A folder can replace only an empty folder.
    """
    flush_tree(fresh)
    fresh.replace(place)
    flush_directory(place.parent)
    if fresh.parent != place.parent:
        flush_directory(fresh.parent)


def retire(path: Path, trash: Path) -> None:
    """Rename `path` to `trash` and remove it with all its contents: it is whole or gone, after a power cut too.

    Raises DriverError naming what stayed at `trash`; `path` is gone all the same.
    """
    remove_tree(trash)
    path.replace(trash)
    flush_directory(path.parent)
    flush_directory(trash.parent)
    remove_tree(trash)


def flush(path: Path) -> None:
    """Return once the content of the file `path`, or the names in the folder `path`, are on disk. Source: fsync(2)."""
    descriptor = own(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directory(path: Path) -> None:
    """Make the names in `path` survive a power cut: flushing a file flushes no directory entry. Source: fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(path: Path) -> None:
    """Flush the file `path`, or the folder and all regular files and folders below it, from the leaves up."""
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            flush_tree(child)
        flush_directory(path)
    elif stat.S_ISREG(path.lstat().st_mode):
        flush(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Give the immutable file `source` the second name `target`; copy it where no hard link can be made.

    With a link the kernel counts the users of the file, so removing the first name takes it from nobody. Nothing is
    flushed: the new name belongs in a folder that is published later.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system (EXDEV), one without links (EPERM), or too many of them (EMLINK)
        import shutil

        with source.open("rb") as content, open_private(target, "xb") as copy:
            shutil.copyfileobj(content, copy)


def same_file(one: Path, other: Path) -> bool:
    """Return whether `one` and `other` are two names of one file."""
    with suppress(OSError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False


def clone(source: IO[bytes], target: Path) -> bool:
    """Make the private file `target` share the blocks of the open file `source`, copy-on-write.

    Returns False, with `target` empty, if the file system cannot, or `target` is on another. Source: ioctl_ficlone(2).
    """
    import fcntl

    with open_private(target, "wb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, source.fileno())
        except OSError:
            return False
    return True


_FICLONE = 0x40049409


def remove_tree(path: Path) -> None:
    """Remove whatever is at `path`, with all its contents, if there is anything; follow no link.

    Continues past what cannot be removed. What is mounted at `path` or below is not ours and stays.
    Raises DriverError naming everything that stayed, and why.
    """
    stayed: list[tuple[Path, OSError]] = []
    _remove(path, _mount(path.parent), stayed)
    if stayed:
        first, why = stayed[0]
        mounted = next((one for one, error in stayed if isinstance(error, _MountedError)), None)
        raise DriverError(
            f"{first} could not be removed: {why.strerror}",
            hint=f"umount {shlex.quote(str(mounted))}" if mounted else None,
            details=[f"{one}: {error.strerror}" for one, error in stayed[1:]],
        )


def _remove(path: Path, mount: bytes | None, stayed: list[tuple[Path, OSError]]) -> None:
    """Remove `path` and its contents, except what is on another mount than `mount`."""
    before = len(stayed)
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except IsADirectoryError:
        try:
            if _mount(path) not in (mount, None):
                raise _MountedError(errno.EBUSY, "a file system is mounted there")
            with suppress(OSError):  # a user who may not chmod it may still be able to empty it
                path.chmod(PRIVATE_DIRECTORY)
            for child in list(path.iterdir()):
                _remove(child, mount, stayed)
            path.rmdir()
        except FileNotFoundError:  # another process removes it, too
            pass
        except OSError as error:
            if len(stayed) == before:  # the cause is not something left inside it
                stayed.append((path, error))
    except OSError as error:
        stayed.append((path, error))


class _MountedError(OSError):
    pass


def _mount(folder: Path) -> bytes | None:
    """Return the id of the mount that holds `folder`; None if nothing is there. Source: proc(5), /proc/PID/fdinfo.

    Device numbers do not show it: a bind mount of the same file system has the same number.
    """
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as info:  # noqa: PTH123 - not a path of ours
            return next(line for line in info if line.startswith(b"mnt_id:"))
    finally:
        os.close(descriptor)


def _not_regular(path: str | Path) -> UnfitFileError:
    return UnfitFileError(errno.EINVAL, "not a regular file", str(path))
