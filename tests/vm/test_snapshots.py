"""Snapshots of real disks: what a guest wrote comes back, and no snapshot needs another."""

import subprocess

import pytest

from interlock.creation.plan import Wishes
from interlock.drivers.qemu.disk import DISK
from interlock.errors import DriverError

pytestmark = pytest.mark.vm


@pytest.fixture
def ask(vms):
    """Return a function that starts `web`, runs a script in its guest, stops it, and returns what was printed."""

    def ask(script):
        vms.start("web")
        said = vms.run("web", ["sh", "-c", script]).text
        vms.stop("web")
        return said

    return ask


def test_disk_is_what_it_was(vms, ask):
    """Back and forth between two branches, after the snapshot that both came from is gone, and after a reset."""
    vms.create("web", "tiny", Wishes(user="root", memory_bytes=256 << 20))
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


def test_damaged_disk_is_neither_kept_nor_put_back(vms, home):
    """What the machine has stays as it is."""
    vms.create("web", "tiny", Wishes(memory_bytes=256 << 20))
    vms.snapshot("web", "one")
    kept = home.directory("web") / "snapshots" / "one" / DISK
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1024])
    with pytest.raises(DriverError, match="the disk is damaged"):
        vms.restore("web", "one")
    disk = home.directory("web") / DISK
    subprocess.run(["qemu-img", "check", "-q", disk], check=True, timeout=120)
    disk.write_bytes(whole[:1024])
    with pytest.raises(DriverError, match="the disk is damaged"):
        vms.snapshot("web", "two")
    assert [it.tag for it in vms.snapshots("web")] == ["one"]


def test_attached_disk_is_refused_before_anything_is_written(vms, home, tmp_path):
    """It outlives the instance, and would not go back with it."""
    vms.disks.create("data", 64 << 20)
    template = tmp_path / "web.yaml"
    template.write_text("base: template:tiny\nadditionalDisks: [data]\n")
    vms.create("web", str(template))
    before = (home.directory("web") / DISK).stat().st_ino
    with pytest.raises(DriverError, match="the disk data is attached"):
        vms.snapshot("web", "one")
    assert (home.directory("web") / DISK).stat().st_ino == before
