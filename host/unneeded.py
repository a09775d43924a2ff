"""What `prune` finds and removes."""

from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("image", "warm", "download", "leftover", "log", "runtime")
"""The kinds of unneeded things; `pruning` explains each."""


class Unneeded(NamedTuple):
    """Something in a home that nothing needs."""

    kind: str
    """One of `KINDS`."""
    name: str
    size_bytes: int
    """What its removal frees. If several share a file, it counts for the first of them."""
    arch: str | None = None
    """The architecture of an image or warm image: one name may have several."""
    path: Path | None = None
    """The file or folder to remove, if there is one."""

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What identifies it in a later search, when its size may have changed."""
        return self.kind, self.name, self.arch

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: what `prune --format json` prints."""
        return {"what": self.kind, "name": self.name, "arch": self.arch, "size_bytes": self.size_bytes}


def bytes_in(path: Path) -> int:
    """Return how many bytes the file or folder `path` takes on its disk; what vanishes meanwhile counts nothing."""
    try:
        taken = path.lstat().st_blocks * 512
        return taken + (sum(map(bytes_in, path.iterdir())) if path.is_dir() and not path.is_symlink() else 0)
    except OSError:
        return 0
