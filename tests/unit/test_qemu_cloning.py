"""A clone is a machine of its own: neither writes to shared files, and each can be deleted without the other."""

import subprocess
from dataclasses import replace

import pytest
from conftest import make_spec

from interlock.drivers.contract import BASE, INITRD, KERNEL, KNOWN_HOSTS, SEED, SSH_KEY, Site
from interlock.drivers.qemu import cloning, disk
from interlock.errors import DriverError
from interlock.fsm.spec import Disk
from interlock.guest import cpio, seed
from interlock.guest.facts import Seed
from interlock.guest.keys import KeyPair
from interlock.host.progress import unheard

MIB = 1 << 20
FACTS = Seed("ada", "web", "i-1", ("ssh-ed25519 AAAA ada",), KeyPair(b"PRIVATE\n", b"ssh-ed25519 BBBB\n"), name="web")


def qemu_io(directory, command):
    """Run `command` of qemu-io on the disk in `directory`; return what it says."""
    line = ["qemu-io", "-f", "qcow2", "-c", command, disk.DISK]
    return subprocess.run(line, cwd=directory, capture_output=True, text=True, check=True).stdout


def write(directory, pattern):
    """Write `pattern` to the disk, as a guest would."""
    qemu_io(directory, f"write -P {pattern} 0 64k")


def holds(directory, pattern):
    """Return whether the disk in `directory` holds `pattern` where `write` put it."""
    return "verification failed" not in qemu_io(directory, f"read -P {pattern} 0 64k")


def layers(directory):
    """Return the layers in `directory`: name → inode."""
    return {path.name: path.stat().st_ino for path in directory.glob(disk.LAYERS)}


@pytest.fixture
def web(tmp_path):
    """Return a machine with an image, as creation made it."""
    directory = tmp_path / "web"
    directory.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", BASE, str(MIB)], cwd=directory, check=True)
    (directory / KERNEL).write_bytes(b"kernel")
    (directory / INITRD).write_bytes(cpio.pack({"init": cpio.file(b"init")}) + seed.overlay(FACTS))
    (directory / SSH_KEY).write_bytes(b"key")
    (directory / "qemu.json").write_bytes(b"{}")
    disk.make(directory, MIB)
    return Site("web", directory, tmp_path / "run", make_spec(driver="qemu"))


@pytest.fixture
def cloned(web, tmp_path):
    """Return a function that clones `web`, or another, and returns the directory of the copy."""

    def make(name, original=web, *, full=False):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        spec = make_spec(driver="qemu", hostname=name, instance_id=f"i-{name}")
        cloning.make(Site(name, directory, tmp_path / "run", spec), original, unheard, full=full)
        return directory

    return make


@pytest.mark.parametrize("full", [False, True])
def test_clone_has_what_was_written_and_each_writes_for_itself(web, cloned, full):
    """The copy has what the original wrote; later writes of either are not in the other."""
    write(web.directory, 1)
    copy = cloned("copy", full=full)
    assert (holds(web.directory, 1), holds(copy, 1)) == (True, True)
    write(web.directory, 2)
    write(copy, 3)
    assert (holds(web.directory, 2), holds(copy, 3)) == (True, True)


def test_linked_clone_shares_a_layer_and_outlives_the_original(web, cloned):
    """The layer is one file with a name in both directories: the kernel counts its users."""
    write(web.directory, 1)
    copy = cloned("copy")
    assert layers(web.directory) == layers(copy) != {}
    for path in web.directory.iterdir():
        path.unlink()
    assert holds(copy, 1)


def test_clone_of_what_wrote_nothing_since_the_last_adds_no_layer(web, cloned):
    """Cloning a machine again and again does not make it grow."""
    assert layers(cloned("fresh")) == {}
    write(web.directory, 1)
    first, second = cloned("first"), cloned("second")
    assert layers(web.directory) == layers(first) == layers(second)
    assert len(layers(second)) == 1


def test_full_clone_shares_the_image_alone(web, cloned):
    """Its layers are its own, down to the image, which nobody writes to."""
    write(web.directory, 1)
    cloned("linked")
    write(web.directory, 2)
    copy = cloned("copy", full=True)
    assert layers(copy).keys() == layers(web.directory).keys()
    assert not set(layers(copy).values()) & set(layers(web.directory).values())
    assert (copy / BASE).stat().st_ino == (web.directory / BASE).stat().st_ino
    assert holds(copy, 2)


def test_reset_of_a_clone_begins_from_the_image_and_leaves_the_original(web, cloned):
    """Only the machine that is reset drops its layers."""
    write(web.directory, 1)
    copy = cloned("copy")
    disk.make(copy, MIB)
    assert (holds(copy, 0), layers(copy)) == (True, {})
    assert holds(web.directory, 1)


def test_clone_after_one_that_was_cut_short_removes_what_it_left(web, cloned):
    """A second link to the disk, left from before the disk was covered, is still written to: it is no layer."""
    write(web.directory, 1)
    (web.directory / "layer-0badcafe.qcow2").hardlink_to(web.directory / disk.DISK)
    write(web.directory, 2)
    copy = cloned("copy")
    assert "layer-0badcafe.qcow2" not in layers(web.directory)
    assert (holds(copy, 2), len(layers(copy))) == (True, 1)


def test_clone_made_twice_is_made_once(web, cloned):
    """By the contract, each call may be repeated."""
    write(web.directory, 1)
    cloned("copy")
    copy = cloned("copy")
    assert holds(copy, 1)
    assert layers(copy) == layers(web.directory)


def test_clone_has_an_identity_of_its_own(cloned):
    """Hostname, instance id and host key are new, and the seed's key is pinned; no old key is left."""
    copy = cloned("copy")
    tree = cpio.last((copy / INITRD).read_bytes())[1]
    assert tree["seed/hostname"].data == b"copy\n"
    assert tree["seed/instance-id"].data == b"i-copy\n"
    assert b"127.0.1.1 copy\n" in tree["seed/hosts"].data
    assert tree["seed/ssh_host_ed25519_key.pub"].data.split()[1] in (copy / KNOWN_HOSTS).read_bytes()
    assert b"PRIVATE\n" not in (copy / INITRD).read_bytes()


def test_clone_of_a_machine_with_disks_is_refused(web, cloned):
    """A disk that outlives its instances is neither copied nor shared."""
    attached = web._replace(spec=make_spec(driver="qemu", disks=(Disk("data", "qcow2"),)))
    with pytest.raises(DriverError, match='"web" has the disk data attached'):
        cloned("copy", attached)


def test_clone_of_a_guest_that_reads_no_other_seed_is_refused(web, cloned):
    """It can be cloned before its first start; later cloud-init is off, and the copy would keep its identity."""
    (web.directory / SEED).write_bytes(seed.nocloud(FACTS))
    assert b"i-copy" in (cloned("copy") / SEED).read_bytes()
    write(web.directory, 1)
    with pytest.raises(DriverError, match="can only be cloned before its first start"):
        cloned("late")


def test_clone_of_a_machine_whose_seed_is_not_ours_is_refused(web, cloned):
    """Without a seed of ours, the copy would be the same guest a second time."""
    (web.directory / INITRD).write_bytes(cpio.pack({"init": cpio.file(b"init")}))
    with pytest.raises(DriverError, match="there is no seed in it"):
        cloned("copy")


def test_seed_for_another_identity_is_the_seed_made_for_it():
    """An initrd with a replaced overlay equals, byte for byte, one that creation makes, without an ssh port."""
    original = replace(FACTS, ssh_port=60022)
    image = cpio.pack({"init": cpio.file(b"init")})
    key = KeyPair(b"OTHER\n", b"ssh-ed25519 CCCC\n")
    identity = cloning.facts.Identity("copy", "copy-host", "i-2", key)
    expected = replace(FACTS, name="copy", hostname="copy-host", instance_id="i-2", host_key=key)
    assert image + seed.overlay(expected) == seed.overlay_for(image + seed.overlay(original), identity)
    assert seed._files(seed.nocloud(expected)) == seed._files(seed.nocloud_for(seed.nocloud(original), identity))
