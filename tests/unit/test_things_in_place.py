"""Whatever is found in place of an instance's file, no reader hangs, and the instance can be removed."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers.contract import Site
from interlock.drivers.qemu import driver
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import DriverError
from interlock.fsm.spec import Forward
from interlock.fsm.states import EXISTING, State
from interlock.host.files import RECORD_BYTES

SIMULATED = (".", "spec.json", "journal.jsonl", "machine.json", "seed", "protected")
QEMU = re.findall(r"^ {4}[├└]── (\S+?)(?:, (\S+))?  ", driver.__doc__, re.MULTILINE)


def names(listed):
    """Yield the files that the driver's docstring lists, as `events.in, events.out` or `forwards.sock, .json`."""
    for first, second in listed:
        yield first.replace("*", "code").replace("N", "0")
        if second:
            yield first.rpartition(".")[0] + second if second.startswith(".") else second


@pytest.fixture(autouse=True)
def bounded(monkeypatch):
    """Fail a test that hangs or reads more of a file than a record may have."""
    taken, pread = [0], os.pread

    def measured(descriptor, size, offset):
        taken.append(size)
        return pread(descriptor, min(size, RECORD_BYTES), offset)

    def give_up(*_):
        raise AssertionError("it hangs")

    monkeypatch.setattr(os, "pread", measured)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    assert max(taken) <= RECORD_BYTES
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("state", EXISTING)
def test_the_names_are_all_that_an_instance_has(home, bring, state):
    """The list for the next tests leaves no file out."""
    bring("web", state)
    assert {path.name for path in home.directory("web").iterdir()} <= set(SIMULATED)


@pytest.mark.parametrize("name", SIMULATED)
def test_delete_with_force_over_anything_in_place_of_a_file_leaves_nothing(engine, home, bring, thing, name):
    """The damaged instance is listed beside a healthy one, and is removed completely."""
    bring("web", State.running)
    bring("db", State.created)
    thing(home.directory("web") / name)
    assert [status.name for status in engine.statuses()] == ["db", "web"]
    if name == "protected":
        Interlock(home).unprotect("web")
    Interlock(home).delete("web", force=True)
    assert [status.name for status in engine.statuses()] == ["db"]
    assert list(home.root.rglob("web")) == []


BESIDE = [(place, state) for place in ("lock", "creating", "deleting") for state in (State.absent, State.stopped)]


@pytest.mark.parametrize(("place", "state"), [*BESIDE, ("sockets", State.stopped)])
def test_delete_with_force_over_anything_beside_it_leaves_nothing(engine, home, bring, thing, state, place):
    """The same is true of an instance's files outside its directory."""
    bring("db", State.created)
    bring("web", state)
    thing(getattr(home, place)("web"))
    assert "db" in [status.name for status in engine.statuses()]
    Interlock(home).delete("web", force=True)
    assert [path for root in (home.root, home.runtime) for path in root.rglob(getattr(home, place)("web").name)] == []


def test_delete_with_force_of_what_cannot_be_moved_removes_what_is_in_it(home, bring, monkeypatch):
    """If the directory cannot be renamed (a mount point), its content is removed, and the error names what is left."""
    bring("web", State.stopped)
    directory, journal = home.directory("web"), home.directory("web") / "journal.jsonl"
    home.sockets("web").mkdir(parents=True)
    (directory / "spec.json").write_bytes(b"")
    replace_, unlink = Path.replace, Path.unlink

    def busy(path, target):
        if path == directory:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        return replace_(path, target)

    def immutable(path, **named):
        if path == journal:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        return unlink(path, **named)

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(Path, "unlink", immutable)
    with pytest.raises(DriverError, match=re.escape(f"{journal} could not be removed: Operation not permitted")):
        Interlock(home).delete("web", force=True)
    assert list(directory.iterdir()) == [journal]
    assert not home.sockets("web").exists()
    monkeypatch.undo()
    Interlock(home).delete("web", force=True)
    assert not directory.exists()


def test_qemu_driver_over_anything_in_place_of_a_file_sees_and_ends(tmp_path, spec, thing):
    """The driver can observe a damaged machine, and neither `kill` nor `delete` fails."""
    forward = Forward("tcp", "127.0.0.1", 80, "", "127.0.0.1", 8080, "", reverse=False)
    site = Site("web", tmp_path / "web", tmp_path / "sockets", spec._replace(driver="qemu", forwards=(forward,)))
    driver = QemuDriver()
    for name in names(QEMU):
        for folder in (site.directory, site.runtime):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            thing(folder / name)
        assert not driver.observe(site).alive
        driver.kill(site, print)
        driver.delete(site, print)
        assert not site.runtime.exists()
