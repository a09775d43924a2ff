"""Fixtures of the tests on a real cluster: three nodes for the whole run, and a home that borrows images.

INTERLOCK_TEST_CLUSTER names a cluster that `nodes.py up` has made and that is kept; `new` makes one for this run.
Without it these tests are left out. The test process itself enters the network of the cluster's bridge.
"""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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
    """Let this thread, and what it starts, be in the network namespace `path`. Source: setns(2)."""
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
def nodes() -> Iterator[Nodes]:
    """Return the cluster, in whose network this process is."""
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
    """Return a home with the image `tiny`: that of INTERLOCK_TEST_HOME, if set, or the run's own."""
    kept = os.environ.get("INTERLOCK_TEST_HOME")
    place = Path(kept).absolute() if kept else tmp_path_factory.mktemp("images-home")
    place.chmod(0o700)
    return place


@pytest.fixture
def home(tmp_path: Path, images_home: Path, nodes, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a home with the images and the record of the cluster, which is also the one the environment names."""
    made = make_home(tmp_path / "home", images_home, nodes)
    monkeypatch.setenv("INTERLOCK_HOME", str(made.root))
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="il-", dir=tmp_path))
    monkeypatch.setenv("INTERLOCK_LOG_FORMAT", "human")
    return made


def make_home(root: Path, images_home: Path, nodes: Nodes) -> Home:
    """Return a home in `root`."""
    root.mkdir(mode=0o700)
    (images_home / "images").mkdir(mode=0o700, exist_ok=True)
    (root / "images").symlink_to(images_home / "images")
    (root / "clusters").mkdir(mode=0o700)
    subprocess.run(["cp", "-p", nodes.record, root / "clusters" / "test.yaml"], check=True)
    return Home.at(root)


@pytest.fixture
def vms(home) -> Iterator[Interlock]:
    """Return the API on that home; afterwards no instance of it is left."""
    with emptied(Interlock(home)) as made:
        yield made


@pytest.fixture
def other_home(tmp_path, images_home, nodes) -> Iterator[Interlock]:
    """Return likewise that of another home, another manager of the same cluster."""
    with emptied(Interlock(make_home(tmp_path / "other", images_home, nodes))) as made:
        yield made


@contextmanager
def emptied(made: Interlock) -> Iterator[Interlock]:
    """Yield `made`, and delete its instances afterwards."""
    try:
        yield made
    finally:
        for status in made.instances():
            made.delete(status.name, force=True)


@pytest.fixture
def create() -> Callable[..., object]:
    """Return a function that makes an instance on the cluster: `create(vms, name, node="node1.example.test")`."""
    usual = Wishes(memory_bytes=256 << 20, disk_bytes=1 << 30, user="ada", cluster="test")
    return lambda vms, name, **wishes: vms.create(name, "tiny", replace(usual, **wishes), driver="ganeti")
