"""A fork shares only memory and disks that nobody writes to, and is known by its own identity once it has that."""

import errno
import json
from pathlib import Path

import pytest
from conftest import make_spec

from interlock.drivers.contract import FORKED, INITRD, KERNEL, KNOWN_HOSTS, SAVED, SEED, SSH_KEY, Deadline, Site
from interlock.drivers.qemu import adopted, disk, ended, forking, identity, saved
from interlock.errors import DamagedError, DriverError, TooNewError
from interlock.fsm.spec import Disk, Forward
from interlock.guest import cpio, seed
from interlock.guest.facts import Seed
from interlock.guest.keys import KeyPair
from interlock.host.progress import unheard

MIB = 1 << 20
FACTS = Seed("ada", "web", "i-1", ("ssh-ed25519 AAAA ada",), KeyPair(b"PRIVATE\n", b"ssh-ed25519 BBBB\n"), name="web")
LAYER, OLDER = "layer-2.qcow2", "layer-1.qcow2"
PORT = Forward("tcp", "0.0.0.0", 80, "", "127.0.0.1", 8080, "", reverse=False)
OLD_KEY = b"guest ssh-ed25519 BBBB\n"


class Monitor:
    """Stands for the monitor of a hypervisor whose guest sees the disk `root`."""

    root = "disk"
    asked: list

    def __init__(self, _runtime):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, command, **arguments):
        type(self).asked.append(command)
        if command == "query-block":
            others = [{"device": "none"}, {"inserted": {"node-name": "seed"}}, {"inserted": {"node-name": "disk0"}}]
            return [*others, {"inserted": {"node-name": self.root, "image": {"virtual-size": 1 << 30}}}]
        if command == "blockdev-snapshot":
            type(self).root = arguments["overlay"]
        return {}


@pytest.fixture
def monitor(monkeypatch):
    """Replace the real monitor by a Monitor."""
    fake = type("Fake", (Monitor,), {"asked": [], "root": "disk"})
    monkeypatch.setattr(forking, "Monitor", fake)
    return fake


@pytest.fixture
def web(tmp_path):
    """Return a machine whose state was caught: two layers, its memory, and its seed."""
    directory = tmp_path / "web"
    (directory / FORKED).mkdir(parents=True)
    (directory / KERNEL).write_bytes(b"kernel")
    (directory / INITRD).write_bytes(cpio.pack({"init": cpio.file(b"init")}) + seed.overlay(FACTS))
    (directory / SSH_KEY).write_bytes(b"key")
    (directory / KNOWN_HOSTS).write_bytes(OLD_KEY)
    (directory / "qemu.json").write_text('{"machine": "pc-q35-7.2", "generation_device": true}')
    disk.make(directory, MIB)
    for layer in (LAYER, OLDER):
        (directory / layer).write_bytes(b"layer")
    for name in (saved.MEMORY, saved.DEVICES):
        (directory / FORKED / name).write_bytes(name.encode())
    (directory / FORKED / saved.RECORD).write_text(json.dumps({"machine": {}, "written": {"disk.qcow2": [1, 2, 3]}}))
    caught = {"boot": "the-boot", "mark": "the-mark", "layers": [LAYER, OLDER], "disk_bytes": MIB}
    (directory / FORKED / forking.CAUGHT).write_text(json.dumps(caught))
    return Site("web", directory, tmp_path / "run", make_spec(driver="qemu"))


@pytest.fixture
def copy(web, tmp_path):
    """Return a copy that was made of `web`."""
    directory = tmp_path / "copy"
    directory.mkdir()
    site = Site("copy", directory, tmp_path / "run2", make_spec(driver="qemu", hostname="copy", instance_id="i-copy"))
    for _ in range(2):  # safe to repeat
        forking.make(site, web, unheard)
    return site


def test_copy_has_links_to_memory_and_layers_and_a_disk_of_its_own(web, copy):
    """The kernel counts the links, so each machine can be deleted without the other."""
    for name in (saved.MEMORY, saved.DEVICES):
        assert (web.directory / FORKED / name).samefile(copy.directory / SAVED / name)
    for layer in (LAYER, OLDER):
        assert (web.directory / layer).samefile(copy.directory / layer)
    assert not (web.directory / disk.DISK).samefile(copy.directory / disk.DISK)
    found = json.loads(disk.run_qemu_img(["info", "--output=json", disk.DISK], copy.directory))
    assert (found["backing-filename"], found["virtual-size"]) == (LAYER, MIB)


def test_memory_of_a_copy_fits_its_own_disk(copy):
    """The memory's record describes the copy's own disk; otherwise its first start would boot."""
    record = json.loads((copy.directory / SAVED / saved.RECORD).read_text())
    assert record["written"] == saved._written(copy)


def test_copy_is_known_by_both_keys_until_its_guest_has_its_own(copy, monkeypatch):
    """The guest is given its new identity, and how to find in its log that it was copied."""
    own = (copy.directory / KNOWN_HOSTS).read_bytes().removeprefix(OLD_KEY)
    assert own.startswith(b"guest ssh-ed25519 ")
    assert adopted.is_undecided(copy.directory)
    handed = []
    monkeypatch.setattr(identity, "give", lambda *given: handed.append(given[2]))
    adopted.become(copy, None, Deadline(1.0), 0, unheard)
    words = dict(word.split("=", 1) for word in handed[0].split())
    assert (words["boot"], words["mark"]) == ("the-boot", "the-mark")
    assert words["hostname"].startswith("copy")
    assert words["instance-id"].startswith("i-copy")
    assert {"machine-id", "random", "clock", "ssh_host_ed25519_key"} <= words.keys()
    assert not adopted.is_undecided(copy.directory)
    assert (copy.directory / KNOWN_HOSTS).read_bytes() == own


def test_copy_whose_guest_refused_is_still_undecided(copy, monkeypatch):
    """The next start, if it finds the guest alive, tries again."""

    def fail(*_):
        raise DriverError("no")

    monkeypatch.setattr(identity, "give", fail)
    with pytest.raises(DriverError):
        adopted.become(copy, None, Deadline(1.0), 0, unheard)
    assert adopted.is_undecided(copy.directory)


def test_copy_that_boots_takes_its_identity_from_its_seed(copy):
    """Only the copy's own host key is pinned, and it is the one in its seed."""
    adopted.settle(copy.directory)
    adopted.settle(copy.directory)
    pinned = (copy.directory / KNOWN_HOSTS).read_bytes()
    assert pinned.count(b"\n") == 1
    facts = seed._overlaid((copy.directory / INITRD).read_bytes())[1]
    assert facts["ssh_host_ed25519_key.pub"].split()[1] in pinned
    assert facts["hostname"] == b"copy\n"


@pytest.mark.parametrize(
    ("content", "error"), [("{", DamagedError), ("{}", DamagedError), ('{"schema": 9}', TooNewError)]
)
def test_record_that_cannot_be_understood_is_an_error_of_ours(copy, content, error):
    """The error names the file; a newer version's record is not guessed at."""
    (copy.directory / adopted.RECORD).write_text(content)
    with pytest.raises(error, match=r"fork\.json"):
        adopted.settle(copy.directory)


def test_fresh_disk_takes_its_place_once_the_hypervisor_writes_to_it(web, monitor):
    """Wherever a fork was cut short, the next start finds the disk to which the guest wrote."""
    before = (web.directory / disk.DISK).stat().st_ino
    cover = web.directory / forking._COVER.format("2")
    cover.write_bytes(b"fresh")
    forking.finish(web)  # cut short before the change
    assert (web.directory / disk.DISK).stat().st_ino == before
    forking._change_over(monitor(None), "2")
    forking.finish(web)  # cut short after it
    assert (web.directory / disk.DISK).read_bytes() == b"fresh"
    assert not cover.exists()
    forking.finish(web)
    assert monitor.asked.count("query-block") == 3  # without such a disk, the monitor is not asked


def test_hypervisor_that_does_not_say_its_disk_is_an_error(monitor):
    """The disk is not guessed."""
    monitor.root = "another"
    with pytest.raises(DriverError, match="does not say which disk"):
        forking._change_over(monitor(None), "2")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"disks": (Disk("data", "raw"),)}, "has the disk data attached"),
        ({"tpm": True}, "has a TPM"),
        ({"forwards": (PORT,)}, "forwards port 8080 of this host"),
        ({"forwards": (PORT._replace(host_port=0, host_socket="/run/x"),)}, "forwards /run/x of this host"),
    ],
)
def test_what_two_machines_cannot_have_is_refused(web, changes, why):
    """The refusal comes before the guest is paused."""
    with pytest.raises(DriverError, match=why):
        forking.refuse(web._replace(spec=web.spec._replace(**changes)))


def test_what_each_has_for_itself_is_no_reason_to_refuse(web):
    """Each machine can have a socket in its own directory, and a reverse forward."""
    own = PORT._replace(host_port=0, host_socket=f"{web.directory}/sock/x")
    back = PORT._replace(reverse=True)
    forking.refuse(web._replace(spec=web.spec._replace(forwards=(own, back))))


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [("qemu.json", '{"machine": "pc-q35-7.2"}', "the same random numbers"), (SEED, "iso", "from a cloud-init seed")],
)
def test_guest_that_would_be_the_same_machine_is_refused(web, file, content, why):
    """One guest would not notice that it was copied, the other would boot with the original's identity."""
    Path(web.directory / file).write_text(content)
    with pytest.raises(DriverError, match=why):
        forking.refuse(web)


def test_fork_that_fails_leaves_no_memory_on_the_disk(web, monkeypatch):
    """A full disk may be the reason for the failure."""

    def fill(_site, _process, folder, *_):
        (folder / saved.MEMORY).write_bytes(b"memory")
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(forking, "caught", fill)
    with pytest.raises(OSError, match="no space"):
        forking.catch(web, None, forking.Announced("the-boot", "the-mark"), unheard, Deadline(60))
    assert not list(web.directory.glob("*forked*"))


def test_fork_whose_original_died_leaves_nothing_once_its_run_is_settled(web):
    """No more copies are made of the caught state, complete or not."""
    (web.directory / f".{FORKED}.0badcafe").mkdir()
    ended.clear(web, unheard)
    assert not list(web.directory.glob("*forked*"))


def test_copy_whose_record_was_cut_short_is_known_by_its_own_key_alone(tmp_path, monkeypatch):
    """The original's key is not taken for the copy's own by later commands."""
    own = b"guest ssh-ed25519 CCCC\n"
    (tmp_path / KNOWN_HOSTS).write_bytes(own)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(adopted, "write_whole", once(adopted.write_whole))
            with pytest.raises(OSError, match="cut short"):
                adopted.record(tmp_path, OLD_KEY, (tmp_path / KNOWN_HOSTS).read_bytes(), None, boot="", mark="")
        adopted.settle(tmp_path)
        assert (tmp_path / KNOWN_HOSTS).read_bytes() == own


def once(write):
    """Return a `write` that is cut short the second time."""
    written = []

    def write_once(path, content):
        if written:
            raise OSError("cut short")
        written.append(path)
        write(path, content)

    return write_once
