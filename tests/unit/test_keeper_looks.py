"""What the keeper looks at often, and what now and then."""

import pytest

from interlock.errors import DriverError
from interlock.fsm import looks
from interlock.fsm.port import Draft
from interlock.fsm.records import Observation
from interlock.keeper.keeper import Keeper


@pytest.fixture
def keeper(home, driver):
    """Return a keeper of the home that does not serve."""
    return Keeper(home, lambda _: driver)


@pytest.fixture
def kept(engine, spec):
    """Create `web`, whose machine another program may start and stop, and is to be started again when it fails."""
    engine.create("web", lambda _: Draft(spec._replace(kept_by="limactl", restart="on-failure"), {}))


@pytest.mark.usefixtures("kept")
def test_machine_at_rest_that_another_program_keeps_is_not_polled(keeper):
    """One that may be started elsewhere is looked at as rarely as new instances are looked for."""
    assert not keeper._look()
    assert keeper._watched == []


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("silent", [False, True])
def test_machine_of_a_cluster_that_runs_is_not_polled(keeper, engine, driver, monkeypatch, silent):
    """It has no process here, and each look asks the cluster, which may not answer."""

    def observe(_site):
        if silent:
            raise DriverError("no answer")
        return Observation(alive=True)

    engine.fire("web", "start")
    monkeypatch.setattr(driver, "observe", observe)
    assert keeper._look()
    assert keeper._watched == []


def test_keeper_looks_once_at_what_shows_all(keeper, engine, driver, spec, monkeypatch):
    """A cluster with many machines is asked once for each look."""
    asked = []

    def observe(_site):
        looks.once("cluster", lambda: asked.append(1))
        return Observation(alive=True)

    for name in ("one", "two"):
        engine.create(name, lambda _: Draft(spec._replace(restart="on-failure"), {}))
        engine.fire(name, "start")
    monkeypatch.setattr(driver, "observe", observe)
    keeper._look()
    assert len(asked) == 1
