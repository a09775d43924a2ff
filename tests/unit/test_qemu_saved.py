"""Which machine a saved memory fits, and every reason not to use it."""

import json
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from interlock.drivers.contract import Deadline, Site
from interlock.drivers.qemu import hypervisor, saved
from interlock.drivers.qemu.command import Board, build
from interlock.errors import DeadlineError, DriverError
from interlock.fsm.records import is_saved
from interlock.fsm.spec import Mount
from interlock.host.process import this_process

from .test_qemu_command import capable
from .test_qemu_command import site as a_site

VERSION = "7.2.22"


def command(site: Site, accelerator="tcg", ssh_port=22022, **changes) -> list[str]:
    able = capable("x86_64", **changes)
    return build(site, Board.newest(able), able, accelerator, ssh_port)


@pytest.fixture
def site(tmp_path) -> Site:
    """Return a site with a disk and a memory that was saved with it."""
    site = a_site(tmp_path)
    (tmp_path / "disk.qcow2").write_bytes(b"disk")
    folder = tmp_path / saved.SAVED
    folder.mkdir()
    (folder / saved.MEMORY).write_bytes(b"memory")
    (folder / saved.DEVICES).write_bytes(b"devices")
    record = {
        "machine": saved.fingerprint(VERSION, command(site)),
        "written": saved._written(site),
        "memory_bytes": 6,
        "devices": saved._stamp(folder / saved.DEVICES),
        "common": False,
        "schema": 1,
    }
    (folder / saved.RECORD).write_text(json.dumps(record))
    return site


def test_memory_fits_its_machine_behind_another_port_and_name(site):
    """The things that the guest cannot see may change: the port, the name, the path of the sockets."""
    moved = Site("other", site.directory, Path("/run/elsewhere"), site.spec)
    assert saved.misfit(moved, VERSION, command(moved, ssh_port=22023)) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"accelerator": "kvm"}, "it was saved by a machine with accelerator tcg; this one has kvm"),
        ({"devices": []}, "it was saved by a machine with devices virtio-net-pci,"),
    ],
)
def test_memory_of_another_machine_does_not_fit(site, changes, why):
    """The reason says what differs."""
    assert why in saved.misfit(site, VERSION, command(site, **changes))


def test_memory_of_another_qemu_does_not_fit(site):
    """Versioned machine types promise compatibility, but memory is only resumed by the QEMU version that saved it."""
    found = saved.misfit(site, "8.0.0", command(site))
    assert found == f"it was saved by a machine with QEMU {VERSION}; this one has 8.0.0"


@pytest.mark.parametrize(
    ("spec", "kind"), [({"cpus": 4}, "number of processors"), ({"memory_bytes": 2 << 30}, "memory")]
)
def test_memory_of_another_size_does_not_fit(site, spec, kind):
    """An edited spec describes a different machine."""
    other = site._replace(spec=site.spec._replace(**spec))
    assert f"by a machine with {kind}" in saved.misfit(other, VERSION, command(other))


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (lambda at: (at / "disk.qcow2").write_bytes(b"later"), "disk.qcow2 was changed since"),
        (lambda at: (at / "disk.qcow2").unlink(), "disk.qcow2 is missing"),
        (lambda at: (at / "firmware.vars.fd").touch(), "firmware.vars.fd was changed since"),
        (lambda at: (at / saved.SAVED / saved.MEMORY).write_bytes(b"mem"), "it is damaged"),
        (lambda at: (at / saved.SAVED / saved.DEVICES).write_bytes(b"devicez"), "it is damaged"),
        (lambda at: (at / saved.SAVED / saved.MEMORY).unlink(), "memory is missing"),
        (lambda at: (at / saved.SAVED / saved.RECORD).unlink(), "saved.json is missing"),
        (lambda at: (at / saved.SAVED / saved.RECORD).write_bytes(b"[]"), "it cannot be read"),
        (lambda at: (at / saved.SAVED / saved.RECORD).write_bytes(b"\xff"), "it cannot be read"),
    ],
)
def test_memory_older_than_its_disk_or_incomplete_does_not_fit(site, deed, why):
    """Each case has its own reason."""
    deed(site.directory)
    assert saved.misfit(site, VERSION, command(site)) == why


def test_memory_whose_disk_was_replaced_by_its_like_does_not_fit(site):
    """A reset makes a disk of the same size, and within one clock tick even with the same modification time."""
    disk = site.directory / "disk.qcow2"
    shutil.copy2(disk, site.directory / "fresh")
    (site.directory / "fresh").replace(disk)
    assert saved.misfit(site, VERSION, command(site)) == "disk.qcow2 was changed since"


def test_memory_that_is_set_aside_is_not_there_for_a_start(site):
    """It is kept under another name."""
    saved.set_aside(site.directory)
    assert not is_saved(site.directory)
    assert (site.directory / saved.OLD / saved.MEMORY).exists()


def test_forget_leaves_no_memory_nor_what_a_crash_left(site):
    """The remains of a memory that was never completely saved are removed too."""
    (site.directory / f".{saved.SAVED}.0badcafe").mkdir()
    saved.forget(site.directory)
    assert [path for path in site.directory.iterdir() if saved.SAVED in path.name] == []


def backends(command):
    return [word for word in command if word.startswith("memory-backend-")]


def test_memory_that_is_common_to_copies_is_mapped_privately(site):
    """Copies share the pages that they do not write; pages that a copy writes are private to it."""
    assert backends(saved.incoming(site, command(site))) == ["memory-backend-memfd,id=memory,size=1024M,share=on"]
    record = site.directory / saved.SAVED / saved.RECORD
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "common": True}))
    mapped = saved.incoming(site, command(site))
    assert backends(mapped) == ["memory-backend-file,mem-path=saved/memory,id=memory,size=1024M,share=off"]
    assert saved.fingerprint(VERSION, mapped) == saved.fingerprint(VERSION, command(site))


def test_memory_that_lies_among_the_devices_is_whole_without_a_file_of_its_own(site):
    """The memory of a mapped copy is saved in the devices file; a long file is checked by its length only."""
    folder = site.directory / saved.SAVED
    record = json.loads((folder / saved.RECORD).read_bytes())
    with (folder / saved.DEVICES).open("wb") as file:
        file.truncate(saved._DEVICES_BYTES + 1)
    (folder / saved.MEMORY).unlink()
    devices = saved._stamp(folder / saved.DEVICES)
    assert devices == [saved._DEVICES_BYTES + 1, None]
    (folder / saved.RECORD).write_text(json.dumps({**record, "memory_bytes": None, "devices": devices}))
    assert saved.misfit(site, VERSION, command(site)) is None
    assert backends(saved.incoming(site, command(site))) == ["memory-backend-ram,id=memory,size=1024M,share=off"]
    os.truncate(folder / saved.DEVICES, saved._DEVICES_BYTES)
    assert saved.misfit(site, VERSION, command(site)) == "it is damaged"


def test_copy_keeps_holes(tmp_path):
    """Memory that the guest never wrote takes no space on the disk."""
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x" * 5000)
    with source.open("rb") as one, target.open("wb") as other:
        other.truncate(64 << 20)
        saved._copy(one.fileno(), other.fileno(), Deadline(60))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20


def test_copy_without_time_is_given_up(tmp_path):
    """The caller's deadline holds while the memory is written."""
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"x")
        file.flush()
        with pytest.raises(DeadlineError, match="not saved within 0 s"):
            saved._copy(file.fileno(), file.fileno(), Deadline(0))


class Scripted:
    """A monitor that gives the answers in `answers`, the last one again and again; `asked` is what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, question, **_):
        self.asked.append(question)
        left = self.answers[question.replace("-", "_")]
        return {"status": left.pop(0) if len(left) > 1 else left[0]}


ENDING = ["finish-migrate", "finish-migrate", "postmigrate"]


def test_migration_is_waited_for_until_the_machine_can_continue():
    """QEMU says that a migration is completed a moment before it allows `cont`."""
    monitor = Scripted(query_migrate=["setup", "active", "completed"], query_status=[*ENDING])
    saved._migrated(monitor, Deadline(60))
    assert monitor.asked == ["query-migrate"] * 3 + ["query-status"] * 3
    with pytest.raises(saved.LateError, match="does not end its migration"):
        saved._migrated(Scripted(query_migrate=["completed"], query_status=["finish-migrate"]), Deadline(0))


def test_cancelled_migration_is_waited_for_until_the_machine_can_continue(site, monkeypatch):
    """The same holds after a cancellation."""
    states = {"query_migrate": ["active", "cancelled"], "migrate_cancel": [""], "query_status": [*ENDING]}
    monitor = Scripted(**states)
    monkeypatch.setattr(saved, "Monitor", lambda *_: monitor)
    saved.call_off(site)
    assert monitor.asked == ["query-migrate", "migrate_cancel", "query-migrate", *["query-status"] * 3]


def test_mounts_are_refused_with_the_way_out(tmp_path):
    """QEMU cannot save a guest that has a host folder mounted, whatever the type of the mount."""
    mounted = a_site(tmp_path, mounts=(Mount("/srv", "/srv", writable=False, type="9p", security_model="none"),))
    with pytest.raises(DriverError, match="/srv is mounted in the guest by 9p") as refused:
        saved.refuse(mounted, this_process())
    assert refused.value.hint == "interlock stop web"


def test_hypervisor_of_an_older_version_is_refused_with_the_way_out(tmp_path):
    """It was started without memory that can be saved; here the test process stands in for it."""
    with pytest.raises(DriverError, match="by an older version") as refused:
        saved.refuse(a_site(tmp_path), this_process())
    assert refused.value.hint == "interlock restart web"


def test_command_of_a_process_is_what_it_was_started_with():
    """The result is empty if there is no such process."""
    assert hypervisor.command(this_process()) == sys.orig_argv
    assert hypervisor.command(this_process()._replace(pid=1 << 22)) == []


@pytest.mark.parametrize(
    ("running", "spec", "differs"),
    [
        (VERSION, {"cpus": 2}, "number of processors 1; the next start has 2"),
        ("7.0.0", {}, f"QEMU 7.0.0; the next start has {VERSION}"),
    ],
)
def test_memory_that_would_not_fit_the_next_start_is_refused_with_the_way_out(
    monkeypatch, site, running, spec, differs
):
    """The spec was edited or QEMU upgraded while the machine ran; its memory could not be resumed and would be lost."""
    site = site._replace(spec=site.spec._replace(cpus=1))
    monkeypatch.setattr(hypervisor, "command", lambda _: command(site))
    monkeypatch.setattr(saved, "Monitor", lambda *_: nullcontext())
    monkeypatch.setattr(saved, "_version", lambda _: running)
    saved.refuse_changed(site, this_process(), running, command(site))
    after = site._replace(spec=site.spec._replace(**spec))
    with pytest.raises(DriverError) as refused:
        saved.refuse_changed(after, this_process(), VERSION, command(after))
    assert refused.value.message.endswith(f"the machine runs with {differs}")
    assert refused.value.hint == "interlock stop web"
