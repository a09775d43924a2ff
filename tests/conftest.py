"""Fixtures for all tests: a private home, an engine on it, and simulated machines."""

import os
import re
import shlex
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from interlock import cli
from interlock.drivers.lima.folder import Folder
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import InterlockError
from interlock.fsm.engine import Engine
from interlock.fsm.events import Event
from interlock.fsm.port import Deadline, Draft, Plan, Report
from interlock.fsm.spec import Spec
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host.files import remove_tree
from interlock.host.home import Home
from interlock.host.process import send

pytest_plugins = ("packaged", "other_host", "tally")

PATHS: dict[State, tuple[Trigger, ...]] = {
    State.absent: (),
    State.created: (),
    State.running: (Trigger.start,),
    State.stopped: (Trigger.start, Trigger.stop),
}
"""The requests that bring a created instance into each state."""

DEADLINE_S = 300.0
"""How long a test waits for a condition before it fails."""


# Many containers set it; then every process that the tests start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Options for this run must not reach the runs of pytest that the tests start.
os.environ.pop("PYTEST_ADDOPTS", None)

for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    # Background jobs of a shell, and nohup, ignore signals, and the processes that we start would inherit that.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)

# Even if `timeout` or a person ends the run, the fixtures must clean up; otherwise guests would outlive it.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites the reviewed files of tests/golden and tests/templates; review their diff."""
    parser.addoption("--update-golden", action="store_true", help="write the reviewed files instead of comparing them")


@pytest.fixture
def agrees(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that compares a reviewed file, or its part `part=TITLE`, with a text: `agrees(path, text)`.

    A part begins with the line `== TITLE` and ends before the next one; `read` turns a text into the value to compare.
    With --update-golden the file is written instead, which only a single process may do.
    """
    update = request.config.getoption("--update-golden")
    if update and hasattr(request.config, "workerinput"):
        pytest.fail("--update-golden needs `-n 0`: several processes would write one file")

    def compare(
        path: Path, actual: str, *, part: str | None = None, read: Callable[[str], object] = str.splitlines
    ) -> None:
        whole = path.read_text(encoding="utf-8") if path.exists() else ""
        expected, begin, end = whole, 0, len(whole)
        if part is not None:
            found = re.search(rf"^== {re.escape(part)}\n(.*?)(?=^== |\Z)", whole, re.MULTILINE | re.DOTALL)
            assert found, f"{path.name} has no part called {part}"
            expected, (begin, end), actual = found[1].strip(), found.span(1), actual.strip()
        if update and read(expected) != read(actual):
            last = end == len(whole)
            written = actual if part is None else f"{actual}\n" if last else f"{actual}\n\n"
            path.write_text(whole[:begin] + written + whole[end:], encoding="utf-8")
        else:
            assert read(expected) == read(actual)

    return compare


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, in any random order, so that no worker has to wait for another at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


PROGRAMS = {
    "interlock",
    "apt",
    "chmod",
    "dmesg",
    "env",
    "export",
    "fg",
    "kill",
    "limactl",
    "mv",
    "rm",
    "sudo",
    "fuser",
    "mkdir",
    "modprobe",
    "pip",
    "pipx",
    "qemu-img",
    "ssh",
    "ssh-copy-id",
    "sysctl",
    "timedatectl",
    "umount",
}
"""The programs that a hint may run, besides grep."""

PLACEHOLDER = re.compile(r"(?<![\w/.=-])([A-Z]{4,}|\.\.\.)(?![\w/.=-])")
"""A placeholder such as TEMPLATE, which cannot be typed as it is."""


def check_typed(hint: str) -> None:
    """Fail unless `hint` consists of commands that exist, with arguments that they accept; nothing is run."""
    assert not PLACEHOLDER.search(hint), hint
    for command in re.split(r" (?:&&|\|\||\|) ", hint):
        program, *arguments = shlex.split(command)
        assert program in PROGRAMS | {"grep"}, hint
        if program == "interlock":
            check_parses(arguments, hint)


def check_parses(arguments: list[str], hint: str) -> None:
    """Fail unless the program can parse `arguments`; the command itself is not run."""
    group: click.Command = cli.cli
    context = click.Context(group, info_name="interlock", obj=cli.Session())
    own, arguments, _ = group.make_parser(context).parse_args(arguments)  # the program's own options come first
    if own and not arguments:  # --help
        return
    while isinstance(group, click.Group):
        name, *arguments = arguments
        if name in ("--help", "--version"):
            return
        found = group.get_command(context, name)
        assert found is not None, f"{hint}: there is no command {name}"
        group, context = found, click.Context(found, info_name=name, parent=context)
    try:
        group.make_context(str(context.info_name), arguments, parent=context.parent)
    except click.exceptions.Exit:  # --help
        return
    except click.ClickException as error:
        pytest.fail(f"{hint}: {error.format_message()}")


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Check each hint that the test provokes: those of errors made in this process, and those added to the set."""
    found: set[str] = set()
    make = InterlockError.__init__

    def noticed(error: InterlockError, message: str, *, hint: str | None = None, details: Iterable[str] = ()) -> None:
        make(error, message, hint=hint, details=details)
        maker = sys._getframe(1).f_code.co_filename  # tests do not count, and errors.py repeats recorded hints
        if hint is not None and "/tests/" not in maker and not maker.endswith("/errors.py"):
            found.add(hint)

    monkeypatch.setattr(InterlockError, "__init__", noticed)
    yield found
    for hint in found:
        check_typed(hint)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return an empty home, which is also set in the environment."""
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("INTERLOCK_LOG_FORMAT", "human")  # most tests read this format; others ask for theirs
    monkeypatch.delenv("INTERLOCK_SIMULATED", raising=False)
    (tmp_path / "run").mkdir(mode=0o700)
    return Home.from_environment()


@pytest.fixture
def limactl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lima_home: Path) -> Path:
    """Put the stand-in for limactl on PATH, with its own home, and return its folder."""
    place = tmp_path / "bin"
    place.mkdir()
    program = Path(__file__).parent / "lima" / "limactl.py"
    (place / "limactl").write_text(f'#!/bin/sh\nexec {sys.executable} -SE {program} "$@"\n')
    (place / "limactl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("LIMA_HOME", str(lima_home))
    monkeypatch.delenv("INTERLOCK_LIMACTL", raising=False)
    return place


@pytest.fixture
def lima_home() -> Iterator[Path]:
    """Yield the LIMA_HOME of the stand-in, a short path because of its sockets; its processes are killed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lima-") as short:
        yield Path(short)
        for folder in Path(short).iterdir():
            life = Folder(Path(short), folder.name).look()
            for one in (life.driver, life.host_agent):
                if one:
                    send(one, signal.SIGKILL)


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable fsync(2) in this process: it takes time, and no test can see what a power cut would leave."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


THINGS: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "full folder": lambda path: (path / "in" / "it").mkdir(parents=True),
    "FIFO": os.mkfifo,
    "socket": lambda path: _listen(path),  # noqa: PLW0108 - it is defined below
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),  # /dev/zero, which is endless
    "link to a file": lambda path: path.symlink_to(__file__),
    "link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "6 GiB of nothing": lambda path: (path.touch(), os.truncate(path, 6 << 30)),
}
"""Things that may be found in place of a file: kind → a function that makes it at a free path."""


def _listen(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be too long for a socket
    os.close(folder)


@pytest.fixture(params=THINGS)
def thing(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Return a function that replaces the file at a path, if there is one, with a thing of this kind."""
    kind: str = request.param
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes device files")

    def put(path: Path) -> None:
        remove_tree(path)
        THINGS[kind](path)

    return put


@pytest.fixture
def spec() -> Spec:
    """Return the spec of a simulated machine."""
    return make_spec()


def make_spec(**changes: object) -> Spec:
    """Return a valid spec, with `changes`."""
    facts: dict[str, object] = {
        "driver": "simulated",
        "arch": "x86_64",
        "cpus": 1,
        "memory_bytes": 256 << 20,
        "disk_bytes": 1 << 30,
        "user": "user",
        "hostname": "web",
        "instance_id": "i-1",
        "boot": "kernel",
        "start_timeout_s": 30.0,
        "stop_timeout_s": 10.0,
        "created_at": "2026-01-01T00:00:00.000000Z",
    }
    return Spec(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture
def plan(spec: Spec) -> Plan:
    """Return a plan that makes a simulated machine with one material."""

    def resolve(report: Report) -> Draft:
        report("resolving")
        return Draft(spec, {"seed": b"seed"})

    return resolve


@pytest.fixture
def driver() -> SimulatedDriver:
    """Return a simulated driver without orders."""
    return SimulatedDriver(orders={})


@pytest.fixture
def heard() -> list[Event]:
    """Return the list that collects the events that the engine announces."""
    return []


@pytest.fixture
def make_engine(home: Home, driver: SimulatedDriver, heard: list[Event]) -> Callable[..., Engine]:
    """Return a function that makes engines on the home, like those of other processes: `make_engine(driver)`."""
    return lambda other=driver: Engine(home, lambda _: other, heard.append)


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """Return an engine on the home with the simulated driver."""
    return make_engine()


@pytest.fixture
def bring(engine: Engine, plan: Plan) -> Callable[[str, State], None]:
    """Return a function that brings a new instance into a state: `bring("web", State.running)`."""

    def bring_to(name: str, state: State) -> None:
        if state is not State.absent:
            engine.create(name, plan)
        for trigger in PATHS[state]:
            engine.fire(name, trigger)

    return bring_to


@pytest.fixture
def pause(engine: Engine, driver: SimulatedDriver) -> Callable[[str], None]:
    """Return a function that pauses a running instance, so that `resume` has something to do: `pause("web")`."""
    return lambda name: driver.happen(engine.site(name), condition="paused")


class WatchedDriver(SimulatedDriver):
    """A simulated driver that records the names of its calls, and can be held in the middle of one of them.

    `inside` is called with the trigger in the middle of every call. A call named in `hold` sets `entered`
    and waits until `go` is set or its deadline passes.
    """

    def __init__(self, inside: Callable[[str], None] = lambda _: None, hold: tuple[str, ...] = ()) -> None:
        super().__init__(orders={})
        self.calls: list[str] = []
        self.inside = inside
        self.hold = hold
        self.entered = threading.Event()
        self.go = threading.Event()

    def _obey(self, trigger: str, deadline: Deadline) -> None:
        self.calls.append(trigger)
        self.inside(trigger)
        if trigger in self.hold:
            self.entered.set()
            while not self.go.wait(0.005) and not deadline.passed:
                pass
        super()._obey(trigger, deadline)


@pytest.fixture
def watched() -> type[WatchedDriver]:
    """Return the class of the drivers that can be watched and held."""
    return WatchedDriver


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Return a function that returns once a condition holds, and fails at a deadline."""

    def wait_until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.005)

    return wait_until


class Effects:
    """Counts every system call that changes a file: a point before, a point after, and for writes one in the middle.

    `at_point` is called with the number of each point and the name of the call, and may raise; the call is then not
    done, half done or done, depending on the point. fsync does nothing, because no test loses the page cache, and so
    it is a single point.
    """

    NAMES = ("write", "fsync", "ftruncate", "rename", "replace", "unlink", "mkdir", "rmdir", "link")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_point: Callable[[int, str], None]) -> None:
        self.count = 0
        self._at_point = at_point
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def performed(*arguments: Any, **named: Any) -> Any:
            self._pass(name)
            if name == "fsync":
                return None
            if name == "write":
                descriptor, content = arguments
                done = function(descriptor, content[: len(content) // 2])
                self._pass(name)
                result = done + function(descriptor, content[done:])
            else:
                result = function(*arguments, **named)
            self._pass(name)
            return result

        return performed

    def _pass(self, name: str) -> None:
        self.count += 1
        self._at_point(self.count, name)


@pytest.fixture
def effects() -> type[Effects]:
    """Return the class that counts effects and calls a function at each point."""
    return Effects
