"""Disks that outlive instances: complete or absent, leased by a kernel lock, linked and never copied."""

import json
import os
import platform
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.disks import Disks
from interlock.drivers.contract import disk_file
from interlock.drivers.qemu import disk_lock
from interlock.errors import DamagedError, DriverError, NotFoundError, UsageError

MIB = 1 << 20

HOLD = "import sys; file = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.read()"
"""A program that opens a file, prints a line and keeps the file open."""


@pytest.fixture
def disks(home):
    return Disks(home)


@pytest.fixture
def attach(home, disks):
    """Return a function that attaches a disk to a new instance, as its creation does, and returns the link."""

    def link(disk: str, instance: str) -> Path:
        directory = home.directory(instance)
        directory.mkdir(parents=True)
        file = directory / disk_file(disk)
        os.link(disks.path(disk), file)
        return file

    return link


@pytest.fixture
def hypervisor():
    """Return a function that starts a real QEMU, without a guest, on a disk; each process is killed at the end."""
    begun = []

    def start(path: Path, name: str = "db") -> subprocess.Popen[str]:
        command = [
            f"qemu-system-{platform.machine()}",
            "-name",
            f"guest={name}",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]
        command += ["-machine", "none", "-qmp", "stdio"]
        command += ["-blockdev", f"qcow2,node-name=disk0,file.driver=file,file.filename={path},file.locking=on"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert "QMP" in json.loads(process.stdout.readline())
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_disks_without_a_folder_is_empty_and_stays_unmade(disks):
    """Listing disks changes nothing."""
    assert disks.list() == ()
    with pytest.raises(NotFoundError, match='there is no disk "data"'):
        disks.get("data")
    assert not disks.directory.exists()


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_create_makes_a_disk_of_that_size_that_takes_no_room(disks, kind):
    """The new disk is listed, only its owner may read it, and QEMU sees its format and size."""
    made = disks.create("data", 64 * MIB, kind)
    assert disks.list() == (made,)
    assert (made.name, made.format, made.size_bytes, made.instances, made.holder) == ("data", kind, 64 * MIB, (), None)
    assert made.used_bytes < MIB
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    info = subprocess.run(["qemu-img", "info", "--output=json", made.path], capture_output=True, check=True).stdout
    assert {"format": kind, "virtual-size": 64 * MIB}.items() <= json.loads(info).items()


def test_create_of_a_name_that_is_taken_is_refused(disks):
    """A disk is never replaced by an empty one."""
    before = disks.create("data", MIB)
    with pytest.raises(UsageError, match='disk "data" already exists'):
        disks.create("data", 2 * MIB)
    assert disks.list() == (before,)


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "-x", "a,b", "x" * 64])
def test_create_of_impossible_name_is_refused(disks, name):
    """No name leads out of the folder."""
    with pytest.raises(UsageError, match="a disk cannot be called"):
        disks.create(name, MIB)
    assert not disks.directory.exists()


def test_create_that_fails_leaves_nothing(disks):
    """A failed creation leaves no partial disk."""
    with pytest.raises(DriverError, match="qemu-img create"):
        disks.create("data", 1 << 62)
    assert tree(disks.directory) == ["lock"]


def test_create_sweeps_what_a_dead_process_left(disks):
    """An unfinished disk is not listed, and the next `create` removes it."""
    (disks.directory / ".new").mkdir(parents=True)
    (disks.directory / ".new" / "disk.raw").write_bytes(b"half")
    assert disks.list() == ()
    disks.create("data", MIB)
    assert tree(disks.directory) == ["data", "data/disk.qcow2", "lock"]


def test_create_while_another_process_writes_says_that_it_waits(disks):
    """The store has one writer; a second one reports that it waits, and proceeds when the first ends or dies."""
    disks.directory.mkdir(parents=True)
    script = "import fcntl, sys; file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True)\n"
    command = [sys.executable, "-c", script + "sys.stdin.read()", disks.directory / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        said = []

        def report(text: str) -> None:
            said.append(text)
            other.kill()

        disks.create("data", MIB, report=report)
    assert said == ["waiting for another process to finish with the disks"]
    assert [disk.name for disk in disks.list()] == ["data"]


def test_list_shows_a_damaged_disk_among_the_others(disks):
    """A damaged disk does not affect the others, and is not resized."""
    disks.create("a", MIB)
    disks.create("b", MIB)
    disks.path("a").write_bytes(b"")
    assert [(disk.name, disk.size_bytes) for disk in disks.list()] == [("a", None), ("b", MIB)]
    with pytest.raises(DamagedError, match=r"disk\.qcow2: not a qcow2 file"):
        disks.resize("a", 2 * MIB)


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_resize_grows_the_very_file_that_instances_have(disks, attach, kind):
    """The instances' links see the new size."""
    disks.create("data", MIB, kind)
    link = attach("data", "web")
    assert disks.resize("data", 4 * MIB).size_bytes == 4 * MIB
    assert disks.path("data").samefile(link)
    assert link.stat().st_nlink == 2


def test_resize_to_less_is_refused(disks):
    """Shrinking would cut off what a guest wrote at the end."""
    before = disks.create("data", 4 * MIB)
    with pytest.raises(UsageError, match=f"has {4 * MIB} bytes: it can only grow, not shrink to {MIB}"):
        disks.resize("data", MIB)
    assert disks.get("data") == before


def test_resize_of_disk_that_a_machine_has_open_names_it(disks, hypervisor):
    """A lease is the lock of a live process: the error names it with a way out, and SIGKILL frees it at once."""
    disks.create("data", MIB)
    owner = hypervisor(disks.path("data"))
    with pytest.raises(DriverError) as caught:
        disks.resize("data", 4 * MIB)
    assert caught.value.message == f'disk "data" is in use by instance "db" (pid {owner.pid})'
    assert caught.value.hint == "interlock stop db"
    assert disks.get("data").holder == f'instance "db" (pid {owner.pid})'
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert disks.resize("data", 4 * MIB).size_bytes == 4 * MIB


def test_disk_that_a_machine_has_open_refuses_a_second_one(disks, hypervisor):
    """QEMU's own lock keeps a second program out, and its error has the words that we look for."""
    disks.create("data", MIB)
    hypervisor(disks.path("data"))
    command = ["qemu-img", "resize", "-q", "-f", "qcow2", disks.path("data"), "4M"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert disk_lock.REFUSED in done.stderr


def test_holder_finds_a_file_under_another_name(disks, attach):
    """The holder is found by the file, not by its path; a process that is no machine is shown by its program."""
    disks.create("data", MIB)
    command = [sys.executable, "-c", HOLD, attach("data", "web")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert disks.get("data").holder == f"{Path(sys.executable).name} (pid {other.pid})"
        other.stdin.close()
        other.wait()
    assert disks.get("data").holder is None


def test_delete_of_attached_disk_names_the_instances_and_keeps_it(disks, attach):
    """A disk that instances use is not deleted, and keeps its path."""
    before = disks.create("data", MIB)
    for name in ("web", "db"):
        attach("data", name)
    with pytest.raises(UsageError) as caught:
        disks.delete("data")
    assert caught.value.message == 'disk "data" is attached to instance "db", instance "web"'
    assert caught.value.hint == "interlock delete db && interlock delete web && interlock disk delete data"
    assert disks.get("data").instances == ("db", "web")
    assert disks.get("data").path == before.path


def test_delete_of_disk_linked_elsewhere_is_refused(disks, tmp_path):
    """A link that no instance has keeps the disk too: somebody made it."""
    disks.create("data", MIB)
    os.link(disks.path("data"), tmp_path / "mine")
    with pytest.raises(UsageError, match="is attached to a file outside the instances"):
        disks.delete("data")
    assert disks.path("data").exists()


def test_delete_cut_short_before_its_end_brings_a_linked_disk_back(disks, attach):
    """If a delete dies after its first rename, the next writer restores the disks that instances have."""
    disks.create("data", MIB)
    disks.create("spare", MIB)
    attach("data", "web")
    (disks.directory / ".old").mkdir()
    for name in ("data", "spare"):
        (disks.directory / name).rename(disks.directory / ".old" / name)
    disks.create("other", MIB)
    assert [disk.name for disk in disks.list()] == ["data", "other"]


def test_delete_leaves_nothing(disks):
    """A disk that no instance has is deleted with its folder."""
    disks.create("data", MIB)
    disks.delete("data")
    assert tree(disks.directory) == ["lock"]
    with pytest.raises(NotFoundError):
        disks.delete("data")


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_import_copies_what_the_file_holds(disks, tmp_path, kind):
    """The format is judged by the content, whatever the file is called, and the source stays as it was."""
    content = os.urandom(4096) + bytes(MIB - 4096)
    (tmp_path / "raw").write_bytes(content)
    source = tmp_path / "source.img"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, tmp_path / "raw", source], check=True)
    before = source.read_bytes()
    disk = disks.import_("data", source)
    assert (disk.format, disk.size_bytes) == (kind, MIB)
    subprocess.run(["qemu-img", "convert", "-f", kind, "-O", "raw", disk.path, tmp_path / "back"], check=True)
    assert (tmp_path / "back").read_bytes() == content
    assert source.read_bytes() == before


@pytest.mark.parametrize("option", [["-F", "raw", "-b", "base"], ["-o", "data_file=base"]])
def test_import_of_disk_that_refers_to_another_file_is_refused(disks, tmp_path, option):
    """A disk made elsewhere cannot make QEMU read files of its choosing."""
    (tmp_path / "base").write_bytes(bytes(MIB))
    source = tmp_path / "over.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *option, source, "1M"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with pytest.raises(UsageError, match="needs another file, a"):
        disks.import_("data", source)
    assert disks.list() == ()


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"KDMV" + bytes(512), "is VMDK"), (b"\x1f\x8b" + bytes(512), "is gzip"), (b"QFI\xfb", "not a whole qcow2")],
)
def test_import_of_what_is_no_disk_is_refused(disks, tmp_path, content, why):
    """A file that could pass for a raw disk is recognized by its first bytes."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=why):
        disks.import_("data", tmp_path / "file")


def test_import_of_file_that_a_machine_writes_to_is_refused(disks, hypervisor, tmp_path):
    """A copy of a disk that a guest is writing to would be incomplete."""
    source = tmp_path / "source.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, "1M"], check=True)
    hypervisor(source)
    with pytest.raises(DriverError, match="qemu-img convert"):
        disks.import_("data", source)
    assert tree(disks.directory) == ["lock"]
