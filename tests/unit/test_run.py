"""The runner of other programs: their output is bounded, and they end with us."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.errors import CancelledError, DeadlineError, HostError
from interlock.host.bounds import Words
from interlock.host.locks import Lock
from interlock.host.process import started_ticks
from interlock.host.run import MERGED, Ended, run


def test_run_returns_status_and_words():
    """stdout and stderr are kept apart, and the exit status is the program's."""
    assert run(["sh", "-c", "cat; echo two >&2; exit 7"], stdin=b"one\n") == Ended(7, b"one\n", b"two\n")


def test_run_of_a_program_that_is_not_there_names_its_package(monkeypatch):
    """The hint is a command that installs the package."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="qemu-img is not installed") as caught:
        run(["qemu-img", "--version"])
    assert caught.value.hint == "apt install qemu-utils"


def test_run_hears_both_outputs_in_their_order():
    """A sink is given each piece as it comes."""
    heard = bytearray()
    assert run(["sh", "-c", "echo one; echo two >&2; echo three"], stdout=heard.extend, stderr=MERGED)[0] == 0
    assert heard == b"one\ntwo\nthree\n"


def test_run_keeps_the_ends_of_a_flood(monkeypatch, injected):
    """Endless output does not fill memory: the beginning, the end and the number of bytes between them are kept."""
    monkeypatch.setattr(Words.__init__, "__defaults__", (100, 100))
    said = run(["sh", "-c", "echo first; head -c 50000000 /dev/zero; echo last"]).stdout
    assert said.startswith(b"first\n")
    assert said.endswith(b"last\n")
    assert b"[49999811 bytes left out]" in said
    assert len(said) < 300
    injected("a guest or program that talks without end")


def test_words_are_few_and_short():
    """An error has the last lines of the output, each cut to a limited length."""
    ended = run(["sh", "-c", "seq 1000 >&2; head -c 9999 /dev/zero | tr '\\0' x >&2; exit 1"])
    assert ended.words[:2] == ("982", "983")
    assert ended.words[-1] == "x" * 499 + "…"


def test_run_beyond_its_time_is_killed_with_its_children(tmp_path, until):
    """The error gives the timeout and the program's last output; no process of it is left."""
    with pytest.raises(DeadlineError, match=r"^sh did not end within 0.5 s$") as caught:
        run(["sh", "-c", "sleep 600 & echo $! >pid; echo why >&2; wait"], cwd=tmp_path, timeout_s=0.5)
    assert caught.value.details == ("why",)
    until(lambda: gone(tmp_path / "pid"))


def test_run_called_off_lets_the_program_clean_up(tmp_path):
    """With a grace period, the program gets SIGTERM first, and is killed only if it does not end."""

    def call_off(_: bytes) -> None:
        raise CancelledError("off")

    script = "trap 'echo clean >cleaned; exit' TERM; echo; while :; do sleep 0.01; done"
    with pytest.raises(CancelledError):
        run(["sh", "-c", script], cwd=tmp_path, stdout=call_off, grace_s=60)
    assert (tmp_path / "cleaned").read_text() == "clean\n"


def test_run_leaves_nothing_in_the_background(tmp_path, until):
    """Background processes of a program are killed when it ends, and the call does not wait for them."""
    assert run(["sh", "-c", "sleep 600 & echo $! >pid"], cwd=tmp_path).status == 0
    until(lambda: gone(tmp_path / "pid"))


def test_run_returns_when_what_was_left_has_released_its_locks(tmp_path):
    """Also the lock in the file that it opened first, although another one takes the kernel long to close."""
    program = """if True:
        import fcntl, os, signal
        lock = open("lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory = os.memfd_create("memory")
        os.posix_fallocate(memory, 0, 128 << 20)
        if os.fork() == 0:
            signal.pause()
    """
    for _ in range(5):
        assert run([sys.executable, "-Sc", program], cwd=tmp_path).status == 0
        with Lock(tmp_path / "lock") as lock:
            assert lock.acquire()


def test_run_leaves_what_is_to_stay(tmp_path, until):
    """Some programs are meant to put another one into the background: ssh -f, setsid --fork."""
    run(["setsid", "--fork", "sh", "-c", "echo $$ >new; mv new pid; exec sleep 600"], cwd=tmp_path, leaves=True)
    until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert started_ticks(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_programs_die_with_us(tmp_path, how, until):
    """Whatever signal kills the process that runs a program, the program and its children end with it."""
    script = "sleep 600 & echo $! >child; echo $$ >new; mv new pid; wait"
    code = f"from interlock.host.run import run; run(['sh', '-c', {script!r}])"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as us:
        until((tmp_path / "pid").exists)
        us.send_signal(how)
    until(lambda: gone(tmp_path / "pid"))
    until(lambda: gone(tmp_path / "child"))


def test_stdin_of_any_size_is_given_without_waiting():
    """A program that does not read its stdin blocks nobody."""
    assert run(["true"], stdin=b"x" * 10_000_000).status == 0
    assert run(["wc", "-c"], stdin=b"x" * 10_000_000).stdout.strip() == b"10000000"


def gone(pid: Path) -> bool:
    """Return whether the process whose number is in the file `pid` has ended."""
    return started_ticks(int(pid.read_text())) is None
