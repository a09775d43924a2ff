"""Files that are whole or not there: every write goes to a temporary name, is flushed, and is renamed into place."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
PRIVATE_UMASK = 0o077
"""For the programs that make files for us: whatever mode they ask for, nobody but the owner gets any of it."""


def make_private_directory(path: Path) -> Path:
    """Make `path` and what leads to it, for its owner only, and return it; one that exists is left as it is."""
    if not path.is_dir():  # mkdir(parents=True) would leave the parents to the umask
        make_private_directory(path.parent)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    return path


def open_private(path: Path, mode: str) -> IO[bytes]:
    """Return `path`, opened as open(path, mode) does; where that makes the file, it is 0600 whatever the umask."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE))


def flush_directory(path: Path) -> None:
    """Make the names in `path` survive a power cut. Source: fsync(2), which flushes no directory entry by itself."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own(path: str, flags: int) -> int:
    """Open `path` for reading as `open` does, but follow no link out of the home and wait for no FIFO's other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def read_own(path: str, limit_bytes: int, *, tail: bool = False) -> bytes:
    """Return what the file `path` holds, at most its first `limit_bytes`, or its last with `tail`; follows no link.

    By system calls and not by `open`, which costs three times as much: `list` does this twice for each instance.
    """
    descriptor = own(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, min(size, limit_bytes), max(0, size - limit_bytes) if tail else 0)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` into `path`, 0600: a reader sees the old file or the new one, a power cut leaves one of them."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give the immutable file `source` the second name `target`; copy it where no hard link can be made.

    With a link the kernel counts who uses the file: whoever removes the first name takes it from nobody.
    """
    try:
        os.link(source, target)
    except OSError:  # another file system (EXDEV), one without links (EPERM), or too many of them (EMLINK)
        with source.open("rb") as content, open_private(target, "xb") as copy:
            shutil.copyfileobj(content, copy)


def remove_tree(path: Path) -> None:
    """Remove `path` with all that is in it; one that is not there is fine, and so is a file or a link."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
