"""The script that grows a guest's file system, run on a fake disk, and how its exit status is handled."""

import subprocess

import pytest

from interlock.drivers.qemu import driver as qemu
from interlock.drivers.qemu.disk import GROWN
from interlock.errors import DeadlineError
from interlock.fsm.port import Deadline, Site
from interlock.fsm.spec import UNREADABLE
from interlock.guest import growing, session

DISK, PARTITION = 20 << 11, 16 << 11
"""In sectors: a disk of 20 MiB, and a partition of 16 MiB that begins at 1 MiB."""


@pytest.fixture
def guest(tmp_path):
    """Return a function that runs the script for a partition of `size` sectors; growpart makes it `grown` sectors."""
    folder = tmp_path / "sys" / "devices" / "vda"
    (folder / "vda1").mkdir(parents=True)
    (tmp_path / "sys" / "class" / "block").mkdir(parents=True)
    for name, place in (("vda", folder), ("vda1", folder / "vda1")):
        (tmp_path / "sys" / "class" / "block" / name).symlink_to(place)
    (folder / "size").write_text(f"{DISK}\n")
    for name, value in (("partition", 1), ("start", 2048)):
        (folder / "vda1" / name).write_text(f"{value}\n")
    (tmp_path / "mounts").write_text("/dev/vda1 / ext4 rw 0 0\n")

    def run(size, grown):
        (folder / "vda1" / "size").write_text(f"{size}\n")
        for program, does in (
            ("growpart", f"echo {grown} >{folder}/vda1/size"),
            ("resize2fs", f"echo $1 >{tmp_path}/resized"),
        ):
            (tmp_path / program).write_text(f"#!/bin/sh\n{does}\n")
            (tmp_path / program).chmod(0o755)
        script = growing._SCRIPT.read_text().replace("/sys/", f"{tmp_path}/sys/")
        script = script.replace("/proc/self/mounts", f"{tmp_path}/mounts")
        done = subprocess.run(
            ["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, capture_output=True, text=True
        )
        return done.returncode, done.stdout, (tmp_path / "resized").exists()

    return run


def test_file_system_follows_a_partition_that_grows(guest):
    """The partition is grown before the file system."""
    assert guest(PARTITION, PARTITION + 2048) == (0, "", True)


def test_file_system_follows_a_partition_that_has_grown_before(guest):
    """The partition may have grown at boot, or in an earlier attempt that was cut off."""
    whole = DISK - 2048 - 34
    assert guest(whole, whole) == (0, "", True)


def test_partition_that_cannot_follow_its_disk_is_said(guest):
    """If space is left after the partition, the file system is not touched."""
    small = PARTITION - (4 << 11)
    assert guest(small, small) == (1, "the partition /dev/vda1 did not grow with its disk\n", False)


@pytest.mark.parametrize(("answer", "left"), [(0, False), (1, False), (255, True), (DeadlineError("late"), True)])
def test_guest_that_does_not_answer_is_asked_again(tmp_path, monkeypatch, answer, left):
    """One answer is enough; while the guest gives none, each start asks again."""

    def run(*_, **__):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(session, "run", run)
    (tmp_path / GROWN).touch()
    steps = []
    qemu._grow_file_system(Site("web", tmp_path, tmp_path, UNREADABLE), None, Deadline(60), -1, steps.append)
    assert (tmp_path / GROWN).exists() is left
    assert steps[0] == "growing the file system"
    assert len(steps) == (1 if answer == 0 else 2)
