"""Upgrades are safe: files of earlier versions are read and kept, and their instances work."""

import json
import re
import shutil
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers import simulated
from interlock.drivers.qemu import host_ports, ssh_port
from interlock.drivers.qemu.command import RECORD, Board
from interlock.errors import DamagedError, DriverError, TooNewError
from interlock.fsm import journal as journal_module
from interlock.fsm import spec as spec_module
from interlock.fsm import words
from interlock.fsm.journal import FILE, Journal, Line, Phase
from interlock.fsm.records import now
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host.process import boot_id, this_process
from interlock.version import __version__

RELEASES = sorted((Path(__file__).parents[1] / "releases").iterdir())


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def vms(request, home):
    """Return the API on a home that an earlier version wrote."""
    home.prepare()
    for written in ("vm", "web"):
        keep(request.param / written, home.directory(written))
    return Interlock()


def keep(written, directory):
    """Copy the instance `written` to `directory`, which is made private like ours."""
    shutil.copytree(written, directory)
    directory.chmod(0o700)


CUT_SHORT = [directory for release in RELEASES for directory in sorted(release.glob("cut_short/*"))]

SETTLED = {
    "creating": (State.absent, State.absent),
    "deleting": (State.absent, State.absent),
    "provisioning": (State.running, State.stopped),
    "resetting": (State.created, State.created),
    "starting": (State.running, State.created),
    "stopping": (State.stopped, State.stopped),
}
"""The state after an interrupted operation is settled: in the same boot of the host, and after a reboot."""


@pytest.mark.parametrize("rebooted", [False, True], ids=["", "rebooted"])
@pytest.mark.parametrize("written", CUT_SHORT, ids=lambda path: path.name)
def test_operation_in_which_an_earlier_version_was_killed_is_settled(written, rebooted, home, injected):
    """After an upgrade in the middle of an operation, its row's rule settles it, and the instance remains usable."""
    home.prepare()
    name = written.name
    directory = home.creating(name) if name == "creating" else home.directory(name)
    keep(written, directory)
    if not rebooted:
        for record in (directory / FILE, directory / simulated.FILE):
            if record.exists():
                record.write_text(re.sub(r'("boot_id": ?")[^"]+', rf"\g<1>{boot_id()}", record.read_text()))
    vms = Interlock()
    if vms.status(name).state is not State.absent:
        vms.protect(name)  # a request first settles the interrupted operation
    status = vms.status(name)
    assert (status.state, status.operation, status.damage) == (SETTLED[name][rebooted], None, None)
    if status.state is not State.absent:
        assert vms.start(vms.unprotect(name).instance).state is State.running
        assert vms.delete(name, force=True).state is State.absent
    injected("an upgrade in the middle of an operation")


def test_list_of_what_an_earlier_version_wrote_shows_every_instance_whole(vms):
    """No instance is damaged; one that ran when the host went down is reported as such."""
    assert {status.name: words.status(status) for status in vms.instances()} == {
        "vm": "stopped · ended by force: the guest did not shut down in 1 s",
        "web": "stopped · host went down",
    }


def test_instance_of_an_earlier_version_lives_on(vms):
    """It can be started, stopped, reset and deleted like any other."""
    assert vms.start("web").state is State.running
    assert vms.stop("web").state is State.stopped
    assert vms.reset("web").state is State.created
    assert vms.delete("web").state is State.absent
    assert vms.delete("vm").state is State.absent


def test_machine_of_an_earlier_version_has_its_board(vms, home):
    """Its guest keeps seeing the same devices."""
    assert vms.status("vm").spec.forwards[0].host_port == 18080
    assert Board.read(home.directory("vm")) == Board(machine="pc-q35-7.2", panic_device=True)


def test_record_with_unknown_fields_is_read_and_kept(vms, home):
    """Fields that a later version added are ignored, and are still there after a start, a stop and a reset."""
    spec = home.directory("web") / SPEC_FILE
    data = {**json.loads(spec.read_bytes()), "colour": "red"}
    spec.write_text(json.dumps(data))
    board = home.directory("vm") / RECORD
    board.write_text(json.dumps({**json.loads(board.read_bytes()), "colour": "red"}))
    assert Board.read(home.directory("vm")).panic_device
    vms.start("web")
    vms.reset(vms.stop("web").instance)
    assert json.loads(spec.read_bytes()) == data


def test_record_of_a_driver_keeps_unknown_fields_when_it_is_rewritten(vms, home, monkeypatch):
    """If the newer version is used again, it finds its own fields and the schema of the record."""
    machine, network = home.directory("web") / simulated.FILE, home.directory("vm") / ssh_port.RECORD
    for record in (machine, network):
        data = json.loads(record.read_bytes())
        assert "schema" not in data
        record.write_text(json.dumps({**data, "colour": {"of": "red"}}))
    vms.start("web")
    vms.stop("web")
    monkeypatch.setattr(host_ports, "free", lambda port: port == 23456)
    monkeypatch.setattr(ssh_port, "_PORTS", range(23456, 23457))
    assert ssh_port.choose(vms.engine.site("vm"), print) == 23456
    for record in (machine, network):
        data = json.loads(record.read_bytes())
        assert (data["colour"], data["schema"]) == ({"of": "red"}, 1)
    assert json.loads(network.read_bytes())["ssh_port"] == 23456


def test_record_of_a_driver_in_a_newer_schema_is_neither_misread_nor_overwritten(vms, home):
    """The content of a newer schema is not guessed; a start says which version is needed."""
    machine, network = home.directory("web") / simulated.FILE, home.directory("vm") / ssh_port.RECORD
    for record in (machine, network):
        record.write_text('{"schema": 2, "version": "7.1.0"}')
    with pytest.raises(DriverError, match=r"written by Interlock 7\.1\.0 in schema 2"):
        vms.start("web")
    assert ssh_port.recorded(home.directory("vm")) is None
    with pytest.raises(TooNewError, match=r"written by Interlock 7\.1\.0 in schema 2"):
        ssh_port.choose(vms.engine.site("vm"), print)
    assert {record.read_text() for record in (machine, network)} == {'{"schema": 2, "version": "7.1.0"}'}


def test_journal_line_without_what_has_a_default_is_read(vms, home):
    """Missing fields get their defaults, and unknown fields are ignored."""
    text = (home.directory("web") / FILE).read_bytes().splitlines()[-1]
    data = json.loads(text)
    del data["elapsed_s"]
    line = Line.parse(json.dumps({**data, "colour": "red", "error": {"reference": "x", "message": "y"}}).encode())
    assert (line.elapsed_s, line.error) == (0.0, {"reference": "x", "message": "y"})
    assert vms.status("web").state is State.stopped


def newer(**changes):
    """Return a journal line as a future version would write it, with `changes`."""
    line = {**a_line().to_json(), "version": "7.1.0", "colour": "red", **changes}
    return json.dumps(line).encode() + b"\n"


def a_line():
    """Return a line that records the outcome of a start."""
    return Line(Trigger.start, State.stopped, State.running, Phase.done, this_process(), now(), seq=99)


NEWER = {
    "trigger": newer(trigger="teleport"),
    "phase": newer(phase="paused"),
    "state": newer(source="hibernated", dest="hibernated"),
    "schema": newer(schema=2, trigger="teleport"),
    "schema of words that are known": newer(schema=2),
}


@pytest.fixture(params=NEWER)
def newer_line(request):
    return NEWER[request.param]


def test_journal_that_ends_in_a_line_of_a_newer_version_is_too_new(vms, home, newer_line, injected):
    """The error names the version; the instance is left alone, and no hint proposes to repair or delete it."""
    path = home.directory("web") / FILE
    path.write_bytes(before := path.read_bytes() + newer_line)
    assert "written by Interlock 7.1.0 " in words.status(vms.status("web"))
    assert "damaged" not in words.status(vms.status("web"))
    for call in (vms.start, vms.stop, vms.delete, vms.repair, vms.can):
        with pytest.raises(
            TooNewError, match=rf"{FILE}: written by Interlock 7\.1\.0 .*; this is Interlock"
        ) as refused:
            call("web")
        assert refused.value.hint == "interlock --version"
    assert before == path.read_bytes()
    assert vms.delete("web", force=True).state is State.absent
    injected("a journal line of a newer version")


def test_journal_with_a_line_of_a_newer_version_shows_and_keeps_it(vms, home, newer_line, injected):
    """The line is shown unchanged, a repair sets only damaged lines aside, and the instance can be started."""
    path = home.directory("web") / FILE
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([newer_line, first, b"garbage\n", *rest]))
    assert "1 line of the journal" in " ".join(vms.repair("web").mended)
    assert path.read_bytes().startswith(newer_line + first)
    vms.start("web")
    shown = next(vms.history("web"))
    said = json.loads(newer_line)
    assert {**shown.to_json(), "colour": "red"} == said
    assert shown.state == said["dest" if said["phase"] == "done" else "source"]
    injected("a journal line of a newer version")


@pytest.mark.usefixtures("vms")
def test_journal_that_is_shortened_keeps_each_byte_of_its_lines(home, newer_line, monkeypatch):
    """Fields and words of a newer version are kept for when that version reads the journal again."""
    path = home.directory("web") / FILE
    with path.open("ab") as file:
        file.write(newer_line)
    monkeypatch.setattr(journal_module, "LIMIT_BYTES", 0)
    monkeypatch.setattr(journal_module, "KEPT_BYTES", len(newer_line) + 1)
    Journal(home.directory("web")).append(a_line(), seq=100)
    assert path.read_bytes().startswith(newer_line)


def test_unknown_word_in_a_line_of_this_version_is_damage(vms, home):
    """A line that claims to be of this version is not attributed to a newer one."""
    path = home.directory("web") / FILE
    with path.open("ab") as file:
        file.write(newer(trigger="teleport", version=__version__))
    assert words.status(vms.status("web")).startswith("damaged · ")
    assert vms.repair("web").state is State.stopped


def in_megabytes(data):
    """Turn a spec of schema 1 into one of an invented schema 2, whose `memory_bytes` counts MB."""
    return {**data, "memory_bytes": data["memory_bytes"] // 1_000_000}


def test_record_of_an_older_schema_is_migrated_on_every_read_and_left_as_it_is(vms, home, monkeypatch):
    """If a field changes its meaning, older records are converted when read, by one function per schema."""
    path = home.directory("vm") / SPEC_FILE
    before = path.read_bytes()
    then = json.loads(before)["memory_bytes"]
    monkeypatch.setattr(spec_module, "MIGRATIONS", (in_megabytes, lambda data: {**data, "cpus": data["cpus"] + 1}))
    spec = vms.status("vm").spec
    assert (spec.memory_bytes, spec.cpus, spec.schema) == (then // 1_000_000, 2, 3)
    vms.reset("vm")
    assert path.read_bytes() == before


def test_record_that_is_half_migrated_goes_the_rest_of_the_way(vms, home, monkeypatch):
    """Migration begins at the record's own schema."""
    path = home.directory("vm") / SPEC_FILE
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": 2}))
    monkeypatch.setattr(spec_module, "MIGRATIONS", (in_megabytes, lambda data: {**data, "cpus": data["cpus"] + 1}))
    spec = vms.status("vm").spec
    assert (spec.memory_bytes, spec.cpus, spec.schema) == (67108864, 2, 3)


def test_record_that_a_migration_cannot_read_is_damage(vms, home, monkeypatch):
    """A field that the migration needs and that is missing is damage, not a defect."""
    path = home.directory("vm") / SPEC_FILE
    monkeypatch.setattr(spec_module, "MIGRATIONS", (in_megabytes,))
    data = json.loads(path.read_bytes())
    del data["memory_bytes"]
    path.write_text(json.dumps(data))
    assert words.status(vms.status("vm")).startswith("damaged · ")
    assert "not a record of schema 1 (KeyError('memory_bytes'))" in vms.status("vm").damage


def test_journal_line_of_an_older_schema_is_migrated(vms, monkeypatch):
    """Journals are migrated line by line."""
    monkeypatch.setattr(journal_module, "MIGRATIONS", (lambda data: {**data, "detail": "of old"},))
    assert {line.detail for line in vms.history("web")} == {"of old"}


def test_record_of_a_newer_version_names_it_and_is_not_called_damaged(vms, home):
    """Every error names the version that wrote it, and no hint proposes to delete the healthy instance."""
    path = home.directory("vm") / SPEC_FILE
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": 2, "version": "7.1.0"}))
    assert words.status(vms.status("vm")).startswith("stopped · ")
    for call in (vms.start, vms.reset, vms.delete, vms.repair, vms.can):
        with pytest.raises(
            TooNewError, match=r"written by Interlock 7\.1\.0 in schema 2; this is Interlock"
        ) as refused:
            call("vm")
        assert refused.value.hint == "interlock --version"
    assert vms.delete("vm", force=True).state is State.absent


@pytest.mark.parametrize("content", ['{"schema": 2, "machine": "x"}', '{"schema": "1", "machine": "x"}', "[]"])
def test_board_that_cannot_be_read_says_why(tmp_path, content):
    """A newer record is not damage."""
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(TooNewError if '"schema": 2' in content else DamagedError, match=RECORD):
        Board.read(tmp_path)
