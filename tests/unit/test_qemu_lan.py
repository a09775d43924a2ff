"""The host's side of the network of instances: who is on it, who learns the names, who is refused."""

from types import SimpleNamespace

import pytest

from interlock.drivers.contract import Deadline, Site
from interlock.drivers.qemu import adopted, agent, boot, hypervisor, lan, saved, ssh_control
from interlock.errors import DriverError
from interlock.fsm.spec import SPEC_FILE, UNREADABLE, written
from interlock.guest.lan import place
from interlock.host.home import Home, make_runtime


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes an instance on the network, with a socket there, running unless `alive` is false."""
    monkeypatch.setattr(hypervisor, "look", lambda directory: SimpleNamespace(alive=(directory / "alive").exists()))

    def make(name, *, alive=True, instance_id=None):
        spec = UNREADABLE._replace(lan="lima0", instance_id=instance_id or f"i-{name}")
        directory = tmp_path / "instances" / name
        directory.mkdir(parents=True)
        (directory / SPEC_FILE).write_bytes(written(spec.to_json()))
        site = Site(name, directory, Home(tmp_path, tmp_path / "run").sockets(name), spec)
        make_runtime(site.runtime, directory)
        lan.prepare(site)
        lan._socket(site).touch()
        if alive:
            (directory / "alive").touch()
        return site

    return make


@pytest.fixture
def heard(monkeypatch):
    """Return what was sent to the guests' agents: runtime directory → (verb, argument)."""
    said = {}
    monkeypatch.setattr(agent, "listens", lambda _: True)
    monkeypatch.setattr(agent, "ask", lambda runtime, verb, argument, **_: said.update({runtime: (verb, argument)}))
    return said


def test_everybody_who_runs_learns_the_names_of_all(make, heard):
    """Both the new guest and those already up learn the names of all running instances; stopped ones are left out."""
    web, db = make("web"), make("db")
    make("down", alive=False)
    lan.introduce(web, [].append)
    assert heard.keys() == {web.runtime, db.runtime}
    (verb, words), other = heard.values()
    assert (verb, words) == ("peers", other[1])
    for name in ("web", "db"):
        assert f"{place(f'i-{name}').address}\\0040lima-{name}.internal\\0040{name}.interlock.internal" in words
    assert "down" not in words


def test_instance_that_is_damaged_disturbs_no_other(make, heard):
    """Its spec cannot be read, so its address is unknown; the other instances start all the same."""
    web, db = make("web"), make("db")
    (db.directory / SPEC_FILE).write_text("{")
    lan.prepare(web)
    lan.introduce(web, [].append)
    assert heard.keys() == {web.runtime}


def test_guest_that_cannot_be_informed_is_no_failure(make, monkeypatch):
    """The start reports it and continues."""
    monkeypatch.setattr(agent, "listens", lambda _: False)
    monkeypatch.setattr(ssh_control, "call", lambda _: False)
    steps = []
    lan.introduce(make("web"), steps.append)
    assert steps == ["the guest did not learn the names of the others"]


def test_instance_at_the_place_of_another_that_runs_is_refused(make):
    """It would receive the other's frames."""
    make("web", instance_id="i-1")
    with pytest.raises(DriverError, match='running instance "web" has the same address'):
        make("db", instance_id="i-1")


def test_place_of_one_that_is_down_is_free(make):
    """Only running instances can have conflicting addresses."""
    make("web", alive=False, instance_id="i-1")
    make("db", instance_id="i-1")


@pytest.mark.parametrize("undecided", [True, False])
def test_copy_is_unplugged_until_it_has_its_own_place(make, monkeypatch, undecided):
    """It is unplugged before its processors run, because its memory still has the addresses of the original."""
    calls = []
    monkeypatch.setattr(adopted, "is_undecided", lambda _: undecided)
    monkeypatch.setattr(lan, "plug", lambda _, *, plugged: calls.append(plugged))
    monkeypatch.setattr(saved, "release", lambda *_: calls.append("runs"))
    boot._let_run(make("copy"), Deadline(60.0))
    assert calls == [not undecided, "runs"]


def test_machine_that_is_on_no_network_has_no_part_of_it(tmp_path):
    """It gets no card, no switch and no folder."""
    site = Site("web", tmp_path / "web", tmp_path / "run/key", UNREADABLE)
    lan.prepare(site)
    lan.plug(site, plugged=True)
    assert (lan.arguments(site, None), lan.beside(site), list(tmp_path.glob("run/*"))) == ([], [], [])
