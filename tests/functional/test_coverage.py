"""Every row of the table and every recovery rule was taken by a functional test: else nobody knows that it works.

This test runs last. It counts what the engine did in the process of the tests, with the simulated driver.
"""

import pytest

from interlock.fsm.events import Happening
from interlock.fsm.table import TABLE, Recovery

NEEDED = ("test_crashes.py", "test_world.py")
ENDS = {
    Recovery.roll_back: (Happening.undone,),
    Recovery.probe: (Happening.done, Happening.undone),
    Recovery.redo: (Happening.done,),
    Recovery.abandon: (Happening.undone,),
}
"""How an operation that was cut short can end, by its rule."""


@pytest.fixture
def whole_suite(request):
    """Skip where only a part of the suite was asked for: then much was not taken."""
    ran = {item.path.name for item in request.session.items}
    if missing := set(NEEDED) - ran:
        pytest.skip(f"not the whole suite: without {', '.join(sorted(missing))}")


@pytest.mark.usefixtures("whole_suite")
def test_every_row_was_taken_from_each_of_its_sources(taken):
    """No row of the table is there that no test has carried out."""
    rows = {
        (Happening.observed if row.observed else Happening.done, row.trigger, source)
        for row in TABLE
        for source in row.sources
    }
    assert rows - taken == set()


@pytest.mark.usefixtures("whole_suite")
def test_every_recovery_was_taken_to_each_of_its_ends(taken):
    """Each row that takes time was cut short in each of its sources, and ended in each way that its rule knows."""
    recoveries = {
        (happening, row.trigger, source)
        for row in TABLE
        if row.on_crash
        for source in row.sources
        for happening in (Happening.interrupted, *ENDS[row.on_crash])
    }
    assert recoveries - taken == set()
