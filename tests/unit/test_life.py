"""A lock tells whether a directory's hypervisor lives, across namespaces and copies, whatever its record says."""

import builtins
import errno
import fcntl
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers.contract import Observation
from interlock.drivers.qemu import driver as driver_module
from interlock.drivers.qemu import hypervisor
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import DriverError, IllegalTransitionError, InterlockError
from interlock.fsm import words
from interlock.fsm.journal import FILE
from interlock.fsm.port import Draft
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host import life, process
from interlock.host.home import Home
from interlock.host.life import holder
from interlock.host.locks import Lock

SLEEP = ["sleep", "60"]

LINGER = """
import ctypes, os, threading, time
while not os.path.exists("go"):
    time.sleep(0.001)
threading.Thread(target=time.sleep, args=[60]).start()
ctypes.CDLL(None).syscall({number}, 0)
"""
"""A program whose first thread ends and whose second stays, as after SIGKILL while a thread is in the kernel.

It waits for a file `go`, because `launch` waits for the end of a program whose first thread has ended already.
"""

SYS_EXIT = {"x86_64": 60, "aarch64": 93}[os.uname().machine]

ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc"]
"""Runs a program in a pid namespace of its own, as a container does."""

IN_PLACE = """
import sys
import threading
from pathlib import Path
from interlock.drivers.qemu import driver as driver_module
from interlock.drivers.qemu import hypervisor
place = Path(sys.argv[1])
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a pid namespace without a user namespace")


class Sleeper(QemuDriver):
    """The driver of real machines, except that they run `sleep`."""

    def create(self, _site, _report):
        """Make nothing: there is no disk."""

    def start(self, site, _report, _deadline, *, boot=True):  # noqa: ARG002 - the contract
        hypervisor.launch(SLEEP, site.directory)

    def reset(self, _site, _report):
        raise AssertionError("a disk was touched")


@pytest.fixture
def place(tmp_path):
    """Yield a directory for a hypervisor, and end that hypervisor afterwards."""
    place = tmp_path / "place"
    place.mkdir()
    yield place
    end(place)


def end(directory):
    """End the hypervisor of `directory`, whatever it takes."""
    while found := hypervisor.find(directory):
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)


@pytest.fixture
def running(make_engine, spec, home):
    """Return an engine whose instance `web` runs a process that holds its lock."""
    engine = make_engine(Sleeper())
    engine.create("web", lambda _: Draft(spec._replace(driver="qemu"), {}))
    engine.fire("web", Trigger.start)
    yield engine
    end(home.directory("web"))


# -- what the lock tells ---------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("emptied", [False, True])
def test_look_from_another_pid_namespace_says_alive_and_hidden(place, emptied, injected):
    """The machine is alive whatever its record says, and no other process is taken for it."""
    hypervisor.launch(SLEEP, place)
    if emptied:
        os.truncate(place / hypervisor.RECORD, 0)
    script = IN_PLACE + "print(hypervisor.look(place).hidden)"
    said = subprocess.run(
        [*ELSEWHERE, sys.executable, "-c", script, place], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "True\n"
    injected("another pid namespace looks at a machine")


@needs_root
def test_look_into_another_pid_namespace_finds_the_process_by_its_lock(place, until):
    """A hypervisor started in a container is found from outside, with the pid that it has outside."""
    script = IN_PLACE + "print(hypervisor.launch(['sleep', '60'], place).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [*ELSEWHERE, sys.executable, "-c", script, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as inside:
        pid = int(inside.stdout.readline())
        found = hypervisor.settled(place)
        assert found.pid != pid
        until(lambda: Path(f"/proc/{found.pid}/cmdline").read_bytes() == b"sleep\x0060\0")
        inside.stdin.close()


def test_look_at_process_whose_threads_linger_says_alive(place, until):
    """SIGKILL ends threads one by one: the machine is alive until the last one has closed its files."""
    launched = hypervisor.launch([sys.executable, "-c", LINGER.format(number=SYS_EXIT)], place)
    (place / "go").touch()
    until(lambda: Path(f"/proc/{launched.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z")
    assert hypervisor.look(place) == (True, launched, False)
    with hypervisor.held(launched) as pidfd:
        hypervisor.end(pidfd, grace_s=0)
    assert hypervisor.settled(place) is None  # a copier that has just been forked may still have the lock open
    assert hypervisor.look(place) == (False, None, False)


def test_settled_waits_for_a_process_that_was_killed_and_is_not_gone(place, until, monkeypatch):
    """Its memory is gone but its locks are not: a start must not take it for a running machine."""
    launched = hypervisor.launch([sys.executable, "-c", LINGER.format(number=SYS_EXIT)], place)
    (place / "go").touch()
    until(lambda: process.ending(launched))
    assert hypervisor.look(place).alive
    monkeypatch.setattr(hypervisor, "_DEATH_TIMEOUT_S", 0.05)
    with pytest.raises(DriverError, match="does not end"):
        hypervisor.settled(place)
    os.kill(launched.pid, signal.SIGKILL)
    until(lambda: not hypervisor.look(place).alive)
    assert hypervisor.settled(place) is None


def test_look_at_process_that_has_closed_all_says_closing(place, until, monkeypatch):
    """The directory's lock may be released before the others: nothing is started until the process is gone."""
    launched = hypervisor.launch([sys.executable, "-c", "import os, time; os.closerange(0, 99); time.sleep(60)"], place)
    until(lambda: hypervisor.look(place).closing)
    monkeypatch.setattr(hypervisor, "_DEATH_TIMEOUT_S", 0.05)
    with pytest.raises(DriverError, match="does not end"):
        hypervisor.settled(place)
    os.kill(launched.pid, signal.SIGKILL)
    until(lambda: not hypervisor.look(place).alive)


def test_look_at_a_lock_that_nobody_holds_for_long_says_dead(place):
    """A process that looks at another one's descriptor keeps the file, with its lock, for a moment longer than that one
    lives. Here the file is on its way through a socket."""
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [b"x"], [descriptor])
        os.close(descriptor)
        arrival = threading.Timer(0.1, theirs.close)
        arrival.start()
        assert hypervisor.look(place) == (False, None, False)
        arrival.join()


def test_look_at_hypervisor_of_the_first_version_finds_it(place):
    """Version 0.1.0 locked the record: its hypervisors are still found after an upgrade."""
    with (place / hypervisor.RECORD).open("ab") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        old = subprocess.Popen(
            ["sh", "-c", hypervisor._SIGN.replace("exec 9<&0", "exec") + 'exec "$@"', "sh", *SLEEP], stdout=record
        )
    assert hypervisor.settled(place).pid == old.pid
    old.kill()
    old.wait()
    assert hypervisor.look(place) == (False, None, False)


def test_claim_beside_one_who_looks_is_taken_in_the_end(place):
    """A reader holds the lock for a moment: a launch waits for it, and does not take it for a hypervisor."""
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looks = []
    look = life.look

    def looked(places, recorded):
        looks.append(places)
        if len(looks) == 1:
            os.close(descriptor)
        return look(places, recorded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(life, "look", looked)
        assert hypervisor.launch(SLEEP, place)


def test_holder_of_a_lock_is_the_process_that_has_it(tmp_path):
    """Without a lock, or without its file, there is no holder."""
    path = tmp_path / "lock"
    assert holder(path) is None
    with Lock(path) as lock:
        assert lock.acquire()
        assert holder(path).pid == os.getpid()
        lock.release()
        assert holder(path) is None


# -- what cannot be read ---------------------------------------------------------------------------------------------


NUMBERS = (*range(1, 80), *range(80, 100_000, 97))
"""Which call fails: each of the first, and some of the many that look through all processes."""


class Faults:
    """Makes one of the calls that read files fail."""

    CALLS = ((os, "open"), (os, "listdir"), (os, "stat"), (fcntl, "flock"), (builtins, "open"), (io, "open"))

    def __init__(self, number, code):
        self.left, self.code = number, code

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for module, name in self.CALLS:
            self.patch.setattr(module, name, self.counted(getattr(module, name)))
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def counted(self, function):
        def called(*arguments, **named):
            if arguments[1:] == (fcntl.LOCK_UN,):  # unlocking reads no disk
                return function(*arguments, **named)
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code), str(arguments[0]))
            return function(*arguments, **named)

        return called


@contextmanager
def unless(code):
    """Allow an error that says what failed."""
    try:
        yield
    except (OSError, InterlockError) as error:
        if os.strerror(code) not in str(error):
            raise


@contextmanager
def refused_but_not_as_damaged():
    """Allow an error that does not suggest removing what could not be read."""
    try:
        yield
    except InterlockError as error:
        if error.reference == "damaged" or "--force" in (error.hint or ""):
            raise


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("emptied", [False, True])
def test_observe_when_a_read_fails_never_says_dead(running, emptied, code, injected):
    """For each read that fails, the machine is reported alive, or the error of the read is raised."""
    site = running.site("web")
    if emptied:
        os.truncate(site.directory / hypervisor.RECORD, 0)
    for number in NUMBERS:
        with Faults(number, code) as faults, unless(code):
            assert QemuDriver().observe(site).alive
        if faults.left > 0:
            break
    assert number > 5
    injected("an unreadable record (EACCES, EIO, EMFILE)")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES], ids=lambda code: errno.errorcode[code])
def test_status_when_a_read_fails_records_no_exit(running, home, code, injected):
    """A look that fails leaves the journal as it is, and says what failed."""
    journal = home.directory("web") / FILE
    before = journal.read_bytes()
    for number in NUMBERS:
        with Faults(number, code) as faults, unless(code):
            seen = running.status("web")
            assert seen.unreadable or seen.observation.alive is not False
            assert not words.status(seen).startswith("damaged")
        if faults.left > 0:
            break
    assert before == journal.read_bytes()
    injected("an unreadable record (EACCES, EIO, EMFILE)")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("trigger", [Trigger.delete, Trigger.reset, Trigger.start])
def test_fire_when_a_read_fails_touches_nothing_of_what_lives(running, home, trigger, code, injected):
    """Whatever cannot be read, the machine keeps its disk, and nothing else is begun."""
    process_before = hypervisor.find(home.directory("web"))
    journal = home.directory("web") / FILE
    before = journal.read_bytes()
    for number in NUMBERS:
        with Faults(number, code) as faults, refused_but_not_as_damaged():
            assert running.fire("web", trigger).changed is False
        assert before == journal.read_bytes()
        assert process_before == hypervisor.find(home.directory("web"))
        if faults.left > 0:
            break
    injected("an unreadable record (EACCES, EIO, EMFILE)")


# -- what follows ----------------------------------------------------------------------------------------------------


@needs_root
def test_commands_from_another_pid_namespace_leave_the_machine_alone(running, home, injected):
    """`list` shows it as running but unseen; commands that would touch it are refused and say where to run them."""

    def elsewhere(*arguments):
        command = [*ELSEWHERE, sys.executable, "-m", "interlock", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    before = hypervisor.find(home.directory("web")), (home.directory("web") / FILE).read_bytes()
    assert "running · its process cannot be seen from here" in elsewhere("list").stdout
    for command in ("start", "stop", "kill", "reset", "delete", "delete --force", "restart"):
        verb, *options = command.split()
        said = elsewhere(verb, "web", *options)
        assert said.returncode == 6, said.stderr
        assert "out-of-reach" in said.stderr
        assert "outside this container" in said.stderr
    assert before == (hypervisor.find(home.directory("web")), (home.directory("web") / FILE).read_bytes())
    assert running.fire("web", Trigger.kill).changed
    injected("another pid namespace looks at a machine")


def test_delete_with_emptied_record_is_refused_and_stop_works(running, home, injected):
    """Delete and reset are refused because the instance runs; kill finds the process by its lock."""
    os.truncate(home.directory("web") / hypervisor.RECORD, 0)
    assert running.status("web").observation.alive
    for trigger in (Trigger.delete, Trigger.reset):
        with pytest.raises(IllegalTransitionError, match="is running"):
            running.fire("web", trigger)
    assert running.fire("web", Trigger.kill).changed
    assert hypervisor.settled(home.directory("web")) is None
    injected("an emptied or damaged record of a living machine")


def test_copied_home_ends_nothing_of_the_original(running, home, tmp_path, injected):
    """The copy's machine is down, and a forced delete of it sends no signal to the original's."""
    original = hypervisor.find(home.directory("web"))
    subprocess.run(["cp", "-a", home.root, tmp_path / "copy"], check=True)
    copy = Interlock(Home(tmp_path / "copy", home.runtime))
    assert copy.status("web").state is State.stopped
    copy.delete("web", force=True)
    assert original == hypervisor.find(home.directory("web"))
    assert running.status("web").state is State.running
    injected("a copied home")


def no_thread(*_):
    raise RuntimeError("can't start new thread")


def no_process(*_, **__):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        (threading.Thread, "start", no_thread),
        (subprocess, "Popen", no_process),
        (os, "pipe", no_process),
        (os, "memfd_create", no_process),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stop_on_a_host_without_a_thread_or_process_to_spare_ends_the_machine(
    running, home, monkeypatch, module, name, fault, injected
):
    """The guest is not asked a second time, by ssh; at the deadline its hypervisor is still ended."""
    monkeypatch.setattr(driver_module, "_FIRST_PRESS_S", 0.01)
    monkeypatch.setattr(module, name, fault)
    assert running.fire("web", Trigger.stop, timeout_s=0.1).detail.startswith("ended by force: ")
    assert hypervisor.settled(home.directory("web")) is None
    injected("a host without a thread, process or descriptor to spare")


@pytest.mark.parametrize("trigger", [Trigger.stop, Trigger.kill])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_stop_of_what_runs_without_readable_spec_works(running, home, trigger, content, injected):
    """Ending a machine needs nothing but its hypervisor's process."""
    spec = home.directory("web") / "spec.json"
    spec.unlink() if content is None else spec.write_bytes(content)
    assert running.fire("web", trigger, **({"timeout_s": 0.1} if trigger is Trigger.stop else {})).changed
    assert hypervisor.settled(home.directory("web")) is None
    injected("an emptied or damaged record of a living machine")


@pytest.mark.usefixtures("running")
def test_engine_over_a_machine_that_cannot_be_observed_refuses(make_engine):
    """If the driver cannot tell whether the machine lives, nothing is recorded, begun or ended."""

    class Blind(Sleeper):
        def observe(self, _):
            return Observation(alive=None, condition="who knows")

    engine = make_engine(Blind())
    for trigger in (Trigger.start, Trigger.stop, Trigger.kill, Trigger.reset, Trigger.delete):
        with pytest.raises(DriverError, match="who knows"):
            engine.fire("web", trigger)
    assert words.status(engine.status("web")) == "running · who knows"
