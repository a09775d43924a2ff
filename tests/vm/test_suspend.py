"""Suspend and start on real guests: what ran continues, what was written is whole, and no wrong memory is used."""

import json
import os
import subprocess
import time
import urllib.request

import pytest

from interlock.creation.plan import Wishes
from interlock.drivers.contract import SAVED
from interlock.drivers.qemu import saved
from interlock.drivers.qemu.boot import RESUMING
from interlock.errors import DriverError
from interlock.fsm.states import State

pytestmark = pytest.mark.vm

WRITER = """\
i=0
while [ ! -e enough ]; do i=$((i + 1)); echo $i >>log; sync; echo $i >flushed; done"""
"""Writes numbers to the disk, each flushed before the next; `flushed` says which ones the disk has."""

WRONG_TIME = "date -s @1000000000"
"""Leaves no doubt whether the clock is set later."""

SERVER = "mkdir -p www; echo served >www/index.html; httpd -p 8080 -h www"


@pytest.fixture
def start(vms):
    """Return a function that starts an instance and returns the steps that were reported."""

    def start(name="web", **options):
        steps = []
        vms.start(name, on_event=lambda event: steps.append(event.step or ""), **options)
        return steps

    return start


@pytest.fixture
def running(vms, start, tmp_path, free_port):
    """Start a tiny guest `web`, one of whose ports is forwarded; return the host's port."""
    port = free_port()
    template = tmp_path / "web.yaml"
    template.write_text(f"base: template:tiny\nportForwards: [{{guestPort: 8080, hostPort: {port}}}]\n")
    vms.create("web", str(template), Wishes(user="root"))
    start()
    return port


def is_right(seconds):
    """Return whether a clock that shows `seconds` has been set since WRONG_TIME."""
    return abs(int(seconds) - time.time()) < 3600


def test_guest_continues_where_it_was(vms, start, ask, running, until):
    """A process is suspended while it writes to its disk: nothing is lost or written twice. The clock is right, and the
    forwarded port leads to the same server.
    """
    ask("web", SERVER)
    subprocess.run(vms.shell("web", ["sh", "-c", f"({WRITER}) >/dev/null 2>&1 &"]), check=True, timeout=300)
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")

    def reached():  # the file is empty for a moment while it is written
        return int(ask("web", "cat flushed || true") or 0)

    for _ in range(3):
        ask("web", WRONG_TIME)
        before = reached()
        until(lambda before=before: reached() > before)
        assert vms.suspend("web").state is State.stopped
        assert vms.status("web").saved
        steps = start()
        assert RESUMING in steps
        assert not vms.status("web").saved
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") == boot
    assert is_right(ask("web", "date +%s"))
    with urllib.request.urlopen(f"http://127.0.0.1:{running}/", timeout=60) as answer:
        assert answer.read() == b"served\n"
    flushed = int(ask("web", "touch enough; while pgrep -f 'echo $i' >/dev/null; do sleep 0.1; done; cat flushed"))
    vms.kill("web")
    start()
    numbers = [int(line) for line in ask("web", "cat log").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= flushed > 0
    assert ask("web", "cat /proc/sys/kernel/random/boot_id") != boot


def test_clock_of_a_guest_without_an_agent_is_set_over_ssh(vms, home, start, ask):
    """So it is in machines of older versions, and in images of other people's."""
    vms.create("web", "tiny", Wishes(user="root"))
    record = home.directory("web") / "qemu.json"
    board = json.loads(record.read_text())
    record.write_text(json.dumps({name: value for name, value in board.items() if name != "agent_port"}))
    start()
    ask("web", WRONG_TIME)
    vms.suspend("web")
    assert RESUMING in start()
    assert is_right(ask("web", "date +%s"))


@pytest.mark.usefixtures("running")
def test_renamed_guest_continues(vms, start, ask):
    """Its memory comes along: it fits the disk and the machine, which are the same."""
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    vms.suspend("web")
    vms.rename("web", "site")
    assert RESUMING in start("site")
    assert ask("site", "cat /proc/sys/kernel/random/boot_id") == boot


def lose_the_end(directory):
    os.truncate(directory / SAVED / saved.MEMORY, 1 << 20)


def write_to_the_disk(directory):
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 1M 64k", directory / "disk.qcow2"], check=True, timeout=120)


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
    """The reason is said, and what was saved is kept aside."""
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
    """9p cannot be saved; the guest runs on, and the hint is the way out."""
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
    """The guest continues with its disk; once somebody else wrote to that, it boots."""
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
