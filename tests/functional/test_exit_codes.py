"""Each documented exit code, produced by a real run; an interrupted command leaves nothing behind."""

import json
import re
import signal

import pytest

from interlock.cli import cli
from interlock.errors import BY_REFERENCE
from interlock.fsm.states import State

HANG = {"start": {"hang": True}}


def test_help_documents_the_exit_codes_of_all_errors():
    """The help lists the exit codes that the error classes have; 1 is for defects and is not listed."""
    documented = {int(number) for number in re.findall(r"\b(\d+) ", cli.epilog)}
    assert documented == {0} | {kind.exit_code for kind in BY_REFERENCE.values()} - {1}


@pytest.mark.parametrize(
    ("state", "arguments", "orders", "code"),
    [
        (State.created, ("start", "web"), {}, 0),
        (State.running, ("start", "web"), {}, 0),
        (State.created, ("start",), {}, 2),
        (State.created, ("start", "web", "--nonsense"), {}, 2),
        (State.created, ("start", "-web"), {}, 2),
        (State.created, ("stop", "we b"), {}, 2),
        (State.created, ("create", "x", "-t", "tiny", "--memory", "lots"), {}, 2),
        (State.running, ("delete", "web"), {}, 3),
        (State.stopped, ("shell", "web"), {}, 3),
        (State.absent, ("stop", "web"), {}, 4),
        (State.absent, ("create", "web", "-t", "no-such"), {}, 4),
        (State.created, ("start", "web"), {"start": {"error": "no"}}, 6),
        (State.created, ("create", "x", "-t", "tiny", "--driver", "no-such"), {}, 6),
        (State.created, ("start", "web", "--timeout", "0.1"), HANG, 7),
    ],
)
def test_exit_code_tells_what_became_of_it(interlock, bring, state, arguments, orders, code):
    """0 done or already so, 2 usage, 3 illegal transition, 4 not found, 6 driver failed, 7 deadline passed."""
    bring(state)
    done = interlock(*arguments, orders=orders)
    assert done.returncode == code, done.stderr
    assert (code == 0) == ("error: " not in done.stderr)


def test_exit_code_while_another_process_works_is_5(interlock, begin, bring, at_work, tmp_path):
    """Another operation is refused, naming the process that holds the instance; that process continues."""
    bring(State.stopped)
    process = begin("reset", "web", orders={"reset": {"until": str(tmp_path / "go")}})
    at_work()
    refused = interlock("start", "web")
    assert (refused.returncode, f"(pid {process.pid})" in refused.stderr) == (5, True)
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_exit_code_of_damage_is_8(interlock, bring, home):
    """`start` of a damaged instance is refused with 8."""
    bring(State.stopped)
    (home.directory("web") / "journal.jsonl").write_bytes(b"{}\n")
    assert interlock("start", "web").returncode == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_exit_code_of_start_that_was_interrupted_is_130(begin, bring, at_work, home, state, history, number, source):
    """Whichever signal interrupts it, the start is undone: the state is the source, nothing is alive or in flight."""
    bring(source)
    process = begin("start", "web", orders=HANG)
    at_work()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-2:] == ["error: cancelled", f"interrupted by {number.name}"]
    assert (state(), history()[-1]) == (source, ("start", "failed"))
    assert not json.loads((home.directory("web") / "machine.json").read_text())["alive"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exit_code_of_create_that_was_interrupted_is_130(begin, at_work, home, number):
    """A cancelled creation leaves nothing behind."""
    process = begin("create", "web", "-t", "tiny", "--driver", "simulated", orders={"create": {"hang": True}})
    at_work()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(home.root.rglob("web")) == []


def test_start_with_hangup_ignored_survives_it(begin, bring, at_work, history, tmp_path):
    """nohup(1) starts programs with SIGHUP ignored."""
    bring(State.created)
    process = begin(
        "start",
        "web",
        orders={"start": {"until": str(tmp_path / "go")}},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    at_work()
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert (process.returncode, history()[-1]) == (0, ("start", "done"))


def test_exit_code_of_an_unusable_home_comes_with_a_message(interlock, tmp_path, monkeypatch):
    """The user reads the reason, not a traceback."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "file"))
    done = interlock("create", "web", "-t", "tiny", "--driver", "simulated")
    assert (done.returncode, done.stderr.splitlines()[0]) == (6, "error: driver-failed")
    assert str(tmp_path / "file") in done.stderr
