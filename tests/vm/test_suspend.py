"""Suspend and start on real guests: processes continue, disks stay whole, and no wrong memory is used."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from types import SimpleNamespace

import pytest

from interlock.creation.plan import Wishes
from interlock.drivers.contract import SAVED
from interlock.drivers.qemu import adopted, agent, monitor, saved
from interlock.drivers.qemu.boot import RESUMING
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import CancelledError, DeadlineError, DriverError
from interlock.fsm.states import State

pytestmark = pytest.mark.vm

WRONG_TIME = "date -s @1000000000"
"""Sets a time so wrong that it shows whether the clock is set afterwards."""

SERVER = "mkdir -p www; echo served >www/index.html; httpd -p 8080 -h www"


@pytest.fixture
def start(vms):
    """Return a function that starts an instance and returns the reported steps."""

    def start(name="web", **options):
        steps = []
        vms.start(name, on_event=lambda event: steps.append(event.step or ""), **options)
        return steps

    return start


@pytest.fixture
def running(vms, start, tmp_path, free_port):
    """Start a tiny guest `web` with one forwarded port; return the host's port."""
    port = free_port()
    template = tmp_path / "web.yaml"
    template.write_text(f"base: template:tiny\nportForwards: [{{guestPort: 8080, hostPort: {port}}}]\n")
    vms.create("web", str(template), Wishes(user="root"))
    start()
    return port


def is_right(seconds):
    """Return whether a clock that shows `seconds` has been set since WRONG_TIME."""
    return abs(int(seconds) - time.time()) < 3600


def test_guest_continues_where_it_was(vms, start, ask, running, write, wait_for_number, check_numbers):
    """The guest is suspended while a process writes to its disk: nothing is lost or written twice. The clock is right,
    and the forwarded port leads to the same server.
    """
    ask("web", SERVER)
    write("web")
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    for _ in range(3):
        ask("web", WRONG_TIME)
        wait_for_number("web")
        assert vms.suspend("web").state is State.stopped
        assert vms.status("web").saved
        steps = start()
        assert RESUMING in steps
        assert not vms.status("web").saved
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") == boot
    assert is_right(ask("web", "date +%s"))
    with urllib.request.urlopen(f"http://127.0.0.1:{running}/", timeout=300) as answer:
        assert answer.read() == b"served\n"
    check_numbers("web")
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") != boot


@pytest.mark.warm
def test_clock_of_a_guest_without_an_agent_is_set_over_ssh(vms, home, start, ask):
    """Machines of older versions, and other people's images, have no agent."""
    vms.create("web", "tiny", Wishes(user="root"))
    record = home.directory("web") / "qemu.json"
    board = json.loads(record.read_text())
    record.write_text(json.dumps({name: value for name, value in board.items() if name != "agent_port"}))
    start()
    ask("web", WRONG_TIME)
    vms.suspend("web")
    assert RESUMING in start()
    assert is_right(ask("web", "date +%s"))


@pytest.mark.warm
@pytest.mark.usefixtures("running")
def test_renamed_guest_continues(vms, start, ask):
    """The memory moves with the guest: it still fits the disk and the machine."""
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    vms.suspend("web")
    vms.rename("web", "site")
    assert RESUMING in start("site")
    assert ask("site", "cat /proc/sys/kernel/random/boot_id") == boot


def lose_the_end(directory):
    os.truncate(directory / SAVED / saved.MEMORY, 1 << 20)


def write_to_the_disk(directory):
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 1M 64k", directory / "disk.qcow2"], check=True, timeout=300)


def garble_the_devices(directory):
    (directory / SAVED / saved.DEVICES).write_bytes(b"garbage")


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (lose_the_end, "it is damaged"),
        (garble_the_devices, "it is damaged"),
        (write_to_the_disk, "disk.qcow2 was changed since"),
    ],
)
@pytest.mark.usefixtures("running")
def test_memory_that_does_not_fit_is_set_aside_and_the_guest_boots(vms, home, start, ask, deed, why):
    """The reason is given, and the saved memory is kept aside."""
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    vms.suspend("web")
    deed(home.directory("web"))
    steps = start()
    assert [step for step in steps if step.endswith(f"the saved memory was set aside: {why}")]
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") != boot
    assert (home.directory("web") / saved.OLD).exists()
    assert vms.suspend("web").state is State.stopped
    assert RESUMING in start()


def test_mounted_folder_is_refused_before_the_guest_stands_still(vms, tmp_path, start):
    """9p cannot be saved; the guest keeps running, and the hint says what to do."""
    folder, template = tmp_path / "folder", tmp_path / "web.yaml"
    folder.mkdir()
    template.write_text(f"base: template:tiny\nmounts: [{{location: {folder}, mountPoint: /srv}}]\n")
    vms.create("web", str(template))
    start()
    with pytest.raises(DriverError, match="so its memory cannot be saved") as refused:
        vms.suspend("web")
    assert refused.value.hint == "interlock stop web"
    status = vms.status("web")
    assert (status.state, status.saved, status.observation.condition) == (State.running, False, None)


def test_attached_disk_is_part_of_what_a_memory_fits(vms, home, tmp_path, start, ask):
    """The guest continues with its disk; once somebody else has written to the disk, the guest boots."""
    vms.disks.create("data", 64 << 20)
    template = tmp_path / "web.yaml"
    template.write_text("base: template:tiny\nadditionalDisks: [data]\n")
    vms.create("web", str(template), Wishes(user="root"))
    start()
    ask("web", "echo kept >/mnt/lima-data/kept; sync")
    vms.suspend("web")
    assert RESUMING in start()
    assert ask("web", "cat /mnt/lima-data/kept") == "kept\n"
    vms.suspend("web")
    (disk,) = home.directory("web").glob("disk-*")
    os.utime(disk)
    assert [step for step in start() if step.endswith("was changed since")]


def all_memory_slowly(monkeypatch):
    """Make QEMU write the guest's memory itself, too slowly to ever finish."""
    monkeypatch.setattr(saved, "_shares_memory", lambda _: False)
    monkeypatch.setattr(saved, "_UNLIMITED", 100_000)


@pytest.mark.usefixtures("running")
def test_migration_of_a_suspend_that_ran_out_of_time_ends_with_it(vms, ask, monkeypatch):
    """Otherwise QEMU would stop the guest again at the end of the migration."""
    with monkeypatch.context() as patch:
        all_memory_slowly(patch)
        with pytest.raises(DeadlineError):
            vms.suspend("web", timeout_s=3)
    assert monitor.execute(vms.engine.site("web").runtime, "query-migrate")["status"] == "cancelled"
    assert vms.status("web").observation.condition is None
    assert ask("web", "echo alive") == "alive\n"
    assert vms.suspend("web").state is State.stopped


@pytest.mark.usefixtures("running")
def test_migration_of_a_suspend_that_was_killed_ends_with_its_recovery(vms, ask, monkeypatch):
    """No other process would end it."""

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        all_memory_slowly(patch)
        for module, name in ((saved, "_migrated"), (saved, "call_off"), (QemuDriver, "resume")):
            patch.setattr(module, name, die)
        with pytest.raises(Killed):
            vms.suspend("web")
    assert ask("web", "echo alive") == "alive\n"
    assert monitor.execute(vms.engine.site("web").runtime, "query-migrate")["status"] == "cancelled"


def call_off(*_, **__):
    raise CancelledError("called off")


@pytest.mark.warm
@pytest.mark.usefixtures("running")
def test_start_that_is_called_off_keeps_what_the_guest_was_at(vms, start, ask, monkeypatch):
    """The memory was used up when the guest ran again, so it is saved again: the next start continues from there."""
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id; echo kept >/run/kept")
    vms.suspend("web")
    with monkeypatch.context() as patch:
        patch.setattr(adopted, "continued", call_off)
        with pytest.raises(CancelledError):
            start()
    assert vms.status("web").state is State.stopped
    assert RESUMING in start()
    assert ask("web", "cat /proc/sys/kernel/random/boot_id; cat /run/kept") == f"{boot}kept\n"


@pytest.mark.parametrize("late", ["migrate-incoming", "cont"])
@pytest.mark.usefixtures("running")
def test_hypervisor_that_answers_late_costs_no_memory(vms, home, start, ask, monkeypatch, late):
    """A late answer is not a refusal: the start fails, and the next one continues where the guest was."""
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    vms.suspend("web")
    send = monitor.Monitor._send

    def stop_first(self, command, *given):
        if command == late:
            os.kill(int((home.directory("web") / "hypervisor.id").read_text().split()[0]), signal.SIGSTOP)
        send(self, command, *given)

    with monkeypatch.context() as patch:
        patch.setattr(monitor.Monitor, "_send", stop_first)
        with pytest.raises(monitor.LateError, match=f"did not answer {late}"):
            start(timeout_s=5)
    assert vms.status("web").saved
    assert RESUMING in start()
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") == boot


@pytest.mark.warm
@pytest.mark.usefixtures("running")
def test_clock_is_that_of_the_machine_however_late_the_guest_is_asked(vms, start, ask, monkeypatch):
    """The host sends the time at which it began to wait, which may be old by then."""
    vms.suspend("web")
    long_ago = SimpleNamespace(time=lambda: time.time() - 86400)
    monkeypatch.setattr(agent, "time", long_ago)
    assert RESUMING in start()
    assert is_right(ask("web", "date +%s"))


@pytest.mark.warm
@pytest.mark.usefixtures("running")
def test_machine_that_was_edited_since_it_started_is_not_suspended(vms, ask):
    """Its memory would not fit the next start, and everything that ran would be lost."""
    vms.edit("web", "cpus=2")
    with pytest.raises(DriverError, match="number of processors 1; the next start has 2"):
        vms.suspend("web")
    assert ask("web", "echo alive") == "alive\n"
