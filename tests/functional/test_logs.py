"""`interlock logs`: refusals; a simulated machine writes no logs."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("which", [(), ("--serial",), ("--qemu",)])
def test_logs_of_machine_that_has_none_says_so(interlock, bring, which):
    """A log that does not exist is an error."""
    bring(State.running)
    done = interlock("logs", "web", *which)
    assert (done.returncode, done.stderr.splitlines()[1]) == (4, 'instance "web" has no logs')


def test_logs_of_absent_instance_is_not_found(interlock):
    """An absent instance has no logs."""
    assert interlock("logs", "web").returncode == 4
