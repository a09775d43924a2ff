"""The simulated driver fulfils the contract, on disk and in memory, and obeys its orders."""

import errno
import json
import os
import time

import pytest

from interlock.drivers import simulated
from interlock.drivers.conformance import DriverConformance
from interlock.drivers.contract import Deadline, Site
from interlock.drivers.simulated import FILE, VARIABLE, SimulatedDriver
from interlock.errors import DeadlineError, DriverError, OutOfReachError


@pytest.fixture
def site(home, spec):
    """Return a site with a directory that can be renamed in its parent."""
    home.prepare()
    home.directory("web").mkdir()
    return Site("web", home.directory("web"), home.sockets("web"), spec)


class TestOnDisk(DriverConformance):
    """Machines are records beside their specs, visible to several processes."""

    COPIES_LIVE = True

    @pytest.fixture
    def driver(self):
        return SimulatedDriver()

    @pytest.fixture
    def site(self, site):
        return site


class TestInMemory(DriverConformance):
    """Machines are entries of a mapping, so the tests of an embedding program leave no files."""

    COPIES_LIVE = True

    @pytest.fixture
    def driver(self):
        return SimulatedDriver(orders={}, memory={})

    @pytest.fixture
    def other(self, driver):
        return SimulatedDriver(orders={}, memory=driver.memory)

    @pytest.fixture
    def site(self, site):
        return site


def test_memory_machines_leave_no_file(site):
    """With machines in memory, nothing is written to the site."""
    driver = SimulatedDriver(orders={}, memory={})
    driver.create(site, print)
    driver.start(site, print, Deadline(1.0))
    assert list(site.directory.iterdir()) == []


def test_disk_machine_is_seen_by_another_driver(site):
    """A machine that one driver started is alive for another."""
    SimulatedDriver().start(site, print, Deadline(1.0))
    assert SimulatedDriver().observe(site).alive


def test_reset_machine_has_never_booted(site):
    """The count of boots is zero after a reset."""
    driver = SimulatedDriver()
    driver.start(site, print, Deadline(1.0))
    driver.kill(site, print)
    driver.reset(site, print)
    assert json.loads((site.directory / FILE).read_bytes())["boots"] == 0


@pytest.mark.parametrize("trigger", ["create", "start", "stop", "kill", "reset", "delete"])
def test_order_to_fail_is_obeyed_by_every_call(site, trigger):
    """An ordered error is raised with the ordered message."""
    driver = SimulatedDriver(orders={trigger: {"error": "the disk is on fire"}})
    deadline = [Deadline(1.0)] if trigger in ("start", "stop") else []
    with pytest.raises(DriverError, match="the disk is on fire"):
        getattr(driver, trigger)(site, print, *deadline)


def test_order_to_take_time_is_obeyed(site):
    """A call takes at least the ordered delay."""
    began = time.monotonic()
    SimulatedDriver(orders={"create": {"delay_s": 0.1}}).create(site, print)
    assert time.monotonic() - began >= 0.1


def test_order_to_hang_ends_at_the_deadline(site):
    """A start that hangs raises DeadlineError and leaves the machine alive, for the engine to decide what to do."""
    driver = SimulatedDriver(orders={"start": {"hang": True}})
    with pytest.raises(DeadlineError):
        driver.start(site, print, Deadline(0.05))
    assert driver.observe(site).alive


def test_stop_of_guest_that_hangs_ends_it_and_says_by_force(site):
    """A guest that does not shut down in time is ended, and the returned text says so."""
    driver = SimulatedDriver(orders={"stop": {"hang": True}})
    driver.start(site, print, Deadline(1.0))
    assert driver.stop(site, print, Deadline(0.05)) == "ended by force: the guest did not shut down in 0.05 s"
    assert not driver.observe(site).alive


def test_orders_of_the_environment_reach_every_process(site, monkeypatch):
    """Orders come from the environment if the constructor is given none."""
    monkeypatch.setenv(VARIABLE, '{"create": {"error": "no"}}')
    with pytest.raises(DriverError, match="no"):
        SimulatedDriver().create(site, print)


def test_machine_record_of_another_version_is_read(site):
    """Missing keys get their defaults, and unknown keys are ignored."""
    (site.directory / FILE).write_bytes(b'{"alive": false, "boots": 3, "exit_reason": "guest shut down", "odd": 1}')
    assert SimulatedDriver().observe(site).exit_reason == "guest shut down"


def test_machine_whose_record_cannot_be_read_is_not_said_to_be_down(site, monkeypatch):
    """It is unknown whether the machine is alive, so that is an error."""

    def failing(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(simulated, "read_own", failing)
    with pytest.raises(DriverError, match=FILE):
        SimulatedDriver().observe(site)


def test_machine_that_is_hidden_is_left_alone(site):
    """A machine out of reach is reported as alive and hidden; it cannot be stopped, killed, reset or deleted."""
    driver = SimulatedDriver()
    driver.start(site, print, Deadline(1.0))
    driver.happen(site, hidden=True)
    assert (driver.observe(site).alive, driver.observe(site).hidden) == (True, True)
    for call in (driver.kill, driver.reset, driver.delete):
        with pytest.raises(OutOfReachError):
            call(site, print)
    with pytest.raises(OutOfReachError):
        driver.stop(site, print, Deadline(1.0))
    assert driver.observe(site).alive


@pytest.mark.parametrize("content", [b"", b"[]", b'{"alive": 1}', b"\xff"])
def test_machine_whose_record_is_damaged_is_down_and_can_be_ended(site, content):
    """A damaged record counts as down and is named as the reason; kill and delete still work."""
    (site.directory / FILE).write_bytes(content)
    driver = SimulatedDriver()
    seen = driver.observe(site)
    assert (seen.alive, FILE in seen.exit_reason) == (False, True)
    driver.kill(site, print)
    driver.delete(site, print)
