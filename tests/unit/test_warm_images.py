"""The store of warm images: which one an instance starts from, which instances hold it, and how it is removed."""

import os

import pytest
from conftest import make_spec

from interlock import Interlock
from interlock.creation import warm as choice
from interlock.creation import warming
from interlock.creation.wishes import Wishes
from interlock.drivers.contract import WARM
from interlock.drivers.qemu.driver import QemuDriver
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import HostError, IllegalTransitionError, ImageError, UsageError
from interlock.fsm.port import Draft
from interlock.fsm.spec import Disk, Mount
from interlock.fsm.states import State
from interlock.host.progress import unheard
from interlock.images import usage, warm
from interlock.images.library import Images
from interlock.images.store import Store
from interlock.images.warm import WarmImage

from .test_usage import ARCH, add

SPEC = make_spec(driver="qemu", cpus=2, memory_bytes=512 << 20, disk_bytes=1 << 30)


@pytest.fixture
def store(home):
    home.prepare()
    return Store(home.images)


@pytest.fixture
def tiny(store):
    return add(store, "tiny", kernel=b"KERNEL", initrd=b"INITRD")


@pytest.fixture
def made(store, tiny):
    """Return a function that puts a warm image into the store, by default one for SPEC."""

    def make(**changes):
        with store.writing() as writer:
            place = writer.work / warm.key("tiny", ARCH, SPEC._replace(cpus=changes.get("cpus", SPEC.cpus)))
            place.mkdir(mode=0o700)
            (place / "memory").write_bytes(b"memory")
            facts = {
                "image": "tiny",
                "arch": ARCH,
                "mark": tiny.mark.digest,
                "driver": "qemu",
                "cpus": SPEC.cpus,
                "memory_bytes": SPEC.memory_bytes,
                "disk_bytes": SPEC.disk_bytes,
                "programs": choice.programs(),
                "created_at": "2026-01-01T00:00:00Z",
                "version": "0",
            }
            warm.add(writer, WarmImage(**{**facts, **changes}, folder=place))
        return store.warm / place.name

    return make


@pytest.fixture
def use(home):
    """Return a function that makes an instance with links to the files of a warm image."""

    def make(name, folder):
        held = home.directory(name) / WARM
        held.mkdir(parents=True)
        for file in folder.iterdir():
            os.link(file, held / file.name)

    return make


def test_instance_of_the_same_size_begins_from_a_warm_image(store, tiny, made):
    """Creation links every file of the warm image, including the record."""
    folder, said = made(), []
    found = choice.materials(store, tiny, SPEC, "auto", said.append)
    assert found == {f"{WARM}/memory": folder / "memory", f"{WARM}/warm.json": folder / "warm.json"}
    assert said == ["using the warm image of tiny, cpus 2, memory 512 MiB, disk 1 GiB"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cpus": 1}, "it has processors 1, not 2"),
        ({"memory_bytes": 1 << 30}, "it has memory 1 GiB, not 512 MiB"),
        ({"disk_bytes": 2 << 30}, "it has disk 2 GiB, not 1 GiB"),
        ({"driver": "other"}, "it has driver other, not qemu"),
        ({"mark": "0" * 64}, "the image has been rebuilt since"),
        ({"programs": "0" * 64}, "another version of Interlock made it"),
    ],
)
def test_warm_image_that_does_not_fit_is_not_used_and_the_reason_is_said(store, tiny, made, changes, why):
    """With "auto", the first start boots; with "always", nothing is created."""
    made(**changes)
    said = []
    assert choice.materials(store, tiny, SPEC, "auto", said.append) == {}
    assert said[0].endswith(why)
    with pytest.raises(UsageError, match=f"but none fits: .*{why}") as refused:
        choice.materials(store, tiny, SPEC, "always", unheard)
    assert refused.value.hint == "interlock image warm tiny --cpus 2 --memory 512MiB --disk 1GiB"


def test_hint_makes_a_warm_image_that_fits_a_size_of_any_number_of_bytes(store, tiny):
    """The hint has the exact size, not a rounded one."""
    with pytest.raises(UsageError) as refused:
        choice.materials(store, tiny, SPEC._replace(memory_bytes=(512 << 20) + 4096), "always", unheard)
    assert refused.value.hint == "interlock image warm tiny --cpus 2 --memory 524292KiB --disk 1GiB"


@pytest.mark.parametrize(
    "change",
    [
        {"mounts": (Mount("/srv", "/srv", writable=False, type="9p", security_model="none"),)},
        {"disks": (Disk("data", "qcow2"),)},
    ],
)
def test_machine_with_other_devices_does_not_begin_from_one(store, tiny, made, change):
    """QEMU cannot resume with a device that is unknown to the saved memory."""
    made()
    assert choice.choose(store, tiny, SPEC._replace(**change))[0] is None


def test_nothing_is_said_where_there_is_no_warm_image_or_none_is_wanted(store, tiny, made):
    """There is nothing to report in either case."""
    said = []
    assert choice.materials(store, tiny, SPEC, "auto", said.append) == {}
    made()
    assert choice.materials(store, tiny, SPEC, "never", said.append) == {}
    assert said == []


def test_damaged_record_is_no_warm_image(store, made):
    """A warm image with a damaged record is not listed."""
    folder = made()
    for content in (b"", b"[]", b'{"schema": 2}', b'{"schema": 1}'):
        (folder / warm.RECORD).chmod(0o600)
        (folder / warm.RECORD).write_bytes(content)
        assert list(warm.warm_images(store)) == []


def test_one_that_is_made_again_replaces_the_old_and_mixes_with_it_nowhere(store, tiny, made):
    """Instances that hold the old one keep it; a creation that chose the old one finds no files of the new one."""
    folder = made()
    os.link(folder / "memory", store.directory / "held")
    chosen = choice.materials(store, tiny, SPEC, "auto", unheard)
    made()
    assert [file for file in chosen.values() if file.exists()] == []
    assert (store.directory / "held").read_bytes() == b"memory"
    assert len(list(warm.warm_images(store))) == 1


def test_holders_are_known_by_the_inode(home, tiny, made, use):
    """Instances that hold a replaced warm image do not count as holders of its successor."""
    use("web", made())
    (found,) = Images(home).warm(tiny)
    assert (found["instances"], found["cpus"]) == (["web"], 2)
    made()
    assert Images(home).warm(tiny)[0]["instances"] == []


def test_unheld_warm_images_are_found_and_pruned(home, store, made, use):
    """A warm image that an instance holds stays."""
    use("web", made())
    other = made(cpus=1)
    found = [one for one in usage.unneeded(store, home) if one.kind == "warm"]
    assert [one.name for one in found] == [other.name]
    assert [one.name for one in usage.prune(store, home, found)] == [other.name]
    assert not other.exists()
    assert len(list(warm.warm_images(store))) == 1


def test_image_takes_its_warm_ones_along(home, store, made, use):
    """Deleting an image deletes its warm images, which are useless without it; instances keep their hard links."""
    use("web", made())
    Images(home).delete("tiny", ARCH)
    assert list(store.warm.iterdir()) == []
    assert (home.directory("web") / WARM / "memory").read_bytes() == b"memory"


def test_warm_images_can_go_alone(home, made):
    """Deleting the warm images keeps the image."""
    made()
    assert Images(home).delete_warm("tiny", ARCH) == 1
    assert Images(home).delete_warm("tiny", ARCH) == 0
    assert [image.name for image in Images(home).list()] == ["tiny"]


def test_image_whose_guests_have_no_agent_is_refused(engine, tiny):
    """An image without an agent, or a driver without warm images, is refused before anything is booted."""
    foreign = tiny.__class__(**{**{name: getattr(tiny, name) for name in tiny.__slots__}, "first_boot": ("nocloud",)})
    with pytest.raises(ImageError, match="no agent"):
        warming.make(engine, QemuDriver(), foreign, Wishes(), unheard)
    with pytest.raises(HostError, match="no warm images"):
        warming.make(engine, SimulatedDriver(), tiny, Wishes(), unheard)


def test_dry_run_says_what_would_be_made_and_makes_nothing(engine, store, tiny):
    """The step names the temporary instance and the folder of the warm image."""
    said = []
    assert warming.make(engine, QemuDriver(), tiny, Wishes(), said.append, dry_run=True) is None
    (line,) = said
    assert line.startswith("creates and boots the instance warming-tiny, keeps its memory and disk in ")
    assert f"{store.warm}/ " in line
    assert (store.warm.exists(), list(engine.statuses())) == (False, [])


@pytest.mark.parametrize("dry_run", [False, True])
def test_instance_of_somebody_with_the_name_that_a_warm_image_needs_is_left_alone(engine, home, tiny, dry_run):
    """The existing instance may be valuable, so no image is made; the hint renames the instance."""
    Interlock(home).create("warming-tiny", "tiny", driver="simulated")
    with pytest.raises(IllegalTransitionError, match='instance "warming-tiny" was not made by `image warm`') as refused:
        warming.make(engine, QemuDriver(), tiny, Wishes(), unheard, dry_run=dry_run)
    assert refused.value.hint == "interlock rename warming-tiny new-name"
    assert engine.status("warming-tiny").state is State.created


def test_instance_that_a_killed_image_warm_left_is_removed(engine, tiny, spec, monkeypatch):
    """Such an instance is recognized by the origin in its spec."""

    def no_further(*_):
        raise ImageError("no further")

    engine.create("warming-tiny", lambda _: Draft(spec._replace(origin="image warm tiny"), {}))
    monkeypatch.setattr(warming, "plan", lambda *_: no_further)
    with pytest.raises(ImageError, match="no further"):
        warming.make(engine, QemuDriver(), tiny, Wishes(), unheard)
    assert not engine.status("warming-tiny").exists


def test_create_of_a_name_that_is_taken_makes_no_warm_image(home, monkeypatch):
    """Making one would take minutes, and the creation would be refused anyway."""
    vms = Interlock(home)
    vms.create("web", "tiny", driver="simulated")
    monkeypatch.setattr(warming, "ensure", lambda *_: pytest.fail("a warm image is made"))
    with pytest.raises(IllegalTransitionError):
        vms.create("web", "tiny", Wishes(warm=True), driver="simulated")
