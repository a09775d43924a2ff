"""The lima driver keeps the contract on limactl, and reports what limactl says in Interlock's words.

tests/lima/limactl.py stands in for the real program: it behaves as the real one did, by recorded.json.
"""

import os
import signal
import subprocess

import pytest
import yaml

from interlock import Interlock, Wishes
from interlock.drivers.conformance import DriverConformance
from interlock.drivers.contract import TEMPLATE, Deadline, Site
from interlock.drivers.lima import program
from interlock.drivers.lima.driver import LimaDriver
from interlock.drivers.lima.folder import Folder
from interlock.errors import DeadlineError, DriverError, HostError, InterlockError, InvalidTemplateError
from interlock.fsm.spec import UNREADABLE
from interlock.host import process
from interlock.host.sizes import size_bytes

START_S = 120.0


@pytest.fixture(autouse=True)
def limactl(limactl):
    """Let each test find the stand-in."""
    return limactl


@pytest.fixture
def site(tmp_path):
    """Return a site with the template for limactl."""
    directory = tmp_path / "instances" / "web"
    directory.mkdir(parents=True, mode=0o700)
    (directory / TEMPLATE).write_text("images: [{location: /images/debian.qcow2}]\n")
    spec = UNREADABLE._replace(
        driver="lima", arch="x86_64", cpus=1, memory_bytes=256 << 20, disk_bytes=1 << 30, instance_id="i-1"
    )
    return Site("web", directory, tmp_path / "runtime" / "web", spec)


@pytest.fixture
def driver():
    """Return the driver."""
    return LimaDriver()


@pytest.fixture
def machine(driver, site):
    """Return a machine that limactl has created."""
    driver.create(site, print)
    return site


@pytest.fixture
def folder(lima_home):
    """Return the machine's folder in LIMA_HOME."""
    return Folder(lima_home, "web")


class TestContract(DriverConformance):
    """What every driver promises."""

    @pytest.fixture
    def driver(self):
        return LimaDriver()

    @pytest.fixture
    def site(self, site):
        return site


def pid_of(folder, name):
    return int((folder.path / name).read_text())


def end(folder, *names):
    """Kill the processes of the pid files `names` as a crash would, and wait until they are gone."""
    for name in names:
        pid = pid_of(folder, name)
        actor = process.Actor(pid, process.started_ticks(pid), process.boot_id())
        process.send(actor, signal.SIGKILL)
        deadline = Deadline(START_S)
        while process.alive(actor):
            assert not deadline.passed


# -- creation ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("machine")
def test_create_hands_over_the_text_and_marks_it(folder):
    """limactl keeps the template as it was handed over, and the line that names its creator."""
    assert (
        folder.path / "lima.yaml"
    ).read_text() == "# created by Interlock: i-1\nimages: [{location: /images/debian.qcow2}]"


def test_create_says_why_limactl_cannot(driver, site):
    """The error has the cause in limactl's words, and the unfinished instance can be deleted."""
    (site.directory / TEMPLATE).write_text("images: [{location: /images/missing.qcow2}]\n")
    with pytest.raises(DriverError, match=r'limactl cannot create "web": failed to download .*no such file'):
        driver.create(site, print)
    driver.delete(site, print)
    assert not (program.home() / "web").exists()


def test_create_over_an_instance_of_another_touches_nothing(driver, site, folder):
    """A name that limactl already has is refused, and our cleanup leaves that instance alone."""
    folder.path.mkdir()
    (folder.path / "lima.yaml").write_text("cpus: 1\n")
    with pytest.raises(DriverError, match='limactl has an instance "web" already'):
        driver.create(site, print)
    driver.delete(site, print)
    assert (folder.path / "lima.yaml").read_text() == "cpus: 1\n"


def test_rollback_leaves_an_instance_that_came_in_between(driver, site, folder, monkeypatch):
    """Another program may create the name between our check and limactl's: without our mark, it is not deleted."""
    monkeypatch.setattr(Folder, "exists", False)
    folder.path.mkdir()
    (folder.path / "lima.yaml").write_text("cpus: 1\n")
    with pytest.raises(DriverError, match="already exists"):
        driver.create(site, print)
    monkeypatch.undo()
    driver.delete(site, print)
    assert folder.exists


def test_create_decides_sizes_and_login_for_limactl(tmp_path, home, folder, monkeypatch):
    """The text has the spec's values and absolute paths, so limactl decides nothing again and finds the files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.yaml").write_text(
        "images: [{location: ./disk.qcow2}]\nprovision: [{mode: user, script: 'true'}]\n"
    )
    vms = Interlock(home, driver="lima")
    vms.create("web", "./web.yaml", Wishes(cpus=3, memory_bytes=1 << 29, user="ana"))
    text, spec = (folder.path / "lima.yaml").read_text(), vms.status("web").spec
    said = yaml.safe_load(text)
    assert (3, "512MiB", spec.disk_bytes, "ana") == (
        said["cpus"],
        said["memory"],
        size_bytes(said["disk"]),
        said["user"]["name"],
    )
    assert [{"location": str(tmp_path / "disk.qcow2")}] == said["images"]
    assert said["provision"] == [{"mode": "user", "script": "true"}]
    vms.delete("web")
    assert not folder.exists


def test_create_refuses_an_image_that_interlock_builds(home, folder):
    """limactl cannot fetch such an image; the error comes before limactl is called."""
    with pytest.raises(InvalidTemplateError, match=r'driver "lima" cannot build the image build:tiny'):
        Interlock(home, driver="lima").create("web", "tiny")
    assert not folder.exists


# -- start -------------------------------------------------------------------------------------------------------------


def test_start_says_its_steps_in_our_words(driver, machine):
    """limactl's log lines become steps, each reported once."""
    steps = []
    driver.start(machine, steps.append, Deadline(START_S))
    assert steps[:3] == ["host agent started", "hypervisor started", "waiting for ssh"]


def test_start_of_a_deleted_instance_creates_nothing(driver, machine, folder):
    """`limactl start` would create it from a default template: it is not called, and would find no template."""
    subprocess.run(["limactl", "--log-format", "json", "delete", "--force", "web"], check=True, capture_output=True)
    with pytest.raises(DriverError, match=r'no instance for "web".*deleted outside Interlock'):
        driver.start(machine, print, Deadline(START_S))
    with pytest.raises(DriverError, match=r'template "default.yaml" not found'):
        program.call(folder, ["start", "--tty=false", "web"])
    assert not folder.exists


def test_start_that_fails_names_the_cause_from_the_hypervisor(driver, machine, folder):
    """limactl says only that its host agent exits; what QEMU said is in the agent's log."""
    (folder.path / "dying").touch()
    with pytest.raises(DriverError, match=r'limactl cannot start "web": qemu-system-x86_64: failed to init.*kvm'):
        driver.start(machine, print, Deadline(START_S))
    driver.kill(machine, print)
    assert driver.observe(machine).alive is False


def test_start_in_a_guest_where_something_failed_returns_it(driver, machine, folder):
    """limactl exits with 1 for a degraded guest, which is running all the same."""
    (folder.path / "degraded").touch()
    failed = driver.start(machine, print, Deadline(START_S))
    assert failed is not None
    assert "boot scripts must have finished" in failed.message
    assert driver.observe(machine).degraded is not None


def test_start_that_is_too_slow_ends_limactl_and_leaves_the_machine(driver, machine, folder):
    """At the deadline the engine decides about the machine; the limactl that waited is gone."""
    (folder.path / "slow").touch()
    with pytest.raises(DeadlineError, match="the guest did not answer within 3 s"):
        driver.start(machine, print, Deadline(3.0))
    driver.kill(machine, print)
    assert driver.observe(machine) == driver.observe(machine)._replace(alive=False, exit_reason="killed")


def test_start_joins_one_that_limactl_began(driver, machine, folder):
    """A machine that is already booting is waited for, although limactl calls it running at once."""
    (folder.path / "slow").touch()
    with pytest.raises(DeadlineError):
        driver.start(machine, print, Deadline(3.0))
    assert driver.observe(machine).condition == "the guest has not answered yet"
    (folder.path / "slow").unlink()
    assert driver.start(machine, print, Deadline(START_S)) is None
    assert driver.observe(machine).condition is None


# -- what was done beside Interlock, and what a crash left -------------------------------------------------------------


def test_stale_pid_file_of_another_process_is_not_the_machine(driver, machine, folder):
    """After a crash, a pid may be another process's: it is not the machine, start works, and it gets no signal."""
    driver.start(machine, print, Deadline(START_S))
    end(folder, "ha.pid", "qemu.pid")
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            for name in ("ha.pid", "qemu.pid"):
                (folder.path / name).write_text(f"{stranger.pid}\n")
            seen = driver.observe(machine)
            assert (seen.alive, seen.exit_reason) == (False, "its host agent was killed, or the host went down")
            steps = []
            driver.start(machine, steps.append, Deadline(START_S))
            assert "removing ha.pid, whose process is gone" in steps
            driver.kill(machine, print)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_broken_is_an_observation_with_a_way_out(driver, machine, folder):
    """Lima's Broken is shown with the cause and what to type; kill and stop end the rest, and start works again."""
    driver.start(machine, print, Deadline(START_S))
    end(folder, "ha.pid")
    words = "its host agent is not running"
    seen = driver.observe(machine)
    assert (True, f"broken: {words}; `interlock kill web` ends the rest") == (seen.alive, seen.condition)
    with pytest.raises(DriverError, match=words) as refused:
        driver.start(machine, print, Deadline(START_S))
    assert refused.value.hint == "interlock kill web"
    assert f"ended by force: {words}" == driver.stop(machine, print, Deadline(START_S))
    assert driver.start(machine, print, Deadline(START_S)) is None


def test_kill_works_without_limactl(driver, machine, monkeypatch):
    """A running machine can be ended even after Lima was uninstalled."""
    driver.start(machine, print, Deadline(START_S))
    monkeypatch.setenv(program.VARIABLE, "/nonexistent/limactl")
    driver.kill(machine, print)
    assert driver.observe(machine).alive is False


def test_kill_waits_for_a_hypervisor_whose_pid_file_is_gone(driver, machine, folder, monkeypatch):
    """`limactl stop --force` removes the pid files before the processes are gone: kill still waits for these."""
    driver.start(machine, print, Deadline(START_S))
    pids = [pid_of(folder, name) for name in ("ha.pid", "qemu.pid")]

    def only_the_files(*_, **__):
        for name in ("ha.pid", "qemu.pid"):
            (folder.path / name).unlink()

    monkeypatch.setattr(program, "call", only_the_files)
    driver.kill(machine, print)
    assert [process.started_ticks(pid) for pid in pids] == [None, None]


def test_stop_by_limactl_is_seen(driver, machine):
    """A machine that limactl has stopped is down, with the reason."""
    driver.start(machine, print, Deadline(START_S))
    subprocess.run(["limactl", "--log-format", "json", "stop", "web"], check=True, capture_output=True)
    seen = driver.observe(machine)
    assert (seen.alive, seen.exit_reason) == (False, "guest shut down")


def test_stop_of_a_guest_that_does_not_listen_ends_by_force(driver, machine, folder):
    """At its deadline, stop ends the machine by force and says so."""
    driver.start(machine, print, Deadline(START_S))
    (folder.path / "deaf").touch()
    how = driver.stop(machine, print, Deadline(1.0))
    assert how == "ended by force: the guest did not shut down in 1 s"
    assert driver.observe(machine).exit_reason == how


def test_delete_of_an_instance_that_limactl_protects_says_what_to_do(driver, machine, folder):
    """limactl's refusal arrives with its cause, and the instance stays."""
    (folder.path / "protected").touch()
    with pytest.raises(DriverError, match=r"protected to prohibit accidental removal .Hint: use `limactl unprotect`"):
        driver.delete(machine, print)
    assert folder.exists


def test_session_reaches_the_guest_by_limactls_own_configuration(driver, machine, folder):
    """ssh gets limactl's file with the site's name; a new run brings a new one."""
    with pytest.raises(DriverError, match="has not said yet how to log in"):
        driver.ssh_config(machine)
    driver.start(machine, print, Deadline(START_S))
    line = driver.shell(machine, ["true"], terminal=False)
    asked = subprocess.run(["ssh", "-G", *line[1:4]], check=True, capture_output=True, text=True).stdout
    assert {"hostname 127.0.0.1", "port 60022"} <= set(asked.splitlines())
    assert f"identityfile {folder.home}/_config/user" in asked


# -- what it cannot ----------------------------------------------------------------------------------------------------


def test_what_lima_has_not_is_refused_by_name(driver, machine, tmp_path):
    """Nothing is begun, and the driver is named."""
    for asked in (
        lambda: driver.suspend(machine, print, Deadline(1)),
        lambda: driver.catch(machine, print, Deadline(1)),
        lambda: driver.keep(machine, tmp_path, print, Deadline(1)),
        lambda: driver.copy(machine, machine, print, full=True),
        lambda: driver.provision(machine, print, Deadline(1)),
    ):
        with pytest.raises(HostError, match='driver "lima" '):
            asked()


def test_limactl_that_is_not_there_is_said(driver, site, monkeypatch):
    """The error names the program and the variable; doctor reports the same."""
    monkeypatch.setenv(program.VARIABLE, "/nonexistent/limactl")
    with pytest.raises(HostError, match="INTERLOCK_LIMACTL=/nonexistent/limactl is not a limactl"):
        driver.check(site.spec)
    assert [check.ok for check in driver.checks(site.runtime)] == [False]


def test_interlocks_own_limactl_is_passed_over(limactl, tmp_path, monkeypatch):
    """The stand-in that `install-limactl` writes would call this driver again."""
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "limactl").write_text("#!/bin/sh\n# limactl, by Interlock: written by `interlock install-limactl`.\n")
    (ours / "limactl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{ours}:{os.environ['PATH']}")
    assert str(limactl / "limactl") == program.find()


def test_words_of_limactl_are_bounded_and_need_no_json():
    """Whatever limactl prints, only a little of it is kept."""
    heard = program.Heard(print)
    heard.hear(b"no json\n" + b"x" * 100_000 + b"\n" * 50 + b'{"level":"fatal","msg":"last","error":"cause"}')
    heard.end()
    assert heard.fatal == "last: cause"
    assert all(len(words) <= 500 for words in heard.complaints)


def test_damaged_files_of_an_instance_are_no_machine(driver, machine, folder):
    """Damaged pid files, events and logs are ignored; a damaged lima.json is an error that names the file."""
    for name in ("ha.pid", "qemu.pid", "ha.stdout.log", "ha.stderr.log"):
        (folder.path / name).write_bytes(b"\xff{]\n[1]\n")
    assert driver.observe(machine).alive is False
    for content in ("[]", '{"home": 1}', "{"):
        (machine.directory / "lima.json").write_text(content)
        with pytest.raises(InterlockError, match=r"lima\.json"):
            driver.observe(machine)
