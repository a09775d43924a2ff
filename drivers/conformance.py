"""The suite that every driver passes, ours and anyone's.

A driver's own tests subclass `DriverConformance` and give it two fixtures, `driver` and `site`:

    class TestMyDriver(DriverConformance):
        @pytest.fixture
        def driver(self): return MyDriver()

        @pytest.fixture
        def site(self, tmp_path): ...   # a Site whose directory holds what `create` needs

`site.directory` must end in a component that can be renamed within its parent. The suite kills what it leaves alive.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ..errors import DeadlineError, DriverError
from .contract import UNREADABLE, Deadline, Driver, Site


class DriverConformance:
    """What `drivers.contract` promises, as tests."""

    START_S = 120.0
    """How long a start may take."""

    @pytest.fixture
    def driver(self) -> Driver:
        raise NotImplementedError("give the driver under test")

    @pytest.fixture
    def site(self) -> Site:
        raise NotImplementedError("give a site with the materials that create needs")

    @pytest.fixture
    def steps(self) -> list[str]:
        """Collect what the driver reports."""
        return []

    @pytest.fixture
    def machine(self, driver: Driver, site: Site, steps: list[str]) -> Iterator[Site]:
        """Return a created machine, whose directory was renamed after its creation as the engine does."""
        staging = replace(site, directory=site.directory.with_name(f"{site.directory.name}-staging"))
        site.directory.rename(staging.directory)
        driver.create(staging, steps.append)
        staging.directory.rename(site.directory)
        yield site
        driver.kill(site, steps.append)
        driver.delete(site, steps.append)

    @pytest.fixture
    def running(self, driver: Driver, machine: Site, steps: list[str]) -> Site:
        """Return a machine whose guest has answered."""
        driver.start(machine, steps.append, Deadline(self.START_S))
        return machine

    def test_observe_before_create_says_not_alive(self, driver: Driver, site: Site) -> None:
        """A directory in which nothing was made holds no live machine, and asking does not raise."""
        assert driver.observe(site).alive is False

    def test_create_repeated_is_safe(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """Creating what is created leaves a machine that is down and can be started."""
        driver.create(machine, steps.append)
        assert driver.observe(machine).alive is False
        driver.start(machine, steps.append, Deadline(self.START_S))
        assert driver.observe(machine).alive is True

    def test_start_reports_its_steps_and_is_alive(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A start says what it is doing, and when it returns the machine is alive and nothing is wrong with it."""
        assert steps
        seen = driver.observe(running)
        assert (seen.alive, seen.condition, seen.exit_reason) == (True, None, None)

    def test_start_of_live_machine_keeps_it(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """Starting what runs leaves the very same machine running: recovery after a crash relies on it."""
        before = driver.observe(running)
        driver.start(running, steps.append, Deadline(self.START_S))
        assert driver.observe(running) == before

    def test_start_without_boot_starts_nothing(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """A machine that died before it could be awaited is an error, and stays down: nobody asked for it to run."""
        with pytest.raises(DriverError):
            driver.start(machine, steps.append, Deadline(self.START_S), boot=False)
        assert driver.observe(machine).alive is False

    def test_start_without_time_raises_deadline_error(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """A guest that cannot answer in time is a DeadlineError, and the machine can be ended afterwards."""
        with pytest.raises(DeadlineError):
            driver.start(machine, steps.append, Deadline(0.0))
        driver.kill(machine, steps.append)
        assert driver.observe(machine).alive is False

    def test_stop_ends_it_and_says_how(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After stop nothing runs, and the words returned are those that observe gives afterwards."""
        how = driver.stop(running, steps.append, Deadline(60.0))
        seen = driver.observe(running)
        assert (seen.alive, seen.exit_reason) == (False, how)

    def test_stop_of_machine_that_is_down_is_safe(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """Stopping what is down returns words and changes nothing."""
        assert driver.stop(machine, steps.append, Deadline(5.0))
        assert driver.observe(machine).alive is False

    def test_start_after_stop_runs_again(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine that was stopped can be started again, and its old exit reason is gone."""
        driver.stop(running, steps.append, Deadline(60.0))
        driver.start(running, steps.append, Deadline(self.START_S))
        seen = driver.observe(running)
        assert (seen.alive, seen.exit_reason) == (True, None)

    def test_kill_ends_it_and_repeats_safely(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After kill nothing runs; killing nothing is no error."""
        driver.kill(running, steps.append)
        assert driver.observe(running).alive is False
        driver.kill(running, steps.append)
        assert driver.observe(running).alive is False

    def test_observe_and_stop_need_no_readable_spec(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine whose spec is damaged is seen, and can be shut down like any other."""
        damaged = replace(running, spec=UNREADABLE)
        assert driver.observe(damaged).alive is True
        how = driver.stop(damaged, steps.append, Deadline(60.0))
        seen = driver.observe(damaged)
        assert (seen.alive, seen.exit_reason) == (False, how)

    def test_kill_and_delete_need_no_readable_spec(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine whose spec is damaged can be ended and removed: both look at nothing but the place."""
        damaged = replace(running, spec=UNREADABLE)
        driver.kill(damaged, steps.append)
        assert driver.observe(running).alive is False
        driver.delete(damaged, steps.append)

    def test_resume_of_machine_that_runs_changes_nothing(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """Letting go on what goes on anyway leaves the very same machine running."""
        before = driver.observe(running)
        driver.resume(running, steps.append)
        assert driver.observe(running) == before

    def test_reset_leaves_a_machine_that_starts(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After reset the machine is down, has no exit to tell of, and starts."""
        driver.kill(running, steps.append)
        driver.reset(running, steps.append)
        seen = driver.observe(running)
        assert (seen.alive, seen.exit_reason) == (False, None)
        driver.start(running, steps.append, Deadline(self.START_S))
        assert driver.observe(running).alive is True

    def test_delete_leaves_nothing_outside_the_directory(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After delete the runtime directory is gone or empty, and deleting again is safe."""
        driver.kill(running, steps.append)
        driver.delete(running, steps.append)
        driver.delete(running, steps.append)
        assert not running.runtime.exists() or not list(running.runtime.iterdir())
