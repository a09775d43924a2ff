"""A first start uses a warm image if the driver can, and the history says so; every other start boots."""

import json

import pytest

from interlock.drivers.contract import WARM
from interlock.drivers.simulated import FILE
from interlock.fsm.port import Draft
from interlock.fsm.states import State
from interlock.fsm.table import Trigger

BEGAN = "starting from the simulated warm image"


@pytest.fixture
def created(engine, spec, tmp_path):
    """Create an instance with a warm image."""
    file = tmp_path / "memory"
    file.write_bytes(b"memory")
    engine.create("web", lambda _: Draft(spec, {f"{WARM}/memory": file}))


@pytest.fixture
def how(engine):
    """Return a function that starts the instance and returns the detail that its history has of the start."""

    def start(**asked):
        outcome = engine.fire("web", Trigger.start, **asked)
        *_, entry = engine.history("web")
        assert entry.detail == outcome.detail
        assert engine.status("web").reason is None  # the detail is not the reason for its state
        return outcome.detail

    return start


@pytest.mark.usefixtures("created")
def test_files_of_a_warm_image_are_links(home, tmp_path):
    """They are hard links, so the link count tells whether they are in use."""
    assert (home.directory("web") / WARM / "memory").samefile(tmp_path / "memory")


@pytest.mark.usefixtures("created")
def test_first_start_begins_from_the_warm_image_and_later_ones_boot(engine, how):
    """The start after a reset counts as a first start again."""
    assert how() == BEGAN
    engine.fire("web", Trigger.stop)
    assert how() is None
    engine.fire("web", Trigger.stop)
    engine.fire("web", Trigger.reset)
    assert how() == BEGAN


@pytest.mark.usefixtures("created")
def test_first_start_boots_if_asked_to(how):
    """With `cold`, the instance boots."""
    assert how(cold=True) == "booting cold, as asked"


def test_plan_that_is_made_again_leaves_nothing_of_the_warm_image_before(engine, spec, tmp_path, home):
    """If a warm image vanishes while it is being linked, the plan is made again and no files of it are left."""
    (tmp_path / "memory").write_bytes(b"memory")
    plans = iter(({f"{WARM}/memory": tmp_path / "memory", f"{WARM}/devices": tmp_path / "gone"}, {}))
    engine.create("web", lambda _: Draft(spec, next(plans)))
    assert not (home.directory("web") / WARM).exists()
    assert engine.fire("web", Trigger.start).state is State.running
    assert json.loads((home.directory("web") / FILE).read_bytes())["boots"] == 1
