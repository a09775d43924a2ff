"""A command that a start waits for: until it ends, time is up, or the machine is dead."""

import os
import subprocess
from pathlib import Path

import pytest

from interlock.errors import CancelledError, DeadlineError
from interlock.fsm.port import Deadline
from interlock.guest import errand
from interlock.guest.session import GuestGoneError
from interlock.host.process import started_ticks

LASTING = ["sh", "-c", "echo $$ >pid; exec sleep 600"]


@pytest.fixture
def machine():
    """Return a process that stands for a machine."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def lifeline(machine):
    descriptor = os.pidfd_open(machine.pid)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """Return what tells whether the lasting command is dead, once it was begun."""
    monkeypatch.chdir(tmp_path)
    return lambda: started_ticks(int(Path("pid").read_text())) is None


def test_run_returns_status_words_and_output(lifeline, tmp_path):
    """What it said on stderr is told line by line, its output goes where it was asked to."""
    with (tmp_path / "out").open("wb") as out:
        done = errand.run(["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 7"], Deadline(30), lifeline, out)
    assert done == (7, ("one", "two"))
    assert (tmp_path / "out").read_text() == "out\n"


def test_run_does_not_wait_for_what_goes_on_in_the_background(lifeline, tmp_path):
    """A command that leaves a child behind has ended, although the child could still speak."""
    script = f"sleep 600 & echo $! >{tmp_path}/pid; echo said >&2"
    try:
        assert errand.run(["sh", "-c", script], Deadline(30), lifeline) == (0, ("said",))
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


class Begun(Deadline):
    """A deadline that passes once the lasting command has begun."""

    @property
    def remaining_s(self) -> float:
        return 0.0 if Path("pid").exists() and Path("pid").read_text() else 30.0


def test_run_beyond_the_deadline_is_ended(lifeline, ended):
    """Time that is up ends the command too."""
    with pytest.raises(DeadlineError, match="the guest did not answer within 30 s"):
        errand.run(LASTING, Begun(30), lifeline)
    assert ended()


def test_run_called_off_is_ended(lifeline, ended):
    """Whoever calls a start off does not wait for an errand of it."""

    def look_up() -> None:
        if Path("pid").exists() and Path("pid").read_text():
            raise CancelledError("off")

    with pytest.raises(CancelledError):
        errand.run(LASTING, Deadline(30, look_up), lifeline)
    assert ended()


def test_run_ends_with_the_machine(machine, lifeline, ended):
    """When the machine dies there is nothing left to wait for."""

    def look_up() -> None:
        if Path("pid").exists() and Path("pid").read_text():
            machine.kill()

    with pytest.raises(GuestGoneError):
        errand.run(LASTING, Deadline(30, look_up), lifeline)
    assert ended()
