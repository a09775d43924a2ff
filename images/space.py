"""Whether there is enough space on the disk."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import HostError

_HINT = "interlock prune"


def mib(size_bytes: int) -> str:
    """Return `size_bytes` in MiB, for messages."""
    return f"{size_bytes / 2**20:.0f} MiB"


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise HostError if the file system of `folder` has less space than `what` needs; messages name it by `what`."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise HostError(f"{what} needs {mib(needed_bytes)}, and {folder} has {mib(free)} free", hint=_HINT)


@contextmanager
def writing_in(folder: Path, what: str) -> Iterator[None]:
    """Turn failures to write `what` below `folder` into HostError: the space needed is not always known in advance."""
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        raise HostError(f"{what}: {folder}: {err.strerror or err}", hint=_HINT if full else None) from err
