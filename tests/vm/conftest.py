"""Fixtures of the tests with real guests: images built once, and a home that borrows them."""

import itertools
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from stores import copy_store

from interlock import Interlock
from interlock.creation.plan import Wishes, plan
from interlock.drivers.contract import Site
from interlock.drivers.qemu import identity
from interlock.drivers.qemu.driver import QemuDriver
from interlock.drivers.qemu.logs import EVENTS, QEMU, SERIAL
from interlock.guest import readiness
from interlock.host.home import Home
from interlock.host.locks import held

ARCH = platform.machine()
DEADLINE_S = 900.0

WHO = """\
hostname
cat /etc/machine-id
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'
echo
cat /var/lib/interlock/booted
"""
"""Prints the guest's identity, in words that no two guests may share."""

WRITER = """\
i=0
while [ ! -e enough ]; do i=$((i + 1)); echo $i >>log; sync; echo $i >flushed.new; mv flushed.new flushed; done
touch ended
"""
"""Writes numbers to the disk, flushing each before the next; `flushed` has the last one that is on the disk."""

PORTS, PORTS_EACH = 20_000, 500
"""The first port for tests, and how many ports each worker has."""


@pytest.fixture(scope="session")
def images_home(tmp_path_factory) -> Path:
    """A home whose images are built once for all workers: that of INTERLOCK_TEST_HOME, if set, or the run's own.

    If several workers want an image at once, the store lets one of them build it, and the others wait.
    """
    if kept := os.environ.get("INTERLOCK_TEST_HOME"):
        return Path(kept).absolute()
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "images-home"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


@pytest.fixture(scope="session")
def warm_home(images_home: Path, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that returns a home with a warm image of `image`, and with those that were requested before.

    The home is this run's own: guests would boot cold from an earlier run's warm image if that is another version's.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "warm-home"

    def warm(image: str) -> Path:
        with tempfile.TemporaryDirectory(prefix="il-") as runtime, held(root.with_suffix(".lock"), "", print):
            root.mkdir(mode=0o700, exist_ok=True)
            Interlock(images_home).images.build(image)
            copy_store(images_home / "images", root / "images")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_RUNTIME_DIR", runtime)
                Interlock(root).warm(image)
        return root

    return warm


@pytest.fixture
def borrowed(request: pytest.FixtureRequest, images_home: Path) -> Path:
    """Return the home whose images the test borrows, with warm images if its marker asks for them."""
    home = images_home
    if asked := request.node.get_closest_marker("warm"):
        warm = request.getfixturevalue("warm_home")
        for image in asked.args or ("tiny",):
            home = warm(image)
    (home / "images").mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


@pytest.fixture
def vms(borrowed: Path, home, until, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interlock]:
    """Return the API on its own home with the borrowed images; afterwards no instance of it is left alive."""
    home.root.mkdir(mode=0o700)
    home.images.symlink_to(borrowed / "images")
    runtime = tempfile.mkdtemp(prefix="il-")  # a socket's path must be short
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    vms = Interlock()
    yield vms
    for status in vms.instances():
        vms.delete(status.name, force=True)
    until(lambda: not list(working_in(home.root)))  # a machine's helpers end a moment after it
    shutil.rmtree(runtime)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Treat every guest as ready at once, until this is undone: for tests that are not about guests."""

    def skip(_endpoint, _deadline, _pidfd, report, *_, **__):
        report("not waiting")
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(readiness, "wait_until_ready", skip)
        patch.setattr(identity, "copying", lambda *_: "a boot")
        yield patch


def working_in(root: Path) -> Iterator[Path]:
    """Yield /proc/PID of every process whose working folder is below `root`, even if the folder was deleted."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is the kernel's
            if (process / "cwd").readlink().is_relative_to(root):
                yield process


def is_copier(process: Path) -> bool:
    """Return whether `process` keeps a machine's log, or is a child of one that does: it reads from the log's pipe."""
    with suppress(OSError):
        return (process / "fd/0").readlink().name.partition(" ")[0] in {log.pipe for log in (SERIAL, EVENTS, QEMU)}
    return True  # the process has ended


@pytest.fixture
def ask(vms) -> Callable[[str, str], str]:
    """Return a function that runs a script in the guest of an instance and returns what it printed."""

    def ask(name: str, script: str) -> str:
        command = vms.shell(name, ["sh", "-c", script])
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=DEADLINE_S).stdout

    return ask


@pytest.fixture
def who_is(vms, ask) -> Callable[[str], list[str]]:
    """Return a function that asks a guest for its identity, in words that no two guests may share, hostname first.

    A guest that takes another identity writes that identity's id last, after the host has its answer.
    """
    known = 'until [ "$(cat /var/lib/interlock/booted)" = {} ]; do sleep 0.1; done\n'
    return lambda name: ask(name, known.format(vms.status(name).spec.instance_id) + WHO).split()


@pytest.fixture
def write(vms) -> Callable[[str], None]:
    """Return a function that begins to write numbers to a guest's disk, each flushed before the next."""

    def write(name: str) -> None:
        command = vms.shell(name, ["sh", "-c", f"({WRITER}) >/dev/null 2>&1 &"])
        subprocess.run(command, check=True, timeout=DEADLINE_S)

    return write


@pytest.fixture
def wait_for_number(ask, until) -> Callable[[str], None]:
    """Return a function that waits until a guest's disk has at least one more of these numbers."""

    def reached(name: str) -> int:
        return int(ask(name, "cat flushed || echo 0"))

    def wait(name: str) -> None:
        before = reached(name)
        until(lambda: reached(name) > before)

    return wait


@pytest.fixture
def check_numbers(vms, ask) -> Callable[[str], None]:
    """Return a function that ends the writing, kills and starts the guest, and checks that its disk misses nothing."""

    def check(name: str) -> None:
        ask(name, "touch enough; until [ -e ended ]; do sleep 0.1; done; sync")
        flushed = int(ask(name, "cat flushed"))
        vms.kill(name)
        vms.start(name)
        numbers = [int(line) for line in ask(name, "cat log").split()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= flushed > 0

    return check


@pytest.fixture
def processes(home):
    """Return a function that returns the pids of the home's hypervisors, and of programs about to become one."""
    return lambda: sorted(int(process.name) for process in working_in(home.root) if not is_copier(process))


@pytest.fixture
def runtime():
    """Return a runtime root with a path short enough for sockets, wherever the tests run."""
    path = Path(tempfile.mkdtemp(prefix="il-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_site(borrowed, tmp_path, runtime):
    """Return a maker of sites that have the files that the engine puts there before it calls `create`."""

    def make(name="web", *, template="tiny", arch=ARCH, **changes) -> Site:
        home = Home(root=borrowed, runtime=runtime)
        draft = plan(home, name, template, QemuDriver(), Wishes(arch=arch, user="ada"))(print)
        directory = tmp_path / "instances" / name
        directory.mkdir(mode=0o700, parents=True)
        for file, content in draft.materials.items():
            (directory / file).parent.mkdir(mode=0o700, exist_ok=True)
            if isinstance(content, bytes):
                (directory / file).write_bytes(content)
            else:
                shutil.copyfile(content, directory / file)
        (directory / "ssh.key").chmod(0o600)
        return Site(name, directory, runtime / name, draft.spec._replace(**changes))

    return make


@pytest.fixture
def driver():
    return QemuDriver()


@pytest.fixture
def steps():
    return []


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a function that finds a loopback port that is free for TCP and UDP and not an ephemeral one.

    The kernel gives its ephemeral ports to any process, so these ports are below that range, and each worker of the run
    has its own part.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    numbers = itertools.cycle(range(PORTS + worker * PORTS_EACH, PORTS + (worker + 1) * PORTS_EACH))

    def find() -> int:
        return next(number for number in numbers if _free(number))

    return find


def _free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as probe:
                probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
