"""The program in tests/embed, which embeds the installed wheel, with real guests."""

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.warm]


def test_program_takes_real_guests_through_their_lives(embedded, vms):
    """Two processes with two threads each: four guests boot, answer, are forked, shut down, cloned and deleted."""
    names = ["p0t0", "p0t1", "p1t0", "p1t1"]
    seen = ["create", "start", "fork", "stop", "clone", "delete"]
    expected = [{"name": name, "said": f"heard {name}heard {name}-fork", "seen": seen} for name in names]
    assert embedded("life.py", "qemu", 2, 2) == expected
    assert list(vms.instances()) == []
