"""External programs: the wheel is installed in its own environment, and embedded."""

import pytest

pytestmark = pytest.mark.slow


def test_program_takes_machines_through_their_lives(embedded, vms):
    """Two processes run three threads each; a watcher sees every transition, nothing is printed, nothing warns."""
    names = [f"p{process}t{thread}" for process in range(2) for thread in range(3)]
    seen = ["create", "start", "fork", "stop", "clone", "delete"]
    expected = [{"name": name, "said": f"heard {name}heard {name}-fork", "seen": seen} for name in names]
    assert embedded("life.py", "simulated", 2, 3) == expected
    assert list(vms.instances()) == []
