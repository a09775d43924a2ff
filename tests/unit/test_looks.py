"""Observations that a listing shares."""

from interlock.fsm import looks


def test_slow_observation_is_shared_by_the_instances_after_it(monkeypatch):
    """Its age counts from its answer: a cluster that waits for a silent node is asked once for all instances."""
    now, asked = [0.0], []
    monkeypatch.setattr(looks.time, "monotonic", lambda: now[0])

    def look():
        asked.append(now[0])
        now[0] += 5.0
        return "seen"

    with looks.shared({}):
        assert [looks.once("cluster", look) for _ in range(3)] == ["seen"] * 3
        assert asked == [0.0]
        now[0] += looks._FRESH_S + 0.1
        looks.once("cluster", look)
    assert len(asked) == 2
