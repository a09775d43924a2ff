"""An upgrade harms nobody: what an earlier version wrote is read, lived with, and kept."""

import json
import shutil
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers.qemu.command import RECORD, Board
from interlock.errors import DamagedError, TooNewError
from interlock.fsm import words
from interlock.fsm.journal import FILE, Line
from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import State

RELEASES = sorted((Path(__file__).parents[1] / "releases").iterdir())


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def vms(request, home):
    """Return the API on a home that an earlier version wrote."""
    home.prepare()
    for written in request.param.iterdir():
        if written.is_dir():
            shutil.copytree(written, home.directory(written.name))
            home.directory(written.name).chmod(0o700)
    return Interlock()


def test_list_of_what_an_earlier_version_wrote_shows_every_instance_whole(vms):
    """Neither is damaged; what ran when the host went down is told as that."""
    assert {status.name: words.status(status) for status in vms.instances()} == {
        "vm": "stopped · ended by force: the guest did not shut down in 1 s",
        "web": "stopped · host went down",
    }


def test_instance_of_an_earlier_version_lives_on(vms):
    """It is started, stopped, reset and deleted like any other."""
    assert vms.start("web").state is State.running
    assert vms.stop("web").state is State.stopped
    assert vms.reset("web").state is State.created
    assert vms.delete("web").state is State.absent
    assert vms.delete("vm").state is State.absent


def test_machine_of_an_earlier_version_has_its_board(vms, home):
    """Its guest sees the same devices for ever."""
    assert vms.status("vm").spec.forwards[0].host_port == 18080
    assert Board.read(home.directory("vm")) == Board(machine="pc-q35-7.2", panic_device=True)


def test_record_with_unknown_fields_is_read_and_kept(vms, home):
    """What a later version added is ignored, and is still there after a life."""
    spec = home.directory("web") / SPEC_FILE
    data = {**json.loads(spec.read_bytes()), "colour": "red"}
    spec.write_text(json.dumps(data))
    board = home.directory("vm") / RECORD
    board.write_text(json.dumps({**json.loads(board.read_bytes()), "colour": "red"}))
    assert Board.read(home.directory("vm")).panic_device
    vms.start("web")
    vms.reset(vms.stop("web").instance)
    assert json.loads(spec.read_bytes()) == data


def test_journal_line_without_what_has_a_default_is_read(vms, home):
    """So is one with a field that this version does not know."""
    text = (home.directory("web") / FILE).read_bytes().splitlines()[-1]
    data = json.loads(text)
    del data["elapsed_s"]
    line = Line.parse(json.dumps({**data, "colour": "red", "error": {"reference": "x", "message": "y"}}).encode())
    assert (line.elapsed_s, line.error) == (0.0, {"reference": "x", "message": "y"})
    assert vms.status("web").state is State.stopped


def test_record_of_a_newer_version_names_it_and_is_not_called_damaged(vms, home):
    """Which version is needed stands in the list and in every error; no hint proposes to remove what is whole."""
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
    """A newer one is told apart from damage."""
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(TooNewError if '"schema": 2' in content else DamagedError, match=RECORD):
        Board.read(tmp_path)
