"""A process that was suspended with Ctrl-Z holds its instance: other commands say so, and what to type."""

import signal
import subprocess
import sys

import pytest

from interlock import State
from interlock.host.process import Actor, boot_id, started_ticks, suspended


@pytest.fixture
def suspend(begin, vms, until):
    """Return a function that begins a command on `web`, and suspends it in the middle of its work."""

    def suspend_in(trigger):
        options = ("--template", "tiny", "--driver", "simulated") if trigger == "create" else ()
        process = begin(trigger, "web", *options, orders={trigger: {"hang": True}})
        until(lambda: (operation := vms.status("web").operation) and operation.step)
        process.send_signal(signal.SIGSTOP)
        actor = Actor(process.pid, started_ticks(process.pid), boot_id())
        until(lambda: suspended(actor))
        return process

    return suspend_in


BEFORE = {"create": "absent", "start": "created", "stop": "running", "kill": "running", "reset": "stopped"}


@pytest.mark.parametrize("trigger", BEFORE)
def test_list_of_a_suspended_operation_says_so(interlock, bring, suspend, trigger):
    """The status line shows that the operation is suspended."""
    bring(State(BEFORE[trigger]))
    process = suspend(trigger)
    assert f"suspended (pid {process.pid})" in interlock("list").stdout


@pytest.mark.parametrize("trigger", ["start", "stop", "reset"])
def test_another_operation_behind_a_suspended_one_says_what_to_type(interlock, bring, suspend, trigger, injected):
    """The hint is the command that resumes the process."""
    bring(State(BEFORE[trigger]))
    process = suspend(trigger)
    refused = interlock("protect", "web")
    assert (refused.returncode, f"pid {process.pid}, which is suspended" in refused.stderr) == (5, True)
    assert f"kill -CONT {process.pid}" in refused.stderr
    injected("the holder of an instance is suspended")


def test_same_operation_behind_a_suspended_one_is_reported_and_continues_with_it(begin, bring, suspend, injected):
    """A waiting start says what it waits for; when the other start is cancelled, it starts the instance itself."""
    bring(State.created)
    process = suspend("start")
    second = begin("start", "web")
    said = next(line for line in second.stderr if "is suspended" in line)
    assert f"kill -CONT {process.pid} (or fg) resumes it" in said
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert (process.wait(timeout=60), second.wait(timeout=60)) == (130, 0)
    injected("the holder of an instance is suspended")


@pytest.mark.parametrize("trigger", BEFORE)
def test_delete_with_force_ends_what_is_suspended(interlock, bring, suspend, home, trigger, injected):
    """`delete --force` removes an instance whose operation is suspended."""
    bring(State(BEFORE[trigger]))
    process = suspend(trigger)
    assert interlock("delete", "web", "--force").returncode == 0
    process.wait(timeout=60)
    assert [path for path in home.root.rglob("*") if not path.is_dir()] == []
    injected("the holder of an instance is suspended")


def test_stop_with_force_ends_what_is_suspended(interlock, bring, suspend, state, injected):
    """`stop --force` ends a suspended stop and the machine."""
    bring(State.running)
    process = suspend("stop")
    assert interlock("stop", "web", "--force").returncode == 0
    process.wait(timeout=60)
    assert state() == "stopped"
    injected("the holder of an instance is suspended")


def test_stop_of_a_suspended_start_calls_it_off(interlock, bring, suspend, state, injected):
    """`stop` wakes a suspended start, which yields to it."""
    bring(State.created)
    process = suspend("start")
    assert interlock("stop", "web").returncode == 0
    assert process.wait(timeout=60) == 130
    assert state() == "created"
    injected("the holder of an instance is suspended")


HOLD = """
import sys
from pathlib import Path
from interlock.host.locks import Lock
print(Lock(Path(sys.argv[1])).acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(home, bring, until):
    """Return a process that holds the lock of `web`, and was suspended before it wrote its intent to the journal."""
    bring(State.stopped)
    command = [sys.executable, "-c", HOLD, home.lock("web")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        process.send_signal(signal.SIGSTOP)
        actor = Actor(process.pid, started_ticks(process.pid), boot_id())
        until(lambda: suspended(actor))
        yield process
        process.kill()


@pytest.mark.parametrize("command", ["start", "stop", "delete", "protect"])
def test_command_behind_one_suspended_before_its_first_line_says_what_to_type(interlock, holder, command, injected):
    """The kernel says who holds the lock, because the journal does not say it yet."""
    refused = interlock(command, "web")
    assert (refused.returncode, refused.stderr.splitlines()[-2:]) == (
        5,
        [
            f'instance "web" is held by pid {holder.pid}, which is suspended; {command} was not begun',
            f"hint: kill -CONT {holder.pid}",
        ],
    )
    injected("the holder of an instance is suspended")


def test_delete_with_force_ends_one_suspended_before_its_first_line(interlock, holder, home, injected):
    """It ends the suspended process and deletes the instance."""
    done = interlock("delete", "web", "--force")
    assert (done.returncode, home.directory("web").exists()) == (0, False)
    assert holder.wait(timeout=60) == -signal.SIGTERM
    injected("the holder of an instance is suspended")
