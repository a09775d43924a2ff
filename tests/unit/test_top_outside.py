"""Programs that run on the terminal while the view is suspended."""

import sys

from interlock.top.outside import on_terminal


def test_program_beside_the_view_acts_on_the_same_host(monkeypatch):
    """`INTERLOCK_HOST=build interlock --host local top` shows this host's instances, and `shell` must use the same."""
    monkeypatch.setenv("INTERLOCK_HOST", "build")
    seen = "import os, sys; sys.exit('INTERLOCK_HOST' in os.environ)"
    assert on_terminal([sys.executable, "-c", seen], pause=False) == 0
