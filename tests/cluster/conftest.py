"""Fixtures of the tests on a real cluster: three nodes for the whole run, and a home with shared images.

INTERLOCK_TEST_CLUSTER is the directory of the cluster (`nodes.py during`); without it, these tests are not collected.
The test process enters the network of the bridge. Processes that run tests side by side have names of their own in the
cluster, by a domain.
"""

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cluster.nodes import DOMAIN, HOME, VARIABLE, Nodes

from interlock import Interlock, Wishes
from interlock.host.home import Home

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_*.py"]

_CLONE_NEWNET = 0x40000000


@contextmanager
def in_network_of(path: str) -> Iterator[None]:
    """Move this thread, and the processes it starts, into the network namespace `path`. Source: setns(2)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    with Path("/proc/thread-self/ns/net").open() as own, Path(path).open() as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())


@pytest.fixture(scope="session")
def nodes(images_home) -> Iterator[Nodes]:  # noqa: ARG001 - the image is built first, because its network has no way out
    """Yield the cluster, with this process in its network."""
    made = Nodes(Path(os.environ[VARIABLE]).absolute())
    with in_network_of(made.network):
        yield made


@pytest.fixture(scope="session")
def images_home() -> Path:
    """Return the home of INTERLOCK_TEST_HOME, with the image `tiny`."""
    home = Path(os.environ[HOME]).absolute()
    home.mkdir(mode=0o700, exist_ok=True)
    Interlock(home).images.build("tiny")
    return home


@pytest.fixture
def home(tmp_path: Path, images_home: Path, nodes, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a home with the images and the record of the cluster; INTERLOCK_HOME names it too."""
    made = make_home(tmp_path / "home", images_home, nodes)
    monkeypatch.setenv("INTERLOCK_HOME", str(made.root))
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="il-", dir=tmp_path))
    monkeypatch.setenv("INTERLOCK_LOG_FORMAT", "human")
    return made


def make_home(root: Path, images_home: Path, nodes: Nodes) -> Home:
    """Make the folder `root` a home with the images of `images_home` and the record of the cluster."""
    root.mkdir(mode=0o700)
    (images_home / "images").mkdir(mode=0o700, exist_ok=True)
    (root / "images").symlink_to(images_home / "images")
    (root / "clusters").mkdir(mode=0o700)
    record = root / "clusters" / "test.yaml"
    shutil.copy(nodes.record, record)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        record.write_text(json.dumps({**json.loads(record.read_text()), "domain": f"{worker}.{DOMAIN}"}))
    return Home.at(root)


@pytest.fixture
def vms(home) -> Iterator[Interlock]:
    """Yield the API on that home, and delete its instances afterwards."""
    with emptied(Interlock(home)) as made:
        yield made


@pytest.fixture
def other_home(tmp_path, images_home, nodes) -> Iterator[Interlock]:
    """Yield the API on another home, a second manager of the same cluster; its instances are deleted afterwards."""
    with emptied(Interlock(make_home(tmp_path / "other", images_home, nodes))) as made:
        yield made


@contextmanager
def emptied(made: Interlock) -> Iterator[Interlock]:
    """Yield `made`, and delete its instances afterwards."""
    try:
        yield made
    finally:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda status: made.delete(status.name, force=True), made.instances()))


@pytest.fixture
def create() -> Callable[..., object]:
    """Return a function that makes an instance on the cluster: `create(vms, name, node="node1.example.test")`."""
    usual = Wishes(memory_bytes=256 << 20, disk_bytes=1 << 30, user="ada", cluster="test")
    return lambda vms, name, **wishes: vms.create(name, "tiny", replace(usual, **wishes), driver="ganeti")
