"""Names are checked, and ages are never negative."""

from datetime import UTC, datetime, timedelta

import pytest

from interlock.errors import InvalidNameError
from interlock.fsm.records import checked_name, seconds_since


@pytest.mark.parametrize("name", ["a", "web", "Web-1.2_x", "9", "a" * 63])
def test_checked_name_that_is_good_comes_back(name):
    """A valid name is returned unchanged."""
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "a\n", "a\0", "ä", "a" * 64, "web;rm", "$x"]
)
def test_checked_name_that_could_be_anything_else_is_refused(name):
    """A name cannot be a path, an option, a hidden file or shell syntax."""
    with pytest.raises(InvalidNameError):
        checked_name(name)


def test_seconds_since_moment_in_the_future_is_zero():
    """A clock that was set back does not give a negative age."""
    assert seconds_since((datetime.now(UTC) + timedelta(hours=1)).isoformat()) == 0.0
