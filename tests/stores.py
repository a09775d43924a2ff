"""Copies image stores with hard links, so that a test can change its copy and leave the others alone."""

import os
import shutil
from pathlib import Path


def copy_store(source: Path, target: Path) -> None:
    """Add the images of the store `source`, warm ones too, to the store `target`; it may already have some of them."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in ("blobs", "manifests", "warm"):
        if (source / folder).exists():
            shutil.copytree(source / folder, target / folder, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copy2(source, target)
