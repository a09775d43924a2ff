"""What the keeper polls, what it looks at rarely, and which failures it survives."""

import errno
import threading

import pytest

from interlock.errors import DriverError
from interlock.fsm import looks, restarts
from interlock.fsm.port import Draft
from interlock.fsm.records import AUTOSTART_FILE, Observation
from interlock.fsm.spec import PortRule
from interlock.host.files import make_private_directory
from interlock.keeper import calls
from interlock.keeper.keeper import RETRY_S, Keeper


def failing(*_):
    """Raise OSError as a full disk does, whatever the arguments."""
    raise OSError(errno.ENOSPC, "no space")


@pytest.fixture
def keeper(home, driver):
    """Return a keeper of the home that does not serve."""
    return Keeper(home, lambda _: driver)


@pytest.fixture
def kept(engine, spec):
    """Create `web`, which another program may start and stop, and which is restarted when it fails."""
    engine.create("web", lambda _: Draft(spec._replace(kept_by="limactl", restart="on-failure"), {}))


@pytest.fixture
def failed(engine, spec, driver):
    """Create `web`, which has failed, so that a restart is due."""
    engine.create("web", lambda _: Draft(spec._replace(restart="on-failure"), {}))
    engine.fire("web", "start")
    driver.happen(engine.site("web"), alive=False, failed=True)


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("trigger", ["stop", "kill"])
def test_stop_of_a_machine_that_has_failed_calls_off_the_restart_that_is_due(keeper, engine, trigger):
    """The machine is already down, but the stop cancels the due restart as if that were in progress."""
    assert keeper._restart_due(engine.status("web")) == 1
    outcome = engine.fire("web", trigger)
    assert (outcome.changed, outcome.state) == (False, "stopped")
    assert keeper._restart_due(engine.status("web")) is None
    *_, line = engine.history("web")
    assert (line.trigger, line.phase, line.asked) == ("start", "failed", {"restart": 1})
    assert f'starting "web" was cancelled by {trigger}' in engine.status("web").reason
    assert engine.fire("web", trigger).state == "stopped"
    assert [*engine.history("web")][-1] == line


@pytest.mark.usefixtures("failed")
def test_restart_that_others_have_overtaken_is_not_begun(keeper, engine, driver):
    """A restart may no longer be due once the lock is held: another caller has started and stopped the machine."""
    number = keeper._restart_due(engine.status("web"))
    engine.fire("web", "start")
    engine.fire("web", "stop")
    keeper._restart("web", number)
    assert engine.status("web").state == "stopped"
    engine.fire("web", "start")
    driver.happen(engine.site("web"), alive=False, failed=True)
    keeper._restart("web", number + 1)
    assert engine.status("web").state == "stopped"


@pytest.mark.usefixtures("kept")
def test_machine_at_rest_that_another_program_keeps_is_not_polled(keeper):
    """A machine that may be started elsewhere is looked at only as often as the keeper looks for new instances."""
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


@pytest.mark.usefixtures("kept")
def test_look_that_fails_by_the_system_ends_no_keeper(keeper, engine, driver, monkeypatch):
    """A driver whose files cannot be opened for a moment is asked again at the next look."""
    engine.fire("web", "start")
    driver.happen(engine.site("web"), alive=False, failed=True)
    engine.status("web")
    monkeypatch.setattr(driver, "observe", failing)
    keeper._look()


def test_strange_mark_keeps_nothing_else_from_its_start(keeper, engine, plan, home, monkeypatch):
    """An instance whose mark cannot be read is left out, and the next one is started."""
    for name in ("one", "two"):
        engine.create(name, plan)
        (home.directory(name) / AUTOSTART_FILE).write_bytes(b"")
    monkeypatch.setattr(restarts, "is_missed", lambda place: place.name == "two" or failing())
    keeper._fetch()
    assert [engine.status(name).state for name in ("one", "two")] == ["created", "running"]


def test_ports_that_a_full_disk_keeps_closed_are_tried_again_later(keeper, engine, spec, driver, monkeypatch):
    """Each failure is followed by a pause, but logged only once."""
    rule = PortRule("forward", "127.0.0.1", exact=False, first=1, last=65535, host_ip="127.0.0.1", host_port=1)
    engine.create("web", lambda _: Draft(spec._replace(port_rules=(rule,)), {}))
    engine.fire("web", "start")
    driver.happen(engine.site("web"), sockets="127.0.0.1:8080")
    make_private_directory(calls.folder(keeper._home))
    waited = []

    def wait(_, seconds):
        waited.append(seconds)
        if len(waited) == 3:
            engine.fire("web", "stop")

    monkeypatch.setattr(driver, "carry", failing)
    monkeypatch.setattr(threading.Event, "wait", wait)
    keeper._attend("web")
    assert waited == [RETRY_S] * 3
    assert (calls.folder(keeper._home) / calls.LOG).read_text().count("no space") == 1
