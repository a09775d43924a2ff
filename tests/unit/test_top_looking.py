"""The processor usage of a machine, from two measurements."""

import pytest

from interlock import Usage
from interlock.top.looking import Meter


def used(cpu_s, uptime_s):
    return Usage(cpu_s, 1 << 20, uptime_s)


@pytest.mark.parametrize(
    ("looks", "percent"),
    [
        ([used(3.0, 10.0)], 30.0),
        ([used(3.0, 10.0), used(4.0, 12.0)], 50.0),
        ([used(3.0, 10.0), used(4.0, 10.1)], 30.0),
        ([used(3.0, 10.0), used(1.0, 4.0)], 25.0),
        ([used(3.0, 10.0), None], None),
        ([used(3.0, 10.0), None, used(1.0, 10.0)], 10.0),
        ([used(0.0, 0.0)], 0.0),
    ],
    ids=["since its start", "since the last look", "too soon", "another process", "down", "up again", "just started"],
)
def test_meter_tells_the_share_of_one_processor(looks, percent):
    """The share is measured since the last look that is long enough ago, or since the start of a new machine."""
    meter = Meter()
    found = [meter.percent("web", look) for look in looks]
    assert found[-1] == (None if percent is None else pytest.approx(percent))


def test_meter_tells_machines_apart():
    """Each machine is measured separately."""
    meter = Meter()
    meter.percent("web", used(3.0, 10.0))
    assert meter.percent("db", used(1.0, 10.0)) == pytest.approx(10.0)
