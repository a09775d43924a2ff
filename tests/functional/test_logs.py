"""`interlock logs`: refusals; a simulated machine writes none."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("which", [(), ("--serial",), ("--qemu",)])
def test_logs_of_machine_that_has_none_says_so(interlock, bring, which):
    """What was not written cannot be shown."""
    bring(State.running)
    done = interlock("logs", "web", *which)
    assert (done.returncode, done.stderr.splitlines()[1]) == (4, 'instance "web" has no logs')


def test_logs_of_absent_instance_is_not_found(interlock):
    """What is not there has no logs."""
    assert interlock("logs", "web").returncode == 4
