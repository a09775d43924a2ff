"""A first start from a warm image: its files, and a cold boot that keeps nothing of the guest in the image."""

import json

import pytest
from conftest import make_spec

from interlock.drivers.contract import INITRD, KNOWN_HOSTS, SAVED, WARM, Deadline, Site
from interlock.drivers.qemu import adopted, boot, disk, saved, warming
from interlock.drivers.qemu.boot import Progress
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import DriverError
from interlock.guest import cpio, seed
from interlock.host.progress import unheard

from .test_qemu_forking import FACTS, MIB
from .test_qemu_saved import VERSION, command

OWN, NOBODYS = b"guest ssh-ed25519 OWN\n", b"guest ssh-ed25519 NOBODYS\n"


def written(directory):
    return "backing-filename" in json.loads(disk.run_qemu_img(["info", "--output=json", disk.DISK], directory))


@pytest.fixture
def site(tmp_path):
    """Return a machine that was created with a warm image of its size."""
    directory = tmp_path / "web"
    place = directory / WARM
    place.mkdir(parents=True)
    site = Site("web", directory, tmp_path / "run", make_spec(driver="qemu", disk_bytes=MIB))
    (directory / INITRD).write_bytes(cpio.pack({"init": cpio.file(b"init")}) + seed.overlay(FACTS))
    (directory / KNOWN_HOSTS).write_bytes(OWN)
    disk.make(directory, MIB)
    disk.make(place, MIB)
    (place / disk.DISK).rename(place / warming.LAYER)
    warming.cloning.write_cover(place, disk.DISK, [warming.LAYER_HERE], MIB)
    (place / KNOWN_HOSTS).write_bytes(NOBODYS)
    for name in (saved.MEMORY, saved.DEVICES):
        (place / name).write_bytes(name.encode())
    record = {
        "machine": saved.fingerprint(VERSION, command(site)),
        "written": {},
        "memory_bytes": len(saved.MEMORY),
        "devices": saved._stamp(place / saved.DEVICES),
        "common": False,
        "schema": 1,
    }
    (place / saved.RECORD).write_text(json.dumps(record))
    caught = {"boot": "the-boot", "mark": "the-mark", "layers": ["layer-1.qcow2"], "disk_bytes": MIB, "seed": {}}
    (place / warming.CAUGHT).write_text(json.dumps(caught))
    return site


def test_first_start_has_a_saved_memory_over_shared_files(site):
    """The files are like those of a fork, and the step can be repeated after a crash."""
    for _ in range(2):
        assert warming.applies(site)
        assert warming.begin(site, VERSION, command(site)) is None
    directory = site.directory
    assert (directory / SAVED / saved.MEMORY).samefile(directory / WARM / saved.MEMORY)
    assert (directory / warming.LAYER_HERE).samefile(directory / WARM / warming.LAYER)
    assert json.loads((directory / SAVED / saved.RECORD).read_text())["common"]
    assert saved.misfit(site, VERSION, command(site)) is None
    assert (directory / KNOWN_HOSTS).read_bytes() == NOBODYS + OWN
    assert adopted.is_nobodys(directory)


def test_warm_image_of_another_machine_touches_nothing(site):
    """The reason says what differs."""
    before = {path.name: path.stat().st_mtime_ns for path in site.directory.iterdir()}
    assert "QEMU" in warming.begin(site, "8.0.0", command(site))
    larger = site._replace(spec=site.spec._replace(disk_bytes=2 * MIB))
    assert warming.begin(larger, VERSION, command(larger)) == f"its disk has {MIB} bytes; this one has {2 * MIB}"
    caught = site.directory / WARM / warming.CAUGHT
    whole = caught.read_text()
    caught.write_text(whole.replace("seed", "other"))
    assert warming.begin(site, VERSION, command(site)) == "an older version of Interlock made it"
    caught.write_text(whole)
    (site.directory / WARM / saved.DEVICES).write_bytes(b"?")
    assert warming.begin(site, VERSION, command(site)) == "it is damaged"
    assert {path.name: path.stat().st_mtime_ns for path in site.directory.iterdir()} == before


def test_machine_with_something_on_its_disk_does_not_begin_from_one(site, monkeypatch):
    """A start from the warm image would lose the data on the disk."""
    monkeypatch.setattr(warming.cloning, "is_written", lambda _: True)
    assert not warming.applies(site)
    warming.adopted.record(site.directory, NOBODYS, OWN, None, boot="", mark="")
    assert warming.applies(site)  # the disk has no data of the instance yet


@pytest.fixture
def launched(monkeypatch):
    """Return the list of sites that would have been launched; no hypervisor is."""
    found = []
    monkeypatch.setattr(boot, "launch", lambda site, *_: found.append(site))
    return found


def test_cold_boot_after_the_warm_image_has_a_fresh_disk_and_its_own_key(site, launched):
    """Nothing of the image's guest is left, wherever the start was interrupted."""
    warming.begin(site, VERSION, command(site))
    boot.cold_boot(site, unheard, Deadline(60))
    assert launched == [site]
    assert (site.directory / KNOWN_HOSTS).read_bytes() == OWN
    assert not (site.directory / SAVED).exists()
    assert not list(site.directory.glob(disk.LAYERS))
    assert not written(site.directory)
    assert warming.applies(site)  # nothing ran yet


def test_start_that_is_asked_to_boot_says_so_and_leaves_the_warm_image(site, launched):
    """The reason is recorded in the history."""
    progress = Progress(unheard)
    boot.up(site, progress, Deadline(60), boot=True, cold=True)
    assert progress.how == "booting cold, without the warm image: as asked"
    assert launched == [site]
    assert (site.directory / WARM).exists()


def test_guest_that_does_not_become_the_instances_boots_from_a_fresh_disk(site, monkeypatch, launched):
    """The same start continues with a cold boot and gives the reason."""
    monkeypatch.setattr(boot, "up", lambda *_, **__: warming.begin(site, VERSION, command(site)))
    answers = iter([DriverError("the guest is deaf"), ()])

    def await_(*_):
        answer = next(answers)
        if isinstance(answer, DriverError):
            raise answer
        return answer

    monkeypatch.setattr(QemuDriver, "_await", await_)
    how = QemuDriver().start(site, unheard, Deadline(60))
    assert how == "booting cold, the guest of the warm image did not take on this identity: the guest is deaf"
    assert launched == [site]
    assert not adopted.is_undecided(site.directory)
