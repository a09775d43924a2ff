"""`interlock shell`: refusals; what it does in a guest is tested on guests."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize(
    ("state", "code", "lines"),
    [
        (State.absent, 4, ['there is no instance "web"', "hint: interlock create web --template debian"]),
        (State.created, 3, ['instance "web" is created; a shell needs it running', "hint: interlock start web"]),
        (State.stopped, 3, ['instance "web" is stopped; a shell needs it running', "hint: interlock start web"]),
        (State.running, 2, ['driver "simulated" leads into no guest']),
    ],
)
def test_shell_where_none_is_possible_says_why(interlock, bring, state, code, lines):
    """`shell` of a stopped instance is refused and starts nothing."""
    bring(state)
    done = interlock("shell", "web", "--", "true")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (code, lines)
