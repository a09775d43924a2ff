"""`interlock shell`: refusals; what it does in a guest is tested on guests."""

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
    """`shell` of a stopped instance is refused and starts nothing."""
    bring(state)
    done = interlock("shell", "web", "--", "true")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (code, lines)
