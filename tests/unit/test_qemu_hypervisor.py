"""Which process is the hypervisor: recorded before it runs, verified before it is signalled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlock.drivers.contract import Site
from interlock.drivers.qemu import hypervisor
from interlock.drivers.qemu.driver import QemuDriver
from interlock.host import cancellation, life
from interlock.host.process import Actor, boot_id, started_ticks, suspended

SLEEP = ["sleep", "60"]

PID_OF_NOBODY = 1 << 22
"""One more than the largest possible pid. Source: proc(5)."""

SERVE = """
import os, socket, sys, time
with open(sys.argv[2], "w") as file:
    file.write(str(os.getpid()))
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
print("serving", flush=True)
server.listen()
time.sleep(600)
"""
"""A program that serves a hypervisor: it writes its pid into a file and listens on a socket."""

CONNECT = """
import socket, sys, time
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
open("connected", "w").close()
time.sleep(600)
"""
"""A hypervisor that ends when nobody listens on its socket."""


@pytest.fixture
def launched(tmp_path, until):
    """Return a hypervisor that alone holds its lock: programs of the shell that launched it have released it."""
    actor = hypervisor.launch(SLEEP, tmp_path)
    until(lambda: list(life._holders(tmp_path.stat(), None)) == [actor])
    yield actor
    with hypervisor.held(actor) as pidfd:
        if pidfd is not None:
            hypervisor.end(pidfd, grace_s=0)


@pytest.fixture
def make_site_of(tmp_path, spec):
    """Return a function that returns a site whose hypervisor is the given command."""
    actors = []

    def make(command):
        actors.append(hypervisor.launch(command, tmp_path))
        return Site("web", tmp_path, tmp_path / "run", spec)

    yield make
    for actor in actors:
        with hypervisor.held(actor) as pidfd:
            hypervisor.end(pidfd, grace_s=0)


def test_launch_signs_the_process_that_then_runs(tmp_path, launched):
    """The shell records its own identity before it becomes the program, which has a session of its own."""
    assert hypervisor.find(tmp_path) == launched
    deadline = time.monotonic() + 10
    while Path(f"/proc/{launched.pid}/cmdline").read_bytes() != b"sleep\x0060\0":
        assert time.monotonic() < deadline
    assert os.getsid(launched.pid) != os.getsid(0)


def test_observe_says_what_runs_the_guests_code(until, make_site_of):
    """`inspect` shows the accelerator of the running process, whatever the host would choose today."""
    site = make_site_of(["sh", "-c", "sleep 60 && :", "qemu", "-accel", "tcg,tb-size=128"])
    until(lambda: QemuDriver().observe(site).accelerator == "tcg")


def test_observe_says_what_the_hypervisor_uses(until, make_site_of):
    """The figures are those of the process that runs."""
    site = make_site_of(["sleep", "60"])
    until(lambda: QemuDriver().observe(site).usage)
    assert QemuDriver().observe(site).usage.resident_bytes > 0


def test_launch_of_a_second_is_the_first(tmp_path, launched):
    """While a hypervisor lives, a second launch runs nothing and returns the first."""
    assert hypervisor.launch(["touch", "ran"], tmp_path) == launched
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def daemons(tmp_path):
    """Return two programs that serve a hypervisor, on sockets whose paths hold a blank and a quote."""
    return [
        hypervisor.Daemon(
            tmp_path / f"it's {n}", [sys.executable, "-c", SERVE, str(tmp_path / f"it's {n}"), f"{n}.pid"]
        )
        for n in range(2)
    ]


@pytest.fixture
def served(tmp_path, daemons):
    """Return the process of a hypervisor that two programs serve."""
    actor = hypervisor.launch([sys.executable, "-c", CONNECT, str(daemons[1].socket)], tmp_path, daemons)
    yield actor
    with hypervisor.held(actor) as pidfd:
        if pidfd is not None:
            hypervisor.end(pidfd, grace_s=0)


def pids(directory):
    return [int(path.read_text()) for path in sorted(directory.glob("*.pid")) if path.read_text()]


def test_launch_with_daemons_runs_when_all_of_them_listen(tmp_path, served, daemons, until):
    """The hypervisor starts when every daemon listens, also over an old socket; their output is only in the log."""
    until((tmp_path / "connected").exists)
    assert len((tmp_path / hypervisor.RECORD).read_text().splitlines()) == 2
    assert hypervisor.words(tmp_path) == ["serving", "serving"]
    os.kill(served.pid, signal.SIGKILL)
    until(lambda: not any(started_ticks(pid) for pid in pids(tmp_path)))
    (tmp_path / "connected").unlink()
    again = hypervisor.launch([sys.executable, "-c", CONNECT, str(daemons[1].socket)], tmp_path, daemons)
    try:
        until((tmp_path / "connected").exists)
        assert len(pids(tmp_path)) == 2
    finally:
        os.kill(again.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_daemons_die_with_the_hypervisor(tmp_path, served, until, number):
    """Whatever ends the hypervisor ends its daemons, and none of them keeps the directory locked."""
    until((tmp_path / "connected").exists)
    os.kill(served.pid, number)
    until(lambda: not any(started_ticks(pid) for pid in pids(tmp_path)))
    assert hypervisor.settled(tmp_path) is None


def test_daemons_die_with_a_hypervisor_that_never_starts(tmp_path, daemons, until):
    """A program that cannot be run leaves no daemon behind, and its error is in the log."""
    hypervisor.launch(["./no-such-hypervisor"], tmp_path, daemons)
    until(lambda: hypervisor.settled(tmp_path) is None)
    until(lambda: not any(started_ticks(pid) for pid in pids(tmp_path)))
    assert "not found" in hypervisor.words(tmp_path)[-1]


def test_daemons_die_with_a_launch_that_is_killed(tmp_path, daemons, until):
    """The shell that waits for a daemon is already the hypervisor: killing it ends the daemon, too."""
    deaf = [sys.executable, "-c", SERVE.replace("server.listen()", ""), str(daemons[0].socket), "0.pid"]
    actor = hypervisor.launch(SLEEP, tmp_path, [hypervisor.Daemon(daemons[0].socket, deaf)])
    until(lambda: pids(tmp_path))
    os.kill(actor.pid, signal.SIGKILL)
    until(lambda: not any(started_ticks(pid) for pid in pids(tmp_path)))


def test_launch_with_daemon_that_fails_does_not_run_and_keeps_its_words(tmp_path, until):
    """A daemon that ends before it listens ends the launch, and its words are kept."""
    command = ["sh", "-c", "echo no such folder >&2; exit 1"]
    hypervisor.launch(["touch", "ran"], tmp_path, [hypervisor.Daemon(tmp_path / "socket", command)])
    until(lambda: hypervisor.settled(tmp_path) is None)
    assert hypervisor.words(tmp_path) == ["no such folder"]
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def call(tmp_path):
    """Return a function that calls the program, and the argument of hypervisor.launch that describes it."""
    command = ["sh", "-c", 'echo $$ >"$1/ran.pid.new" && mv "$1/ran.pid.new" "$1/ran.pid"; exec sleep 600', "it's"]
    on_call = hypervisor.OnCall(tmp_path / "it's called", tmp_path / "socket", [*command, str(tmp_path)])

    def write() -> None:
        with on_call.calls.open("ab", buffering=0) as calls:
            calls.write(b"\n")

    return SimpleNamespace(write=write, on_call=on_call)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_program_on_call_runs_when_called_again_and_again_and_dies_with_the_hypervisor(tmp_path, until, call, number):
    """The program waits for a call, can be called again after its end, and ends with the hypervisor."""
    actor = hypervisor.launch(SLEEP, tmp_path, (), call.on_call)
    try:
        until(call.on_call.calls.is_fifo)
        assert pids(tmp_path) == []
        call.on_call.socket.touch()
        call.write()
        until(lambda: pids(tmp_path))
        first = pids(tmp_path)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: not call.on_call.socket.exists())
        call.write()
        until(lambda: pids(tmp_path) != first)
    finally:
        os.kill(actor.pid, number)
    until(lambda: started_ticks(pids(tmp_path)[0]) is None)
    assert hypervisor.settled(tmp_path) is None
    with pytest.raises(OSError, match="No such device"):  # the shell that waits for calls has ended too
        until(lambda: not os.close(os.open(call.on_call.calls, os.O_WRONLY | os.O_NONBLOCK)))


def test_launch_of_what_fails_returns_none_and_keeps_its_words(tmp_path):
    """A program that ends at once leaves its words in the log, and no live process."""
    actor = hypervisor.launch(["sh", "-c", "echo qemu-system-x86_64: no such machine >&2; exit 1"], tmp_path)
    with hypervisor.held(actor) as pidfd:
        assert pidfd is None or hypervisor.wait(pidfd, 10)
    assert hypervisor.settled(tmp_path) is None
    assert hypervisor.words(tmp_path) == ["no such machine"]


@pytest.mark.parametrize("change", [{"started_ticks": 1}, {"boot_id": "another"}])
def test_held_refuses_a_stranger_with_the_same_pid(launched, change):
    """A pid alone proves nothing: a process of another start or another boot is not ours."""
    with hypervisor.held(launched._replace(**change)) as pidfd:
        assert pidfd is None
    with hypervisor.held(launched) as pidfd:
        assert pidfd is not None


@pytest.mark.parametrize("record", ["", "12\n", "12 (sh) R 1\nboot\n", "x (sh) R\n\n", "\0" * 64])
def test_find_with_damaged_record_is_none(tmp_path, record):
    """A record that a power cut has damaged names no process, and raises nothing."""
    (tmp_path / hypervisor.RECORD).write_text(record)
    assert hypervisor.last(tmp_path) is None
    assert hypervisor.find(tmp_path) is None


def test_last_reads_a_name_with_parentheses(tmp_path):
    """The command's name may contain the characters that separate the fields."""
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / hypervisor.RECORD).write_text(f"12 (a) b) c) S {fields}\nboot\n")
    assert hypervisor.last(tmp_path).started_ticks == 22


ROBBED = {
    "emptied": lambda path: os.truncate(path, 0),
    "removed": lambda path: path.unlink(),
    "garbage": lambda path: path.write_bytes(b"\0" * 64),
    "replaced": lambda path: (path.unlink(), path.write_text("12 (sh) S 1\nanother boot\n")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("robbed", ROBBED)
def test_find_with_damaged_record_finds_the_process_by_its_lock(tmp_path, launched, robbed, monkeypatch):
    """Whatever becomes of the record, the holder of the lock is found, and is the hypervisor."""
    monkeypatch.setattr(hypervisor, "_SIGNATURE_TIMEOUT_S", 0.0)
    ROBBED[robbed](tmp_path / hypervisor.RECORD)
    assert hypervisor.look(tmp_path) == (True, launched, False)
    assert hypervisor.settled(tmp_path) == launched
    assert hypervisor.launch(["touch", "ran"], tmp_path) == launched
    assert not (tmp_path / "ran").exists()


def test_find_in_a_copy_of_the_directory_is_none(tmp_path):
    """The copied record names a live process that does not belong to the copy, so it is not ours to end."""
    (tmp_path / "original").mkdir()
    copied = hypervisor.launch(SLEEP, tmp_path / "original")
    subprocess.run(["cp", "-a", tmp_path / "original", tmp_path / "copy"], check=True)
    try:
        assert hypervisor.last(tmp_path / "copy") == copied
        assert hypervisor.look(tmp_path / "copy") == (False, None, False)
    finally:
        os.kill(copied.pid, signal.SIGKILL)


def test_find_with_record_of_another_that_lives_is_the_holder_of_the_lock(tmp_path, launched):
    """Even if the record names a live process, only the holder of the lock is ours."""
    (tmp_path / "other").mkdir()
    other = hypervisor.launch(SLEEP, tmp_path / "other")
    try:
        (tmp_path / hypervisor.RECORD).write_bytes((tmp_path / "other" / hypervisor.RECORD).read_bytes())
        assert hypervisor.find(tmp_path) == launched
    finally:
        os.kill(other.pid, signal.SIGKILL)


def test_end_with_grace_lets_it_end_itself(tmp_path):
    """SIGTERM comes first, so that a process that handles it can still write."""
    script = 'trap "echo bye >said; exit" TERM; echo >ready; while :; do sleep 0.01; done'
    actor = hypervisor.launch(["sh", "-c", script], tmp_path)
    deadline = time.monotonic() + 10
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
    with hypervisor.held(actor) as pidfd:
        hypervisor.end(pidfd, grace_s=10)
    assert (tmp_path / "said").read_text() == "bye\n"


def test_end_without_grace_ends_a_stopped_process(tmp_path, launched):
    """SIGKILL ends a process that SIGSTOP has stopped, too."""
    os.kill(launched.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while not suspended(launched):
        assert time.monotonic() < deadline
    with hypervisor.held(launched) as pidfd:
        hypervisor.end(pidfd, grace_s=0)
    assert hypervisor.settled(tmp_path) is None


@pytest.mark.parametrize("leads", [True, False])
def test_settled_takes_no_child_of_the_same_tick_for_the_hypervisor(tmp_path, monkeypatch, leads):
    """If the recorded pid is not here, a session leader is the hypervisor, in another namespace; a child is not."""
    with life.claimed(tmp_path) as lock:
        holder = subprocess.Popen(SLEEP, stdin=lock, start_new_session=leads)
    with holder:
        actor = Actor(holder.pid, started_ticks(holder.pid), boot_id())
        stat = f"{PID_OF_NOBODY} (sh) S {' '.join(['0'] * 18)} {actor.started_ticks}"
        (tmp_path / hypervisor.RECORD).write_text(f"{stat}\n{actor.boot_id}\n")
        monkeypatch.setattr(cancellation, "pause", lambda _: holder.kill())
        assert hypervisor.settled(tmp_path) == (actor if leads else None)
        holder.kill()
