"""Fixtures of the tests on a real cluster: three nodes for the whole run, and a home with shared images.

INTERLOCK_TEST_CLUSTER is the directory of a cluster, which is made if it is missing, and kept; `new` makes one for
this run. Without the variable these tests are not collected. The test process enters the network of the bridge.
"""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cluster.nodes import Nodes

from interlock import Interlock, Wishes
from interlock.host.home import Home

VARIABLE = "INTERLOCK_TEST_CLUSTER"
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
    named = os.environ[VARIABLE]
    kept = named != "new"
    place = Path(named) if kept else Path(tempfile.mkdtemp(prefix="interlock-cluster-"), "cluster")
    made = Nodes(place.absolute())
    if not kept or not place.exists():
        made.up()
    try:
        with in_network_of(made.network):
            yield made
    finally:
        if not kept:
            made.down()
            place.parent.rmdir()


@pytest.fixture(scope="session")
def images_home(tmp_path_factory) -> Path:
    """Return a home with the image `tiny`: INTERLOCK_TEST_HOME, if set, or one of this run."""
    kept = os.environ.get("INTERLOCK_TEST_HOME")
    place = Path(kept).absolute() if kept else tmp_path_factory.mktemp("images-home")
    place.chmod(0o700)
    Interlock(place).images.build("tiny")
    return place


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
    subprocess.run(["cp", "-p", nodes.record, root / "clusters" / "test.yaml"], check=True)
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
