"""`interlock shell` and `run`: refusals; what they do in a guest is tested on real guests."""

import pytest

from interlock.fsm.states import State

LEGAL = "shell is legal from running only"
WAY = "hint: interlock start web && interlock shell web"


@pytest.mark.parametrize(
    ("state", "code", "lines"),
    [
        (State.absent, 4, ['there is no instance "web"', "hint: interlock create web --template debian"]),
        (State.created, 3, [f'instance "web" is created; {LEGAL}', WAY]),
        (State.stopped, 3, [f'instance "web" is stopped; {LEGAL}', WAY]),
        (State.running, 2, ['driver "simulated" has no shell']),
    ],
)
def test_shell_where_none_is_possible_says_why(interlock, bring, state, code, lines):
    """`shell` needs a running guest and starts nothing; the error gives the reason."""
    bring(state)
    done = interlock("shell", "web", "--", "true")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (code, lines)


@pytest.mark.parametrize("command", ["shell", "run"])
@pytest.mark.parametrize("state", [State.created, State.stopped])
def test_start_option_starts_what_does_not_run(interlock, bring, vms, command, state):
    """The start is a transition before the command, announced like any other."""
    bring(state)
    done = interlock(command, "--start", "web", "--", "true")
    assert (done.returncode, vms.status("web").state) == (2, State.running)
    assert 'started "web"' in done.stderr
    assert 'driver "simulated" has no shell' in done.stderr


@pytest.mark.parametrize("command", ["shell", "run"])
def test_start_option_creates_nothing_and_says_nothing_where_it_runs(interlock, bring, vms, command):
    """A name that does not exist is not found; an instance that runs is not started."""
    assert interlock(command, "--start", "web", "--", "true").returncode == 4
    assert vms.status("web").state is State.absent
    bring(State.running)
    assert "started" not in interlock(command, "--start", "web", "--", "true").stderr


def test_run_without_a_command_is_a_usage_error(interlock):
    """A login shell is for `shell`; `run` needs a command."""
    done = interlock("run", "web")
    assert (done.returncode, "COMMAND" in done.stderr) == (2, True)
