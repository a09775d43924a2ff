"""Promised changes are on disk: nothing is published before it is flushed, and no change is left unflushed.

A test cannot cut the power, but it can see the order of the calls. Here each flush gives the file a time stamp of its
own, so a file that is changed afterwards, by any program and in any way, no longer has that stamp.
"""

import errno
import os
import socket
import stat
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from asking import needs

from interlock import Interlock
from interlock.disks import Disks
from interlock.drivers.qemu import copies, disk, firmware
from interlock.fsm.port import Deadline, Draft
from interlock.fsm.spec import Copy
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.guest import ssh
from interlock.guest.keys import user_key
from interlock.host.files import link_or_copy, publish, write_whole
from interlock.images import download, published
from interlock.images.source import Source
from interlock.images.store import Store

EXEMPT = {"locks", ".deleting", "work", "lock", "run"}
"""Names of files and folders that a crash may lose or leave: the next command makes or removes them again."""


class Flushes:
    """What is flushed of the tree below `root`, and what was published too early."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.too_early: list[str] = []
        self._stamps: dict[tuple[int, int], int] = {}
        self._clock = count(1)
        for path in self._all():
            self._stamp(path)  # earlier changes are not tested
        monkeypatch.setattr(os, "fsync", self._stamp)
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def waiting(self) -> list[str]:
        """Return every file and folder that was changed after its last flush, or never flushed."""
        return [str(path.relative_to(self.root)) for path in self._all() if not self._is_flushed(path)]

    def _stamp(self, place):
        moment = next(self._clock)
        os.utime(place, ns=(moment, moment))
        seen = os.stat(place)  # noqa: PTH116 - a descriptor or a path
        self._stamps[seen.st_dev, seen.st_ino] = moment

    def _is_flushed(self, path: Path) -> bool:
        seen = path.lstat()
        new_and_empty = stat.S_ISDIR(seen.st_mode) and not any(path.iterdir())
        return new_and_empty or self._stamps.get((seen.st_dev, seen.st_ino)) == seen.st_mtime_ns

    def _watched(self, rename):
        def watched(source, target, **named):
            if not EXEMPT & {*Path(target).parts}:
                below = [Path(source), *Path(source).rglob("*")]
                self.too_early += [str(path) for path in below if not path.is_symlink() and not self._is_flushed(path)]
            return rename(source, target, **named)

        return watched

    def _all(self):
        found = [self.root, *self.root.rglob("*")]
        return [path for path in found if not path.is_symlink() and not EXEMPT & {*path.relative_to(self.root).parts}]


@pytest.fixture
def flushed(home, monkeypatch):
    """Return a function that checks that every change in the home is on disk, in the right order."""
    home.root.mkdir(mode=0o700)
    flushes = Flushes(home.root, monkeypatch)

    def check(*, but=()):
        assert flushes.too_early == []
        assert [path for path in flushes.waiting() if path not in but] == []

    return check


def no_links(monkeypatch):
    """Make links fail, as if the home were on another file system."""

    def refuse(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("breach", ["content", "names"])
def test_the_check_finds_what_is_not_flushed(home, flushed, breach):
    """The check notices a file that is renamed unflushed, and a name that is never flushed."""
    (home.root / "f").write_bytes(b"x")
    if breach == "content":
        (home.root / "f").rename(home.root / "g")
    with pytest.raises(AssertionError):
        flushed()


def test_prepare_leaves_nothing_waiting(home, flushed):
    """The folders of a new home survive a power cut; otherwise an instance in them would not."""
    home.prepare()
    flushed()


def test_write_whole_leaves_nothing_waiting(home, flushed):
    """The file is new, or replaces another one."""
    write_whole(home.root / "f", b"one")
    flushed()
    write_whole(home.root / "f", b"two")
    flushed()


def test_publish_of_a_folder_leaves_nothing_waiting(home, flushed):
    """The folder's content is flushed, and so are its old and its new parent."""
    (home.root / "there").mkdir()
    (home.root / "new" / "sub").mkdir(parents=True)
    (home.root / "new" / "sub" / "f").write_bytes(b"x")
    publish(home.root / "new", home.root / "there" / "new")
    flushed()


def test_user_key_leaves_nothing_waiting(home, flushed):
    """Without this key, no guest that trusts it can be entered."""
    user_key(home.keys)
    flushed(but=["keys"])  # only the removal of a temporary folder is unflushed there


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize(
    "way",
    [
        (Trigger.start, Trigger.stop, Trigger.reset),
        (Trigger.protect, Trigger.unprotect, Trigger.clone),
        (Trigger.start, Trigger.stop, Trigger.edit, Trigger.rename),
        (Trigger.snapshot, Trigger.restore, Trigger.discard),
    ],
)
def test_transitions_leave_nothing_waiting(engine, spec, flushed, tmp_path, monkeypatch, linked, way):
    """Image files may be linked, or copied where links are impossible."""
    (tmp_path / "blob").write_bytes(b"image")
    if not linked:
        no_links(monkeypatch)
    engine.create("web", lambda _: Draft(spec, {"seed": b"seed", "kernel": tmp_path / "blob"}))
    flushed()
    for trigger in way:
        engine.fire("web", trigger, **needs(trigger))
        flushed()


@pytest.mark.parametrize("damaged", [False, True])
def test_delete_leaves_nothing_waiting(home, bring, flushed, damaged):
    """The disk records that the instance is gone before any of its files is removed."""
    bring("web", State.stopped)
    if damaged:
        (home.directory("web") / "spec.json").unlink()
    Interlock(home).delete("web", force=True)
    flushed()


def test_images_leave_nothing_waiting(home, flushed, qcow2, tmp_path):
    """A manifest names blobs that are on disk."""
    (tmp_path / "web.qcow2").write_bytes(qcow2)
    store = Store(home.images)
    published.import_(store, Source(str(tmp_path / "web.qcow2"), "x86_64"), None, print)
    flushed(but=["images"])  # only the lock's file is unflushed there


def test_disks_leave_nothing_waiting(home, flushed, qcow2, tmp_path):
    """Disks are created, imported and deleted."""
    disks = Disks(home)
    disks.create("one", 1 << 20)
    flushed()
    (tmp_path / "two.qcow2").write_bytes(qcow2)
    disks.import_("two", tmp_path / "two.qcow2")
    flushed()
    disks.delete("one")
    flushed()


def test_disk_of_a_machine_leaves_nothing_waiting(home, flushed):
    """`create` and `reset` make the disk with another program."""
    disk.make(home.root, 1 << 20)
    flushed()
    disk.make(home.root, 1 << 20)
    flushed()


def test_link_or_copy_is_flushed_by_its_publisher(home, flushed, tmp_path, monkeypatch):
    """`link_or_copy` by itself publishes nothing."""
    no_links(monkeypatch)
    (tmp_path / "blob").write_bytes(b"image")
    (home.root / "new").mkdir()
    link_or_copy(tmp_path / "blob", home.root / "new" / "kernel")
    publish(home.root / "new", home.root / "web")
    flushed()


def test_firmware_of_a_machine_leaves_nothing_waiting(home, flushed, tmp_path):
    """Creation copies the firmware; `reset` restores its variables."""
    (tmp_path / "part.fd").write_bytes(bytes(1 << 16))
    part = firmware.Image(tmp_path / "part.fd", "raw")
    firmware.install(home.root, firmware.Firmware(part, part))
    flushed()
    firmware.renew(home.root)
    flushed()


def test_download_is_begun_with_nothing_waiting(home, flushed, monkeypatch):
    """A partial file never lies beside another file's validators: it is gone, on disk, before they are written."""

    def written_later(path, content):
        flushed()
        write_whole(path, content)

    monkeypatch.setattr(download, "write_whole", written_later)
    part = download.Download(home.root)
    part.begin("here", {"etag": "one"}, 9)
    part.content.write_bytes(b"part")
    os.fsync(home.root)
    os.fsync(part.content)
    part.begin("here", {"etag": "two"}, 9)
    flushed()


def test_copy_from_a_guest_leaves_nothing_waiting(home, flushed, tmp_path, monkeypatch):
    """The copied file is on disk, and so is the record by which it is removed with the machine."""
    monkeypatch.setattr(ssh, "command_line", lambda _config, _name, command, options: list(command))  # noqa: ARG005
    (tmp_path / "made").write_text("by the guest")
    (home.root / "instance").mkdir()
    wanted = Copy(str(tmp_path / "made"), str(home.root / "fetched"), skip_if_missing=False, delete_on_stop=True)
    spec = SimpleNamespace(copies=[wanted], instance_id="i-1")
    site = SimpleNamespace(name="web", directory=home.root / "instance", spec=spec)
    pidfd, alive = socket.socketpair()
    with pidfd, alive:
        assert copies.fetch(site, Deadline(30), pidfd.fileno()) == ()
    flushed()
