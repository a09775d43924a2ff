"""A fleet of real guests: made by one call, changed by another, and pruned."""

import pytest

from interlock import State

pytestmark = pytest.mark.vm


def test_fleet_of_three_guests_is_made_changed_and_pruned(vms, tmp_path):
    """All three answer, a second apply does nothing, guests get another processor by a restart, and one is pruned."""
    file = tmp_path / "three.yaml"

    def apply(count, cpus, **options):
        file.write_text(f"fleet: three\ninstances:\n- {{name: t, count: {count}, template: tiny, cpus: {cpus}}}\n")
        results = vms.fleet(file).apply(agree=lambda _: True, **options)
        assert [result.error for result in results if result.error] == []
        return {result.step.name: " ".join(result.step.rows) for result in results}

    assert apply(3, 1) == dict.fromkeys(("t-1", "t-2", "t-3"), "create start")
    assert [vms.run(name, ["hostname"]).text.strip() for name in ("t-1", "t-2", "t-3")] == ["t-1", "t-2", "t-3"]
    assert apply(3, 1) == {}
    assert apply(2, 2, prune=True) == {"t-1": "stop edit start", "t-2": "stop edit start", "t-3": "stop delete"}
    assert vms.run("t-1", ["nproc"]).text.strip() == "2"
    assert vms.status("t-3").state is State.absent
