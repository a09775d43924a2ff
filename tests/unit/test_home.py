"""The home is where the environment says, private, and refused if others can write to it."""

import os
import stat
from pathlib import Path

import pytest

from interlock.errors import HostError
from interlock.host.home import Home


def test_from_environment_prefers_interlock_home(tmp_path):
    """$INTERLOCK_HOME is the root itself."""
    assert Home.from_environment().root == tmp_path / "home"


def test_from_environment_without_it_takes_the_data_home(monkeypatch):
    """The home is a folder in $XDG_DATA_HOME; if that is unset, in the default of the XDG specification."""
    monkeypatch.delenv("INTERLOCK_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Home.from_environment().root == Path("/data/interlock")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert Home.from_environment().root == Path("/home/someone/.local/share/interlock")


def test_from_environment_creates_nothing(tmp_path):
    """Finding the home creates nothing."""
    home = Home.from_environment()
    assert not home.root.exists()
    assert list((tmp_path / "run").iterdir()) == []


def test_from_environment_without_a_session_uses_tmp(monkeypatch):
    """A user without a login session, such as that of a CI job, still has a place for sockets."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    assert Home.from_environment().runtime == Path(f"/tmp/interlock-{os.geteuid()}")


def test_sockets_of_longest_name_fit_a_socket_path(home):
    """However long home and name are, a socket's path fits in 107 bytes, and no two instances share a folder."""
    deep = Home(root=Path("/" + "d" * 200), runtime=Path("/run/user/4294967295/interlock"))
    assert len(os.fsencode(deep.sockets("n" * 63) / "monitor.sock")) <= 107
    assert len({home.sockets("web"), home.sockets("db"), deep.sockets("web")}) == 3


def test_prepare_makes_every_folder_private(home):
    """Nobody but the owner can look into any folder of the home or the runtime, whatever the umask."""
    before = os.umask(0o002)
    try:
        home.prepare()
    finally:
        os.umask(before)
    folders = [folder for root in (home.root, home.runtime) for folder in [root, *root.rglob("*")]]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


@pytest.mark.parametrize("place", ["root", "runtime"])
def test_prepare_place_that_others_can_write_to_is_refused(home, place):
    """A user who can replace our files can run anything as us; the hint fixes the mode."""
    home.prepare()
    path = getattr(home, place)
    path.chmod(0o777)
    with pytest.raises(HostError) as caught:
        home.prepare()
    assert (caught.value.message, caught.value.hint) == (f"{path} can be written by others", f"chmod 700 {path}")


def test_prepare_place_of_somebody_else_is_refused(home, monkeypatch):
    """A home that another user owns is not used."""
    home.prepare()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(HostError, match=r"not to you \(uid 12345\)"):
        home.prepare()


def test_from_environment_session_folder_that_others_can_only_enter_is_used(tmp_path):
    """The XDG specification wants 0700, but in a folder of mode 0755 nobody else can replace ours, which is 0700."""
    (tmp_path / "run").chmod(0o755)
    assert Home.from_environment().runtime == tmp_path / "run" / "interlock"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
def test_from_environment_session_folder_that_others_can_write_to_is_not_used(tmp_path, mode):
    """Others could replace our folder."""
    (tmp_path / "run").chmod(mode)
    assert Home.from_environment().runtime == Path(f"/tmp/interlock-{os.geteuid()}")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
def test_from_environment_session_folder_with_sockets_of_ours_is_used(home, tmp_path, mode):
    """Version 0.1.0 put sockets there whatever the mode; after an upgrade, running machines are still reachable."""
    home.prepare()
    (tmp_path / "run").chmod(mode)
    assert Home.from_environment().sockets("web") == home.sockets("web")


def test_from_environment_session_folder_with_a_link_is_not_used(tmp_path):
    """If others can write there, they can make a link that leads to any folder of ours."""
    (tmp_path / "run").chmod(0o777)
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / "interlock").symlink_to(tmp_path / "mine")
    assert Home.from_environment().runtime == Path(f"/tmp/interlock-{os.geteuid()}")


def test_from_environment_session_folder_of_somebody_else_is_not_used(monkeypatch):
    """After `su` the variable still names the folder of the login user, where our sockets must not be."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert Home.from_environment().runtime == Path("/tmp/interlock-12345")


def test_from_environment_without_any_home_says_what_to_set(monkeypatch):
    """A uid without an account or HOME gets a clear error and a usable hint; INTERLOCK_HOME is enough by itself."""

    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    Home.from_environment()
    monkeypatch.delenv("INTERLOCK_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    with pytest.raises(HostError, match="HOME is not set") as refused:
        Home.from_environment()
    assert refused.value.hint.startswith("export HOME=")


def test_names_are_of_instances_alone(tmp_path):
    """Unfinished instances and impossible names are left out; without the folder there are no instances."""
    home = Home(tmp_path / "root", tmp_path / "run")
    assert home.names() == []
    for name in ("web", "db", ".creating", ".hidden", "-x"):
        (home.instances / name).mkdir(parents=True)
    assert home.names() == ["db", "web"]
