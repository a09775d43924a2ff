"""The suite that every driver must pass, ours and third-party ones: tests of what `drivers.contract` promises.

A driver's own tests subclass `DriverConformance` and name the driver:

    class TestMyDriver(DriverConformance):
        @pytest.fixture
        def driver(self): return MyDriver()

If the driver needs materials (`abilities.images`), its tests also define a `site` fixture, whose directory holds what
`create` needs. It must be possible to rename that directory within its parent. Each failure says what the contract asks
for and what was found. The suite ends the machines that it started, with the driver's own `kill`.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..errors import DeadlineError, DriverError, HostError
from ..fsm.spec import Copy, Disk, Forward, Mount, PortRule, Probe
from ..fsm.table import Trigger
from .contract import DEMANDS, UNREADABLE, Deadline, Driver, Observation, Site, Spec

_FORWARD = Forward("tcp", "0.0.0.0", 80, "", "127.0.0.1", 8080, "", reverse=False)  # noqa: S104 - the guest's own address

_ASKED = {
    "accelerator": "tcg",
    "cluster": "west",
    "copies": (Copy("/etc/hostname", "/tmp/hostname", skip_if_missing=True, delete_on_stop=False),),  # noqa: S108
    "cpu_model": "max",
    "disks": (Disk("data", "qcow2"),),
    "forward_agent": True,
    "forward_x11": True,
    "forward_x11_trusted": True,
    "forwards": (_FORWARD,),
    "group": "rack1",
    "lan": "lima0",
    "mounts": (Mount("/srv", "/srv", writable=False, type="9p", security_model="none"),),
    "nested": True,
    "network_host": False,
    "network_internet": False,
    "node": "node1.example.test",
    "port_rules": (PortRule("forward", "127.0.0.1", False, 1, 65535, "127.0.0.1", 1),),  # noqa: FBT003 - a record
    "probes": (Probe("answers", "#!/bin/sh\ntrue\n", ""),),
    "restart": "on-failure",
    "ssh_port": 22022,
    "tpm": True,
    "vnc": "127.0.0.1:0,to=9",
}
"""For each of DEMANDS, a value that makes the demand."""


class DriverConformance:
    """The tests. A driver's own tests may override the attributes and fixtures."""

    START_S = 120.0
    """How long a start may take."""

    COPIES_LIVE = False
    """True for a driver whose machines are mere records, so that a copied directory holds a live machine of its own."""

    @pytest.fixture
    def driver(self) -> Driver:
        """Return the driver under test."""
        raise NotImplementedError("give the driver under test")

    @pytest.fixture
    def other(self, driver: Driver) -> Driver:
        """Return a second driver object, as in another process: it has nothing that the first one keeps in memory."""
        return type(driver)()

    @pytest.fixture
    def site(self, driver: Driver, tmp_path: Path) -> Iterator[Site]:
        """Return a site with the materials that `create` needs; by default there are no materials."""
        assert not driver.abilities.images, (
            "abilities.images is True: give a `site` whose directory holds the materials"
        )
        directory = tmp_path / "web"
        directory.mkdir(mode=0o700)
        with tempfile.TemporaryDirectory(prefix="il-") as short:  # a socket's path has room for 107 bytes
            yield Site("web", directory, Path(short, "web"), _plain(driver))

    @pytest.fixture
    def steps(self) -> list[str]:
        """Collect what the driver reports."""
        return []

    @pytest.fixture
    def machine(self, driver: Driver, site: Site, steps: list[str]) -> Iterator[Site]:
        """Return a created machine, whose directory was renamed after its creation as the engine does."""
        staging = site._replace(directory=site.directory.with_name(f"{site.directory.name}-staging"))
        site.directory.rename(staging.directory)
        driver.create(staging, steps.append)
        staging.directory.rename(site.directory)
        yield site
        driver.kill(site, steps.append)
        driver.delete(site, steps.append)

    @pytest.fixture
    def running(self, driver: Driver, machine: Site, steps: list[str]) -> Site:
        """Return a machine whose guest has answered; `steps` holds what its start reported."""
        steps.clear()
        driver.start(machine, steps.append, Deadline(self.START_S))
        return machine

    # Dry runs.

    def test_foresee_touches_nothing_and_names_what_start_makes(
        self, driver: Driver, machine: Site, steps: list[str]
    ) -> None:
        """`foresee` changes nothing; after the start, the files that it named have appeared or vanished."""
        before = _listed(machine)
        effects = driver.foresee(machine, Trigger.start, {})
        assert before == _listed(machine), "foresee must touch nothing"
        driver.start(machine, steps.append, Deadline(self.START_S))
        missing = [name for name in effects.appear if not (machine.directory / name).exists()]
        assert not missing, f"foresee says that start makes {missing}, which are not there after it"
        left = [name for name in effects.vanish if (machine.directory / name).exists()]
        assert not left, f"foresee says that start removes {left}, which are there after it"

    # Demands.

    def test_abilities_name_fields_of_the_contract(self, driver: Driver) -> None:
        """A driver claims to honour only fields that the contract lists."""
        unknown = sorted(driver.abilities.honours - DEMANDS.keys())
        assert not unknown, f"abilities.honours names {unknown}; contract.DEMANDS has {sorted(DEMANDS)}"

    def test_check_accepts_a_spec_that_asks_for_nothing(self, driver: Driver, site: Site) -> None:
        """The suite's own machine can run on this host; otherwise the other tests prove nothing."""
        driver.check(site.spec)

    def test_check_refuses_what_the_driver_does_not_honour(self, driver: Driver, site: Site) -> None:
        """Each demand that is not honoured is refused by name before anything is made, never ignored."""
        before = _listed(site)
        for field in sorted(DEMANDS.keys() - driver.abilities.honours):
            refusal = _refusal(driver, site.spec._replace(**{field: _ASKED[field]}))  # type: ignore[arg-type]
            assert refusal is not None, (
                f"check accepts a spec with {field}, which abilities.honours does not name: raise HostError, as "
                "Driver.check does (an override calls super().check(spec) first)"
            )
            assert DEMANDS[field] in refusal, f"check must name {DEMANDS[field]} when it refuses it; it says: {refusal}"
        assert before == _listed(site), "check must make nothing"

    # Creation.

    def test_observe_before_create_says_not_alive(self, driver: Driver, site: Site) -> None:
        """Before `create`, the directory holds no live machine, and `observe` does not raise."""
        _is_down(driver, site, "before create")

    def test_create_repeated_is_safe(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """A second `create` leaves a machine that is down and can be started."""
        driver.create(machine, steps.append)
        _is_down(driver, machine, "after create")
        driver.start(machine, steps.append, Deadline(self.START_S))
        _is_alive(driver, machine, "after a second create and a start")

    # Running.

    def test_start_reports_its_steps_and_is_alive(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A start says what it is doing, and when it returns the machine is alive and nothing is wrong with it."""
        assert steps, "start must say its steps: report('waiting for the guest')"
        seen = _is_alive(driver, running, "after start")
        assert seen.condition is None, f"a machine that just started has no condition; observe says {seen.condition!r}"
        assert seen.exit_reason is None, f"a live machine has no exit reason; observe says {seen.exit_reason!r}"

    def test_start_of_live_machine_keeps_it(
        self, driver: Driver, other: Driver, running: Site, steps: list[str]
    ) -> None:
        """Starting a live machine leaves that very machine running: recovery after a crash relies on it."""
        before = driver.observe(running)
        other.start(running, steps.append, Deadline(self.START_S))
        after = driver.observe(running)
        assert _same(before, after), (
            f"start of a live machine must wait for that one; before it {before}, after it {after}"
        )

    def test_another_process_sees_the_same(self, driver: Driver, other: Driver, running: Site) -> None:
        """Everything known about a machine is in its site, because the next command is another process."""
        first, second = driver.observe(running), other.observe(running)
        assert _same(first, second), (
            f"another driver object must observe the same; the first says {first}, it says {second}"
        )

    def test_usage_never_shrinks(self, driver: Driver, running: Site) -> None:
        """Processor time and uptime, if the driver reports them, never shrink while the machine runs."""
        first, second = driver.observe(running).usage, driver.observe(running).usage
        if first is not None and second is not None:
            assert 0 <= first.cpu_s <= second.cpu_s, f"processor time must not shrink; first {first}, then {second}"
            assert 0 <= first.uptime_s <= second.uptime_s, f"uptime must not shrink; first {first}, then {second}"

    def test_copied_directory_holds_no_live_machine(
        self, driver: Driver, running: Site, steps: list[str], tmp_path: Path
    ) -> None:
        """In a copy of a live machine's directory nothing is alive, and `kill` there does not end the machine."""
        if self.COPIES_LIVE:
            return
        copy = running._replace(directory=tmp_path / "copy" / "web", runtime=running.runtime.with_name("copy"))
        copy.directory.mkdir(parents=True)
        for path in running.directory.iterdir():
            if path.is_file():
                shutil.copy2(path, copy.directory)
        _is_down(driver, copy, "in a copy of a live machine's directory")
        driver.kill(copy, steps.append)
        _is_alive(driver, running, "after kill in a copy of its directory (a recorded pid is no proof; a lock is)")

    def test_start_without_boot_starts_nothing(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """start(boot=False) raises if the machine is down, and leaves it down: recovery waits, it does not boot."""
        try:
            driver.start(machine, steps.append, Deadline(self.START_S), boot=False)
        except DriverError:
            pass
        else:
            pytest.fail("start(boot=False) of a machine that is down must raise DriverError, and start nothing")
        _is_down(driver, machine, "after start(boot=False) of a machine that is down")

    def test_start_without_time_raises_deadline_error(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """If the guest does not answer in time, start raises DeadlineError; the machine can be ended afterwards."""
        try:
            driver.start(machine, steps.append, Deadline(0.0))
        except DeadlineError:
            pass
        else:
            pytest.fail("start with Deadline(0) must raise DeadlineError: ask deadline.passed before it returns")
        driver.kill(machine, steps.append)
        _is_down(driver, machine, "after a start that took too long, and kill")

    def test_resume_of_machine_that_runs_changes_nothing(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """Resuming a machine that is not paused leaves that very machine running."""
        before = driver.observe(running)
        driver.resume(running, steps.append)
        after = driver.observe(running)
        assert _same(before, after), (
            f"resume of a machine that runs must change nothing; before {before}, after {after}"
        )

    # Ending.

    def test_stop_ends_it_and_says_how(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After stop nothing runs, and observe gives the exit reason that stop returned."""
        _ended_as_said(driver, running, driver.stop(running, steps.append, Deadline(60.0)))

    def test_stop_of_machine_that_is_down_is_safe(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """Stopping a machine that is down returns how it ended, and changes nothing."""
        assert driver.stop(machine, steps.append, Deadline(5.0)), "stop must say how it ended, also of what was down"
        _is_down(driver, machine, "after stop of a machine that was down")

    def test_start_after_stop_runs_again(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine that was stopped can be started again, and its old exit reason is gone."""
        driver.stop(running, steps.append, Deadline(60.0))
        driver.start(running, steps.append, Deadline(self.START_S))
        seen = _is_alive(driver, running, "after stop and start")
        assert seen.exit_reason is None, f"a live machine has no exit reason; observe says {seen.exit_reason!r}"

    def test_kill_ends_it_and_repeats_safely(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After kill nothing runs; a second kill is not an error."""
        driver.kill(running, steps.append)
        _is_down(driver, running, "after kill")
        driver.kill(running, steps.append)
        _is_down(driver, running, "after a second kill")

    def test_observe_and_stop_need_no_readable_spec(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine whose spec is damaged can be observed and shut down like any other."""
        damaged = running._replace(spec=UNREADABLE)
        _is_alive(driver, damaged, "with spec=UNREADABLE")
        _ended_as_said(driver, damaged, driver.stop(damaged, steps.append, Deadline(60.0)))

    def test_kill_and_delete_need_no_readable_spec(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine whose spec is damaged can be ended and removed: kill and delete use only the site's paths."""
        damaged = running._replace(spec=UNREADABLE)
        driver.kill(damaged, steps.append)
        _is_down(driver, running, "after kill with spec=UNREADABLE")
        driver.delete(damaged, steps.append)

    def test_copy_is_a_machine_of_its_own(self, driver: Driver, machine: Site, steps: list[str]) -> None:
        """A copy starts beside its original and outlives it; a driver that cannot copy raises HostError."""
        spec = machine.spec._replace(hostname="copy", instance_id="i-2")
        place, runtime = machine.directory.with_name("copy"), machine.runtime.with_name("copy")
        place.mkdir(mode=0o700)
        copy = machine._replace(name="copy", directory=place, runtime=runtime, spec=spec)
        try:
            driver.copy(copy, machine, steps.append, full=False)
        except HostError:
            return
        driver.copy(copy, machine, steps.append, full=False)
        _is_down(driver, copy, "after copy")
        try:
            for site in (machine, copy):
                driver.start(site, steps.append, Deadline(self.START_S))
            driver.kill(machine, steps.append)
            _is_alive(driver, copy, "after kill of its original")
        finally:
            driver.kill(copy, steps.append)
            driver.delete(copy, steps.append)

    def test_machine_whose_disk_has_grown_starts(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A machine starts after its disk has grown, twice to the same size; a driver that cannot raises HostError."""
        driver.kill(running, steps.append)
        larger = running._replace(spec=running.spec._replace(disk_bytes=running.spec.disk_bytes + (1 << 20)))
        try:
            driver.grow(larger, steps.append)
        except HostError:
            return
        driver.grow(larger, steps.append)
        _is_down(driver, larger, "after grow")
        driver.start(larger, steps.append, Deadline(self.START_S))
        _is_alive(driver, larger, "after grow and start")

    def test_forwards_of_a_running_machine_change(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """A forward that is open may be opened again; a driver that cannot change forwards raises HostError."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        forward = Forward("tcp", "0.0.0.0", 80, "", "127.0.0.1", port, "", reverse=False)  # noqa: S104 - the guest's own
        forwarded = running._replace(spec=running.spec._replace(forwards=(forward,)))
        try:
            driver.forward(forwarded, (), steps.append)
        except HostError:
            return
        driver.forward(forwarded, (), steps.append)
        driver.forward(running, forwarded.spec.forwards, steps.append)
        _is_alive(driver, running, "after its forwards have changed")

    def test_machine_that_was_moved_starts_at_its_new_place(
        self, driver: Driver, running: Site, steps: list[str]
    ) -> None:
        """After move, the directory can be renamed: nothing in it or outside depends on the old name or path."""
        driver.kill(running, steps.append)
        place, runtime = running.directory.with_name("moved"), running.runtime.with_name("moved")
        moved = running._replace(name="moved", directory=place, runtime=runtime)
        driver.move(running, moved, steps.append)
        running.directory.rename(place)
        try:
            _is_down(driver, moved, "after move")
            driver.start(moved, steps.append, Deadline(self.START_S))
            _is_alive(driver, moved, "after start at its new place")
        finally:
            driver.kill(moved, steps.append)
            driver.delete(moved, steps.append)
            place.rename(running.directory)

    def test_reset_leaves_a_machine_that_starts(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After reset the machine is down, has no exit reason, and starts."""
        driver.kill(running, steps.append)
        driver.reset(running, steps.append)
        seen = _is_down(driver, running, "after reset")
        assert seen.exit_reason is None, f"reset must forget why the machine ended; observe says {seen.exit_reason!r}"
        driver.start(running, steps.append, Deadline(self.START_S))
        _is_alive(driver, running, "after reset and start")

    def test_delete_leaves_nothing_outside_the_directory(self, driver: Driver, running: Site, steps: list[str]) -> None:
        """After delete the runtime directory is gone or empty, and deleting again is safe."""
        driver.kill(running, steps.append)
        driver.delete(running, steps.append)
        driver.delete(running, steps.append)
        left = sorted(path.name for path in running.runtime.iterdir()) if running.runtime.exists() else []
        assert not left, f"delete must empty site.runtime; it leaves {left}"


def _plain(driver: Driver) -> Spec:
    """Return the spec of a plain machine for `driver`, without any of DEMANDS."""
    return UNREADABLE._replace(
        driver=driver.name,
        arch=driver.abilities.arches[0],
        cpus=1,
        memory_bytes=256 << 20,
        disk_bytes=1 << 30,
        user="user",
        hostname="web",
        instance_id="i-1",
        boot="kernel",
        start_timeout_s=60.0,
        created_at="2026-01-01T00:00:00.000000Z",
    )


def _refusal(driver: Driver, spec: Spec) -> str | None:
    try:
        driver.check(spec)
    except HostError as error:
        return error.message
    return None


def _listed(site: Site) -> list[Path]:
    return sorted([*site.directory.rglob("*"), *site.runtime.rglob("*")])


def _same(first: Observation, second: Observation) -> bool:
    """True if both show the same machine in the same condition; usage is ignored, because it changes all the time."""
    return first._replace(usage=None) == second._replace(usage=None)


def _is_alive(driver: Driver, site: Site, when: str) -> Observation:
    seen = driver.observe(site)
    assert seen.alive is True, f"{when}, observe must say that the machine is alive; it says {seen}"
    return seen


def _is_down(driver: Driver, site: Site, when: str) -> Observation:
    seen = driver.observe(site)
    assert seen.alive is False, f"{when}, observe must say that nothing is alive; it says {seen}"
    return seen


def _ended_as_said(driver: Driver, site: Site, how: str) -> None:
    seen = _is_down(driver, site, "after stop")
    assert seen.exit_reason == how, (
        f"stop returned {how!r}, but the exit reason that observe gives is {seen.exit_reason!r}"
    )
