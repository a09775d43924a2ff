"""Faults under real guests: the host, the hypervisor, its socket, the guest, the disk, the person at the keyboard.

Whatever breaks, `list` shows the state and the reason, the history keeps it, and there is a legal way on.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.creation.plan import Wishes, plan
from interlock.drivers import find
from interlock.drivers.qemu import hypervisor
from interlock.drivers.qemu.driver import HYPERVISOR_STARTED, KERNEL_BOOTING
from interlock.errors import DeadlineError, DriverError
from interlock.fsm import words
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.guest.readiness import WAITING_FOR_SSH
from interlock.host.process import boot_id

pytestmark = pytest.mark.vm

MIB = 1 << 20
DEADLINE_S = 300.0
DEAF = "console=ttyS0 console=ttyAMA0 rdinit=/bin/busybox -- sleep 1000"
"""Kernel arguments of a guest that boots and then does nothing: it answers neither ssh nor the power button."""


def wait_until(condition):
    """Wait until `condition()` is true, and return its result."""
    give_up = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.02)
    return found


@pytest.fixture
def create(vms):
    """Return a function that creates the instance `web`, with changes to its spec.

    Its ports are not followed, so no keeper records what happens to it before the test does.
    """

    def create(**changes):
        def tiny(report):
            draft = plan(vms.home, "web", "tiny", find("qemu"), Wishes(user="root"))(report)
            assert draft.spec.port_rules
            return draft._replace(spec=draft.spec._replace(port_rules=(), **changes))

        vms.engine.create("web", tiny)
        return vms.engine.site("web")

    return create


@pytest.fixture
def begun(create, vms, hasty):
    """Return a function that starts `web` without waiting for its guest, for tests about hypervisors."""

    def begun(**changes):
        site = create(**changes)
        vms.start("web")
        hasty.undo()
        return site

    return begun


@pytest.fixture
def line(vms):
    """Return a function that returns the status of `web` as `list` shows it."""
    return lambda: words.status(next(vms.instances()))


@pytest.fixture
def guest(vms):
    """Return a function that runs a command in the guest and returns its output, or nothing if there is no answer."""

    def guest(*command):
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(vms.shell("web", command), capture_output=True, text=True, check=False, timeout=10)
            return done.stdout.strip()
        return ""

    return guest


@pytest.fixture
def program():
    """Return a function that begins the real program; the test ends by killing what still runs."""
    begun = []

    def begin(*arguments):
        unread = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        begun.append(subprocess.Popen([sys.executable, "-m", "interlock", *arguments], text=True, **unread))
        return begun[-1]

    yield begin
    for running in begun:
        running.kill()
        running.communicate()


@pytest.fixture
def stranger():
    """Yield a process that is not ours, and check that it was not ended."""
    with subprocess.Popen(["sleep", "1000"]) as sleep:
        yield sleep
        assert sleep.poll() is None, "a stranger was signalled"
        sleep.kill()


def end_hypervisor(site):
    """End the hypervisor behind Interlock's back, and return once everything that it held is free."""
    with hypervisor.held(hypervisor.find(site.directory)) as pidfd:
        hypervisor.end(pidfd, grace_s=0)
    wait_until(lambda: not hypervisor.look(site.directory).alive)  # a child that was just forked may have the lock, too


def reason_in_history(vms):
    return list(vms.history("web"))[-1].detail


# -- the host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swept", [True, False], ids=["runtime-gone", "stale-socket"])
def test_host_that_lost_power_is_reported_and_start_works_at_once(vms, begun, line, guest, stranger, swept, injected):
    """Although the pid is a stranger's, the socket stale or gone and the port taken, `list` tells the truth, `start`
    starts, and the stranger is never signalled.
    """
    site = begun()
    port = vms.status("web").observation.ssh_port
    end_hypervisor(site)
    stat = Path(f"/proc/{stranger.pid}/stat").read_text()
    (site.directory / hypervisor.RECORD).write_text(f"{stat}{boot_id()[::-1]}\n")
    if swept:
        shutil.rmtree(vms.home.runtime)
    else:
        assert (site.runtime / "qmp.sock").is_socket()

    with socket.create_server(("127.0.0.1", port)):
        assert line() == "stopped · host went down"
        assert reason_in_history(vms) == "host went down"
        assert vms.start("web").state is State.running
        assert vms.status("web").observation.ssh_port != port
    assert guest("hostname") == "web"
    injected("host lost power")


def test_pid_that_became_a_strangers_is_left_alone(vms, begun, line, stranger, injected):
    """Even within one boot: the process that now has the pid began at another time, so `kill` and `delete` spare it."""
    site = begun()
    pid = hypervisor.find(site.directory).pid
    end_hypervisor(site)
    record = site.directory / hypervisor.RECORD
    record.write_text(record.read_text().replace(f"{pid} ", f"{stranger.pid} ", 1))

    assert line() == "stopped · hypervisor was killed or crashed"
    vms.kill("web")
    vms.delete("web", force=True)
    injected("pid became a stranger's")


# -- the hypervisor --------------------------------------------------------------------------------------------------


def test_hypervisor_that_dies_under_a_start_fails_it(vms, create, line, injected):
    """The start ends at once, the state is the one before it, and the next start works."""
    site = create()

    def announce(event):
        if event.step == HYPERVISOR_STARTED:
            os.kill(hypervisor.find(site.directory).pid, signal.SIGKILL)

    with pytest.raises(DriverError, match="hypervisor was killed or crashed"):
        Interlock(on_event=announce).start("web")
    assert line().startswith("created · start failed: the machine did not come up: hypervisor was killed or crashed")
    assert vms.start("web").changed
    injected("hypervisor dies under a start")


def test_hypervisor_that_dies_under_a_stop_is_stopped_and_said(begun, line, injected):
    """The instance is stopped as requested, and the status says how it came to that."""
    site = begun()

    def announce(event):
        if event.trigger is Trigger.stop and event.step:
            os.kill(hypervisor.find(site.directory).pid, signal.SIGKILL)

    assert Interlock(on_event=announce).stop("web").detail == "hypervisor was killed or crashed"
    assert line() == "stopped · hypervisor was killed or crashed"
    injected("hypervisor dies under a stop")


def test_hypervisor_that_hangs_is_shown_and_stopped_by_force(vms, begun, line, injected):
    """A hypervisor that does not answer is shown as paused, and killed when the time for a shutdown is over."""
    site = begun()
    os.kill(hypervisor.find(site.directory).pid, signal.SIGSTOP)
    wait_until(lambda: line() == "running · paused: the hypervisor was stopped by a signal")

    assert vms.stop("web", timeout_s=1).detail.startswith("ended by force: the monitor did not answer a connection in")
    assert line() == f"stopped · {reason_in_history(vms)}"
    injected("hypervisor hangs")


def test_hypervisor_that_was_stopped_by_a_signal_can_be_resumed(vms, begun, line, injected):
    """`resume` continues the same machine without a boot."""
    site = begun()
    before = hypervisor.find(site.directory)
    os.kill(before.pid, signal.SIGSTOP)
    wait_until(lambda: line() == "running · paused: the hypervisor was stopped by a signal")

    assert vms.resume("web").changed
    assert line() == "running"
    assert before == hypervisor.find(site.directory)
    injected("hypervisor hangs")


def test_socket_that_is_deleted_costs_no_stop(vms, begun, line, injected):
    """Without its monitor a hypervisor is ended by force, and the reason is given."""
    site = begun()
    (site.runtime / "qmp.sock").unlink()
    assert line() == "running"
    assert vms.stop("web", timeout_s=0.5).detail.startswith("ended by force: the monitor refused a connection: ")
    assert hypervisor.find(site.directory) is None
    assert line() == f"stopped · {reason_in_history(vms)}"
    injected("monitor's socket deleted")


# -- the guest -------------------------------------------------------------------------------------------------------


def test_guest_that_ignores_the_power_button_is_ended_and_said(vms, begun, line, injected):
    """At the deadline it is ended by force, and the reason says so."""
    begun(kernel_arguments=DEAF)
    assert vms.stop("web", timeout_s=1.5).detail == "ended by force: the guest did not shut down in 1.5 s"
    assert line() == "stopped · ended by force: the guest did not shut down in 1.5 s"
    injected("guest ignores the power button")


def test_guest_that_never_answers_can_be_kept_and_looked_at(vms, create, line, injected):
    """The error has the last step and the guest's last output; a kept guest is shown as alive until `stop`."""
    site = create(kernel_arguments=DEAF)
    serial = site.directory / "serial.log"

    with pytest.raises(DeadlineError, match="last step: kernel booting") as caught:
        vms.start("web", timeout_s=15, keep_on_failure=True)
    assert caught.value.details[-1] == "the guest was left alive"
    assert set(caught.value.details[:-1]) & set(serial.read_text().splitlines())
    assert line() == f"created · start cut short at: {KERNEL_BOOTING} · guest alive"

    vms.stop("web")
    assert hypervisor.find(site.directory) is None
    assert line().startswith("created · start failed: the guest did not answer within 5 s")
    injected("guest never answers")


def test_guest_that_reboots_itself_stays_running(vms, create, line, guest, injected):
    """The state and the hypervisor stay, and ssh answers again."""
    site = create()
    vms.start("web")
    before, first = hypervisor.find(site.directory), guest("cat", "/proc/sys/kernel/random/boot_id")
    guest("sh", "-c", "(sleep 3; reboot -f) >/dev/null 2>&1 &")

    second = wait_until(lambda: (said := guest("cat", "/proc/sys/kernel/random/boot_id")) != first and said)
    assert second
    assert before == hypervisor.find(site.directory)
    assert line() == "running"
    injected("guest reboots itself")


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, and only root mounts")
def test_guest_on_a_full_disk_is_paused_and_goes_on_when_there_is_room(vms, create, line, guest, injected):
    """No write of the guest fails: it is paused, `list` says why, `resume` continues it, and its data is whole."""
    small = vms.home.instances
    small.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m,mode=0700", "small", small], check=True)
    ballast = small / ".ballast"
    try:
        site = create()
        vms.start("web")
        ballast.write_bytes(bytes(shutil.disk_usage(small).free - 4 * MIB))
        write = "dd if=/dev/urandom of=data bs=1M count=8 && sync && sha256sum data >sum && sync"
        guest("sh", "-c", f"({write}) >/dev/null 2>&1 &")
        wait_until(lambda: line() == "running · paused: the host's disk is full")
        assert State.running is vms.start("web").state  # this start resumes nothing
        assert line() == "running · paused: the host's disk is full"

        ballast.unlink()  # the journal needs room for the intent of `resume` too
        vms.resume("web")
        assert wait_until(lambda: guest("sha256sum", "-c", "sum")) == "data: OK"
        assert line() == "running"
        assert hypervisor.find(site.directory)
    finally:
        ballast.unlink(missing_ok=True)
        vms.delete("web", force=True)
        subprocess.run(["umount", small], check=True)
    injected("host's disk full under a guest")


# -- the person ------------------------------------------------------------------------------------------------------


def wait_for_step(vms, step):
    """Wait until the start of `web` has reached `step` or a later one."""
    steps = (HYPERVISOR_STARTED, KERNEL_BOOTING, WAITING_FOR_SSH)
    late = steps[steps.index(step) :]
    wait_until(lambda: (operation := vms.status("web").operation) and operation.step in late)


def test_start_that_gets_a_signal_leaves_nothing_alive(vms, create, program, processes, until, injected):
    """Ctrl-C, `kill` and a closed terminal, in each phase of a real start: the state is the one before the start."""
    create()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for step, number in itertools.product((HYPERVISOR_STARTED, KERNEL_BOOTING, WAITING_FOR_SSH), signals):
        starting = program("start", "web")
        wait_for_step(vms, step)
        starting.send_signal(number)

        assert starting.wait(DEADLINE_S) == 130
        status = vms.status("web")
        assert (status.state, status.operation) == (State.created, None)
        assert status.reason == f"start failed: interrupted by {number.name}"
        until(lambda: processes() == [])
        injected(f"{number.name} in a phase of start")


def test_second_start_joins_the_first(vms, create, program, processes, until, injected):
    """Two starts are one boot: both succeed, and the second says which process it waited for."""
    create()
    first = program("start", "web")
    wait_for_step(vms, HYPERVISOR_STARTED)
    second = program("start", "web")

    assert (first.wait(DEADLINE_S), second.wait(DEADLINE_S)) == (0, 0)
    assert f'pid {first.pid} is already starting "web"; waiting for it' in second.stderr.read()
    until(lambda: len(processes()) == 1)
    assert [line.phase for line in vms.history("web") if line.trigger is Trigger.start].count("begun") == 1
    injected("second start joins")


def test_stop_calls_a_booting_start_off(vms, create, program, processes, until, injected):
    """The start ends as cancelled and names the process that stopped it."""
    create()
    starting = program("start", "web")
    wait_for_step(vms, HYPERVISOR_STARTED)
    stopping = program("stop", "web")

    assert (stopping.wait(DEADLINE_S), starting.wait(DEADLINE_S)) == (0, 130)
    assert f"was cancelled by stop (pid {stopping.pid})" in starting.stderr.read()
    assert vms.status("web").state is State.created
    until(lambda: processes() == [])
    injected("stop calls a start off")
