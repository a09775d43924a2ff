"""The QEMU driver on real guests: each way up, each way down, and the recorded reason."""

import json
import math
import os
import platform
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from interlock.drivers.conformance import DriverConformance
from interlock.drivers.contract import Deadline
from interlock.drivers.qemu import boot, host_ports, hypervisor, ssh_port
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import DamagedError, DeadlineError, DriverError, HostError
from interlock.fsm.table import Trigger
from interlock.images.store import Store

pytestmark = pytest.mark.vm

ARCH = platform.machine()
MIB = 1 << 20
START_S = 600.0


@pytest.fixture
def machine(driver, make_site, steps):
    """Return a created machine of the tiny image; afterwards nothing of it is left alive."""
    with created(driver, make_site(), steps) as site:
        yield site


@pytest.fixture
def running(driver, machine, steps):
    driver.start(machine, steps.append, Deadline(START_S))
    return machine


@contextmanager
def created(driver, site, steps):
    driver.create(site, steps.append)
    try:
        yield site
    finally:
        driver.kill(site, steps.append)


def in_guest(driver, site, *command) -> str:
    done = subprocess.run(
        driver.shell(site, command, terminal=False), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def deafen(driver, site) -> None:
    """End the program that listens to the tiny guest's power button, permanently."""
    in_guest(driver, site, "sudo", "sh", "-c", "sed -i /acpid/d /etc/inittab; kill -HUP 1; killall acpid")


def wait_until(condition, seconds=300.0):
    """Wait until `condition()` is true; fail after `seconds`."""
    deadline = Deadline(seconds)
    while not condition():
        assert not deadline.passed, "the deadline passed"
        time.sleep(0.02)


class OnceSaid(Deadline):
    """A deadline that passes when the guest has written one of `words` to its serial port."""

    def __init__(self, site, *words):
        super().__init__(START_S)
        self._log, self._words = site.directory / "serial.log", words

    @property
    def remaining_s(self) -> float:
        said = self._log.read_bytes() if self._log.exists() else b""
        if any(word in said for word in self._words):
            self._at = -math.inf
        return super().remaining_s


def gone(driver, site):
    """Wait until the machine is down, and return why."""
    wait_until(lambda: not driver.observe(site).alive)
    return driver.observe(site).exit_reason


@pytest.fixture
def starve():
    """Return a function that binds all threads of a process, except its first, to a busy processor."""
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        os.sched_setaffinity(busy.pid, {cpu})

        def starved(pid: int) -> None:
            os.sched_setscheduler(busy.pid, os.SCHED_FIFO, os.sched_param(1))
            for thread in Path(f"/proc/{pid}/task").iterdir():
                if int(thread.name) != pid:
                    os.sched_setaffinity(int(thread.name), {cpu})

        yield starved
        busy.kill()


@pytest.mark.warm
class TestQemuDriverConforms(DriverConformance):
    """The contract's own suite, on the tiny guest."""

    START_S = START_S

    @pytest.fixture
    def driver(self):
        return QemuDriver()

    @pytest.fixture
    def site(self, make_site):
        return make_site()


@pytest.mark.usefixtures("running")
def test_start_says_its_phases_in_order(steps):
    """A start reports its phases in order."""
    order = [
        "making the disk",
        "hypervisor started",
        "kernel booting",
        "waiting for ssh",
        "waiting for first boot to finish",
    ]
    said = [step for step in steps if not step.startswith("using TCG")]
    assert said == [step for step in order if step in said]
    assert {"hypervisor started", "waiting for ssh"} <= set(said)


@pytest.mark.warm
def test_start_keeps_port_and_disk_over_a_stop(driver, running, steps):
    """The guest's files and its ssh port survive a stop."""
    port = driver.observe(running).ssh_port
    in_guest(driver, running, "sh", "-c", "echo kept > note; sync")
    assert driver.stop(running, steps.append, Deadline(60)) == "guest shut down"
    driver.start(running, steps.append, Deadline(START_S))
    assert driver.observe(running).ssh_port == port
    assert in_guest(driver, running, "cat", "note") == "kept\n"


@pytest.mark.warm
def test_reset_forgets_what_the_guest_wrote(driver, running, steps):
    """After a reset the guest's files are gone."""
    in_guest(driver, running, "sh", "-c", "echo kept > note; sync")
    driver.kill(running, steps.append)
    driver.reset(running, steps.append)
    driver.start(running, steps.append, Deadline(START_S))
    assert in_guest(driver, running, "ls") == ""


def test_reset_that_fails_keeps_the_disk(driver, machine, steps, tmp_path, monkeypatch):
    """The old disk is thrown away only when a new one can replace it."""
    disk = (machine.directory / "disk.qcow2").read_bytes()
    qemu_img = tmp_path / "qemu-img"
    qemu_img.write_text('#!/bin/sh\necho "no room" > "$5"\nexit 1\n')
    qemu_img.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(DriverError, match="qemu-img create"):
        driver.reset(machine, steps.append)
    assert disk == (machine.directory / "disk.qcow2").read_bytes()


@pytest.mark.warm
def test_shell_brings_arguments_over_unchanged(driver, running):
    """No argument is split, expanded or joined on its way into the guest."""
    arguments = ["two words", "it's", '"', "$HOME", "*", "", "a;b", "ünï"]
    assert in_guest(driver, running, "printf", "%s\\n", *arguments).splitlines() == arguments


@pytest.mark.warm
def test_guest_that_powers_off_is_seen(driver, running):
    """The reason for a shutdown from inside is known although no process of ours was running."""
    in_guest(driver, running, "sudo", "sh", "-c", "(sleep 3; poweroff) >/dev/null 2>&1 &")
    assert gone(driver, running) == "guest shut down"


@pytest.mark.warm
def test_guest_that_panics_is_seen(driver, running):
    """A panic is recorded as a panic, not as a shutdown."""
    in_guest(driver, running, "sudo", "sh", "-c", "(sleep 3; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    assert gone(driver, running) == "guest panicked"


@pytest.mark.warm
def test_guest_that_reboots_stays_up(driver, running, steps):
    """A reboot keeps the hypervisor, and the guest answers again."""
    pid = driver.observe(running).pid
    boot = in_guest(driver, running, "cat", "/proc/sys/kernel/random/boot_id")
    in_guest(driver, running, "sudo", "sh", "-c", "(sleep 3; reboot -f) >/dev/null 2>&1 &")
    wait_until(lambda: b'"RESET"' in (running.directory / "events.log").read_bytes())
    driver.start(running, steps.append, Deadline(START_S))
    assert driver.observe(running).pid == pid
    assert in_guest(driver, running, "cat", "/proc/sys/kernel/random/boot_id") != boot


@pytest.mark.warm
def test_hypervisor_that_is_killed_is_seen(driver, running):
    """A hypervisor that was killed is not taken for a guest that shut down."""
    os.kill(driver.observe(running).pid, signal.SIGKILL)
    assert gone(driver, running) == "hypervisor was killed or crashed"


@pytest.mark.warm
def test_hypervisor_that_is_terminated_is_seen(driver, running):
    """A hypervisor that got SIGTERM is not taken for a guest that shut down."""
    os.kill(driver.observe(running).pid, signal.SIGTERM)
    assert gone(driver, running) == "hypervisor was terminated by a signal"


@pytest.mark.warm
def test_hypervisor_that_hangs_is_killed(driver, running, steps):
    """A hypervisor that does not answer is shown as paused, and kill ends it."""
    os.kill(driver.observe(running).pid, signal.SIGSTOP)
    wait_until(lambda: driver.observe(running).condition is not None)
    assert driver.observe(running).condition == "paused: the hypervisor was stopped by a signal"
    driver.kill(running, steps.append)
    assert driver.observe(running).alive is False


@pytest.mark.warm
def test_stop_of_hypervisor_that_hangs_ends_by_force(driver, running, steps):
    """A monitor that does not answer cannot keep a machine alive beyond the deadline; the reason says so."""
    os.kill(driver.observe(running).pid, signal.SIGSTOP)
    how = driver.stop(running, steps.append, Deadline(1))
    assert re.fullmatch(r"ended by force: the monitor did not answer a connection in [\d.]+ s", how)
    assert driver.observe(running).alive is False


@pytest.mark.warm
def test_stop_of_guest_that_ignores_it_ends_by_force(driver, running, steps):
    """A guest that neither hears the power button nor can power off is ended at the deadline, and stop says so."""
    deafen(driver, running)
    in_guest(driver, running, "sudo", "rm", "/bin/poweroff")
    assert driver.stop(running, steps.append, Deadline(3)) == "ended by force: the guest did not shut down in 3 s"
    assert driver.observe(running).alive is False


@pytest.mark.warm
def test_stop_of_guest_without_a_power_button_asks_over_ssh(driver, running, steps):
    """A guest that hears no power button is asked again, over ssh, and shuts down by itself."""
    deafen(driver, running)
    assert driver.stop(running, steps.append, Deadline(60)) == "guest shut down"


@pytest.mark.warm
def test_port_that_is_taken_is_replaced_and_said(driver, machine, steps):
    """A taken port is replaced by another one; the message names both."""
    old = ssh_port.choose(machine, steps.append)
    with socket.create_server(("127.0.0.1", old)):
        driver.start(machine, steps.append, Deadline(START_S))
        new = driver.observe(machine).ssh_port
    assert new != old
    assert f"another program took port {old}: ssh moves to port {new}" in steps
    assert in_guest(driver, machine, "id", "-un") == "ada\n"


def test_port_lost_in_the_race_is_replaced(driver, machine, steps, monkeypatch):
    """A port that is taken after it was found free makes QEMU fail, and the start tries another port."""
    taken = ssh_port.choose(machine, steps.append)
    free = host_ports.free
    answers = iter([True])
    monkeypatch.setattr(host_ports, "free", lambda port: next(answers, None) or free(port))
    with socket.create_server(("127.0.0.1", taken)):
        driver.start(machine, steps.append, Deadline(START_S))
        assert driver.observe(machine).ssh_port != taken


def test_guest_with_another_key_is_refused(driver, machine, steps):
    """A server on the port that lacks the pinned host key is refused before the user's key is offered."""
    stranger = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1YjGa70HavYs9dyIXQh24/SJuJnHUFJcQJc5w4RlpO"
    (machine.directory / "known_hosts").write_text(f"guest {stranger}\n")
    with pytest.raises(DriverError, match="is not this guest: it shows another host key"):
        driver.start(machine, steps.append, Deadline(START_S))


def test_kernel_that_panics_at_boot_fails_the_start_at_once(driver, machine, steps):
    """A guest that cannot boot is not waited for, and its last output is shown."""
    (machine.directory / "initrd").write_bytes(b"\0" * 4096)
    with pytest.raises(DriverError, match="the guest's kernel panicked") as caught:
        driver.start(machine, steps.append, Deadline(START_S))
    assert any("Kernel panic" in line for line in caught.value.details)


def test_guest_that_never_answers_is_a_deadline_with_its_words(driver, make_site, steps):
    """At the deadline the error has the phase and the end of the serial log, without control characters."""
    site = make_site(
        kernel_arguments=f"console={'ttyS0' if ARCH == 'x86_64' else 'ttyAMA0'} rdinit=/bin/busybox -- sleep 1000"
    )
    with created(driver, site, steps), pytest.raises(DeadlineError, match="last step: kernel booting") as caught:
        driver.start(site, steps.append, OnceSaid(site, b"Run /bin/busybox"))
    assert 0 < len(caught.value.details) <= 15
    assert all(line.isprintable() or "\t" in line for line in caught.value.details)


def test_guest_that_hangs_silently_is_reported_as_such(driver, make_site, steps):
    """The error says that the guest wrote nothing on its serial port."""
    site = make_site(kernel_arguments="quiet rdinit=/bin/busybox -- sleep 1000")
    with created(driver, site, steps), pytest.raises(DeadlineError, match="last step: hypervisor started") as caught:
        driver.start(site, steps.append, Deadline(3))
    assert caught.value.details == ("the guest wrote nothing to its serial port",)


def test_hypervisor_that_hangs_is_told_from_a_silent_guest(driver, make_site, steps):
    """At the deadline the hypervisor is asked, too: the error says that it does not answer."""

    def look(step):
        if step == "hypervisor started":
            os.kill(hypervisor.find(site.directory).pid, signal.SIGSTOP)

    words = "last step: hypervisor started; its hypervisor hangs: the monitor did not answer"
    site = make_site(kernel_arguments="quiet rdinit=/bin/busybox -- sleep 1000")
    with created(driver, site, steps), pytest.raises(DeadlineError, match=words):
        driver.start(site, look, Deadline(3))


def test_hypervisor_that_refuses_its_arguments_is_quoted(driver, make_site, steps):
    """The error quotes QEMU's message."""
    with created(driver, make_site(cpu_model="nonsense"), steps) as site:
        with pytest.raises(DriverError, match="CPU model") as caught:
            driver.start(site, steps.append, Deadline(START_S))
        assert "did not come up" in caught.value.message
        assert driver.observe(site).alive is False


def test_hypervisor_that_dies_while_starting_ends_the_wait(driver, machine):
    """The end of the machine is noticed when it happens, not at the deadline."""

    def report(step):
        if step == "hypervisor started":
            os.kill(hypervisor.settled(machine.directory).pid, signal.SIGKILL)

    with pytest.raises(DriverError, match="did not come up: hypervisor was killed or crashed"):
        driver.start(machine, report, Deadline(math.inf))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes a whole processor")
def test_launch_after_sigkill_finds_the_disk_free(driver, make_site, steps, starve):
    """QEMU ends thread by thread and file by file: the machine counts as alive until its disk is free.

    Otherwise a launch would fail with QEMU's `Is another process using the image`.
    """
    with created(driver, make_site(), steps) as site:
        for _ in range(3):
            while hypervisor.settled(site.directory):
                pass  # no pause: the moment after its end is what counts
            launched = boot.launch(site, steps.append, Deadline(START_S))
            starve(launched.pid)
            os.kill(launched.pid, signal.SIGKILL)


@pytest.mark.warm
def test_launch_beside_a_live_hypervisor_runs_nothing(running):
    """A second launch finds the first hypervisor and starts nothing."""
    first = hypervisor.settled(running.directory)
    assert hypervisor.launch(["false"], running.directory) == first


def test_create_pins_the_board(driver, machine):
    """An upgrade of QEMU does not change an existing machine; a board that QEMU no longer has is an error."""
    record = machine.directory / "qemu.json"
    board = json.loads(record.read_bytes())
    assert re.fullmatch(r"(pc-q35|virt)-\d+\.\d+", board["machine"])
    record.write_text(json.dumps({**board, "machine": "pc-q35-0.1"}))
    with pytest.raises(HostError, match=r"the instance has the machine type pc-q35-0\.1"):
        driver.command(machine)
    record.write_text("{")
    with pytest.raises(DamagedError, match=r"qemu\.json"):
        driver.command(machine)


def test_create_refuses_a_disk_smaller_than_its_image(driver, make_site, steps):
    """A disk smaller than its image is refused, because it would cut off the file system."""
    site = make_site(disk_bytes=MIB)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", site.directory / "base.qcow2", "2M"], check=True)
    with pytest.raises(DriverError, match="smaller than its image"):
        driver.create(site, steps.append)


def test_create_names_no_absolute_path(driver, make_site, steps):
    """The directory is renamed after creation, so no file in it may contain its path."""
    site = make_site()
    before = set(site.directory.iterdir())
    driver.create(site, steps.append)
    for path in set(site.directory.iterdir()) - before:
        assert str(site.directory).encode() not in path.read_bytes()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_firmware_machine_without_a_system_says_so_on_its_serial_port(driver, make_site, steps, arch):
    """The firmware runs from the instance's own copies, and finds nothing to boot on a blank disk."""
    with created(driver, make_site(arch=arch, boot="firmware"), steps) as site:
        with pytest.raises(DeadlineError) as caught:
            driver.start(site, steps.append, OnceSaid(site, b"Boot", b"UEFI", b"Shell"))
        assert any("Boot" in line or "UEFI" in line or "Shell" in line for line in caught.value.details)
        assert driver.observe(site).alive


@pytest.mark.skipif(ARCH == "aarch64", reason="that is every other test there")
def test_guest_of_another_architecture_runs_and_shuts_down(driver, make_site, steps):
    """An aarch64 guest on an x86_64 host is emulated, a step says so, and otherwise it behaves the same."""
    with created(driver, make_site(arch="aarch64"), steps) as site:
        driver.start(site, steps.append, Deadline(2 * START_S))
        assert "using TCG emulation: KVM runs no aarch64 guest on x86_64" in steps
        assert in_guest(driver, site, "uname", "-m") == "aarch64\n"
        assert driver.stop(site, steps.append, Deadline(60)) == "guest shut down"


def test_images_store_is_not_written_to(driver, images_home, machine, steps):
    """A start only reads the image store."""
    store = Store(images_home / "images")
    blobs = {path: path.stat().st_mtime_ns for path in store.blobs.iterdir()}
    driver.start(machine, steps.append, Deadline(START_S))
    assert blobs == {path: path.stat().st_mtime_ns for path in store.blobs.iterdir()}


def test_dry_run_foresees_the_command_line_and_every_file(driver, make_site, steps):
    """Files that appear and vanish, and QEMU's command line, are foreseen for create, start, suspend, stop and reset.

    The command line foreseen before creation is the one that is then run; asking changes nothing.
    """
    site = make_site()
    materials = {path.name for path in site.directory.iterdir()}

    def names():
        made = {path.name for path in site.directory.iterdir() if path.suffix != ".new"}  # a log that is being cut
        return made | ({"runtime"} if site.runtime.is_dir() else set())

    def foreseen(trigger, work, **arguments):
        before = names()
        effects = driver.foresee(site, trigger, arguments)
        assert names() == before
        work()
        after = names()
        appear = {"runtime" if name == f"{site.runtime}/" else name for name in effects.appear}
        assert after - before == appear - before
        assert before - after == {*effects.vanish} - after
        return list(effects.command)

    first = foreseen(Trigger.create, lambda: driver.create(site, steps.append), materials=materials)
    start = Deadline(START_S)
    try:
        command = foreseen(Trigger.start, lambda: driver.start(site, steps.append, start))
        assert command == first == hypervisor.command(hypervisor.settled(site.directory))
        foreseen(Trigger.suspend, lambda: driver.suspend(site, steps.append, Deadline(START_S)))
        command = foreseen(Trigger.start, lambda: driver.start(site, steps.append, Deadline(START_S)))
        assert command == hypervisor.command(hypervisor.settled(site.directory))
        foreseen(Trigger.stop, lambda: driver.stop(site, steps.append, Deadline(START_S)))
        foreseen(Trigger.reset, lambda: driver.reset(site, steps.append))
    finally:
        driver.kill(site, steps.append)


def test_dry_run_of_a_start_is_refused_as_the_start_is(driver, machine, steps):
    """A port that another program has is found by both, with the same message and hint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        site = machine._replace(spec=machine.spec._replace(ssh_port=taken.getsockname()[1]))
        taken.listen()
        with pytest.raises(DriverError) as dry:
            driver.foresee(site, Trigger.start, {})
        with pytest.raises(DriverError) as real:
            driver.start(site, steps.append, Deadline(START_S))
    assert (dry.value.message, dry.value.hint) == (real.value.message, real.value.hint)
