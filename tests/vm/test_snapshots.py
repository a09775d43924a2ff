"""Snapshots of real disks: what a guest wrote comes back, and no snapshot needs another."""

import subprocess
import time
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.creation.plan import Wishes
from interlock.drivers.qemu import saved
from interlock.drivers.qemu.disk import DISK
from interlock.errors import DriverError
from interlock.fsm.states import State

pytestmark = pytest.mark.vm

HOUR_S = 3600


@pytest.fixture
def ask(vms):
    """Return a function that starts `web`, runs a script in its guest, stops it, and returns what was printed."""

    def ask(script):
        vms.start("web")
        said = vms.run("web", ["sh", "-c", script]).text
        vms.stop("web")
        return said

    return ask


@pytest.mark.warm
def test_disk_is_what_it_was(vms, ask):
    """The disk goes back and forth between two branches, even without their common snapshot and after a reset."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.snapshot("web", "fresh")
    assert ask("echo one >~/file; sync; cat ~/file") == "one"
    vms.snapshot("web", "one")
    for branch in ("two", "three"):
        vms.restore("web", "one")
        assert ask(f"cat ~/file; echo {branch} >~/file; sync") == "one"
        vms.snapshot("web", branch)
    vms.discard("web", "one")
    vms.reset("web")
    for branch in ("two", "three"):
        vms.restore("web", branch)
        assert ask("cat ~/file") == branch
    vms.restore("web", "fresh")
    assert ask("cat ~/file || echo gone") == "gone"


BEAT = """\
echo kept >file; sync; echo in memory >/dev/fresh
(while :; do sleep 1; done) >/dev/null 2>&1 &
echo $! >/dev/process"""
"""Leaves a file on the disk, a file in memory, and a process."""

LOOK = "cat file /dev/fresh; kill -0 $(cat /dev/process) && cat /proc/sys/kernel/random/boot_id"

WRONG_TIME = "date -s @1000000000"


def test_moment_of_a_running_guest_is_led_back_into(vms):
    """The moment is restored from running and from stopped, also onto a larger disk: files, memory, processes and the
    boot are the same, the clock is right, and taking the snapshot pauses the guest only for a moment.
    """

    def ask(script):
        return vms.run("web", ["sh", "-c", script]).text

    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    ask(f"{BEAT}; {WRONG_TIME}")
    before = ask(LOOK)
    vms.snapshot("web", "moment")
    assert ask(LOOK) == before
    (taken,) = vms.snapshots("web")
    assert 0 < (taken.memory_bytes or 0) < 256 << 20
    ask("rm file /dev/fresh; kill $(cat /dev/process); sync")
    assert vms.restore("web", "moment").state is State.running
    assert ask(LOOK) == before
    assert abs(int(ask("date +%s")) - time.time()) < HOUR_S

    ask("echo other >file; sync")
    vms.stop("web")
    vms.edit("web", "disk=2GiB")
    assert vms.restore("web", "moment").state is State.running
    assert ask(LOOK) == before
    ask("echo written >file; sync")
    vms.kill("web")
    vms.start("web")
    assert ask("cat file; cat /sys/block/vda/size") == f"written\n{(2 << 30) // 512}"


def test_memory_that_does_not_fit_is_refused_before_the_machine_is_ended(vms, home):
    """Memory of another machine, or damaged, is refused: the guest keeps running; the hint restores the disk alone."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    vms.snapshot("web", "moment")
    vms.edit("web", "cpus=2")
    with pytest.raises(DriverError, match=r"number of processors .*1.*; this one has .*2") as refused:
        vms.restore("web", "moment")
    assert refused.value.hint == "interlock snapshot restore web moment --cold"
    vms.edit("web", "cpus=1")
    with (home.directory("web") / "snapshots" / "moment" / saved.MEMORY).open("r+b") as memory:
        memory.seek(1 << 20)
        memory.write(b"garbage")
    with pytest.raises(DriverError, match="cannot be used: it is damaged"):
        vms.restore("web", "moment")
    assert vms.status("web").state is State.running
    assert vms.run("web", ["echo", "here"]).text == "here"
    vms.stop("web")
    assert vms.restore("web", "moment", cold=True).state is State.stopped
    assert not vms.status("web").saved


def test_guest_with_a_mounted_folder_is_refused_before_it_stands_still(vms, tmp_path):
    """9p cannot be saved; no snapshot is left, and the hint says what to do."""
    folder, template = tmp_path / "folder", tmp_path / "web.yaml"
    folder.mkdir()
    template.write_text(f"base: template:tiny\nmounts: [{{location: {folder}, mountPoint: /srv}}]\n")
    vms.create("web", str(template))
    vms.start("web")
    with pytest.raises(DriverError, match="so its memory cannot be saved") as refused:
        vms.snapshot("web", "one")
    assert refused.value.hint == "interlock stop web"
    assert (vms.status("web").state, vms.status("web").observation.condition) == (State.running, None)
    assert vms.snapshots("web") == []


@pytest.mark.warm
def test_disk_is_larger_than_its_snapshot_after_it_has_grown(vms, ask):
    """The guest's files come back, on a disk of the instance's present size."""
    vms.create("web", "tiny", Wishes(user="root", memory_bytes=256 << 20, disk_bytes=1 << 30))
    ask("echo one >file; sync")
    vms.snapshot("web", "small")
    vms.edit("web", "disk=2GiB")
    ask("echo two >file; sync")
    vms.restore("web", "small")
    assert ask("cat file; cat /sys/block/vda/size; echo three >more; sync") == f"one\n{(2 << 30) // 512}"
    vms.snapshot("web", "large")
    vms.restore("web", "small")
    vms.restore("web", "large")
    assert ask("cat file more") == "one\nthree"


@pytest.mark.warm
def test_damaged_disk_is_neither_kept_nor_put_back(vms, home):
    """The refusal changes nothing on the machine's disk, and adds no snapshot."""
    vms.create("web", "tiny")
    vms.snapshot("web", "one")
    kept = home.directory("web") / "snapshots" / "one" / DISK
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1024])
    with pytest.raises(DriverError, match="the disk is damaged"):
        vms.restore("web", "one")
    disk = home.directory("web") / DISK
    subprocess.run(["qemu-img", "check", "-q", disk], check=True, timeout=300)
    disk.write_bytes(whole[:1024])
    with pytest.raises(DriverError, match="the disk is damaged"):
        vms.snapshot("web", "two")
    assert [it.tag for it in vms.snapshots("web")] == ["one"]


def test_attached_disk_is_refused_before_anything_is_written(vms, home, tmp_path):
    """The attached disk outlives the instance, and would not be restored with it."""
    vms.disks.create("data", 64 << 20)
    template = tmp_path / "web.yaml"
    template.write_text("base: template:tiny\nadditionalDisks: [data]\n")
    vms.create("web", str(template))
    before = (home.directory("web") / DISK).stat().st_ino
    with pytest.raises(DriverError, match="the disk data is attached"):
        vms.snapshot("web", "one")
    assert (home.directory("web") / DISK).stat().st_ino == before


def test_machine_is_not_in_its_own_way(vms, free_port):
    """A running machine's ports are free once it has ended, so they block neither a dry run nor a restore."""
    forward = f"portForwards=[{{guestPort: 80, guestIP: 0.0.0.0, hostPort: {free_port()}}}]"
    wishes = Wishes(user="root", memory_bytes=256 << 20, edits=(forward, f"ssh.localPort={free_port()}"))
    vms.create("web", "tiny", wishes)
    vms.start("web")
    process = vms.status("web").observation.pid
    *_, start = Interlock(dry_run=True).restart("web").steps
    assert list(start.effects.command) == Path(f"/proc/{process}/cmdline").read_text().split("\0")[:-1]
    vms.snapshot("web", "moment")
    assert vms.restore("web", "moment").state is State.running
