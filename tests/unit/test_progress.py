"""An estimate is given once it can be trusted, and no more precisely than it is known."""

import pytest

from interlock.host.progress import Pace


def shown(marks, total=100):
    """Return the estimate at each of `marks`: (seconds, done)."""
    at = iter([seconds for seconds, _ in marks])
    pace = Pace(lambda: next(at))
    return [pace.left(done, total) for _, done in marks]


@pytest.mark.parametrize(
    ("step_s", "words"),
    [(60, ", about 6 min left"), (12, ", about 1 min left"), (4, ", less than 1 min left"), (0.1, ""), (0, "")],
)
def test_left_is_said_after_four_even_steps(step_s, words):
    """There is no estimate for work that has just begun, or that takes only a moment."""
    assert shown([(number * step_s, number * 10 + 10) for number in range(4)]) == ["", "", "", words]


def test_left_of_an_uneven_pace_is_not_said():
    """After a long halt there is no estimate until the pace is steady again."""
    said = shown([(0, 0), (10, 10), (20, 20), (30, 30), (130, 40), (165, 50)])
    assert said == ["", "", "", ", about 1 min left", "", ", about 3 min left"]


def test_left_of_work_that_grows_is_not_said_until_it_is_seen_again():
    """If the total grows, the estimate begins again."""
    at = iter(range(0, 1000, 10))
    pace = Pace(lambda: next(at))
    said = [pace.left(done, 50) for done in (10, 20, 30, 40)] + [pace.left(done, 100) for done in (50, 60, 70, 80)]
    assert [bool(words) for words in said] == [False, False, False, True, False, False, False, True]


def test_left_of_work_that_is_done_is_nothing():
    """Finished work has no time left."""
    assert shown([(number * 10, 25 * number) for number in range(5)])[-1] == ""
