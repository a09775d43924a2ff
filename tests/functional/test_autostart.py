"""`interlock autostart`: marked instances start at login, through a unit that systemd accepts and that works."""

import json
import os
import plistlib
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from interlock import Interlock, autostart


@pytest.fixture(autouse=True)
def units(tmp_path, monkeypatch):
    """Return the folder of the user's units."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user"


@pytest.fixture
def marked(interlock, vms):
    """Return the unit's file, after `autostart enable` of `web`, one of two instances."""
    for name in ("web", "db"):
        vms.create(name, "tiny", driver="simulated")
    done = interlock("autostart", "enable", "web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", '"web" starts at login from now on\n')
    return autostart.service(vms.home)


def shown(interlock):
    """Return the `autostart` column of `list`: name → whether it starts at login."""
    return {one["name"]: one["autostart"] for one in map(json.loads, interlock("list", "--json").stdout.splitlines())}


def lines_of(unit, key):
    """Return the values of `key` in the unit, each split into words; a shell splits these values as systemd does."""
    return [
        [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.partition("=")[2].removeprefix("-"))]
        for line in unit.read_text().splitlines()
        if line.startswith(f"{key}=")
    ]


def test_autostart_is_shown_and_moves_nothing(interlock, marked, units):
    """`list` and `inspect` show the mark, and --filter knows it; no instance moves; the unit is enabled by its link."""
    assert shown(interlock) == {"web": True, "db": False}
    assert "autostart                 True" in interlock("inspect", "web").stdout
    assert interlock("list", "-q", "--filter", "autostart=true").stdout == "web\n"
    assert interlock("list", "--filter", "state=created", "-q").stdout == "db\nweb\n"
    link = units / "default.target.wants" / marked.name
    assert (marked.parent, link.resolve()) == (units, marked.resolve())


def test_autostart_enable_and_disable_twice_say_so(interlock, marked, units):
    """Enabling or disabling twice succeeds; the unit is removed with the last mark."""
    assert interlock("autostart", "enable", "web", "db").stderr == (
        '"web" already starts at login\n"db" starts at login from now on\n'
    )
    assert interlock("autostart", "disable", "web").returncode == 0
    assert marked.exists()
    assert interlock("autostart", "disable", "db").stderr == '"db" no longer starts at login\n'
    assert [path for path in units.rglob("*") if not path.is_dir()] == []
    assert interlock("autostart", "disable", "db").stderr == '"db" does not start at login\n'


def test_autostart_of_what_does_not_exist_is_not_found(interlock, units):
    """Nothing is written."""
    for verb in ("enable", "disable"):
        done = interlock("autostart", verb, "none")
        assert (done.returncode, done.stderr.splitlines()[0]) == (4, "error: not-found")
    assert interlock("autostart", "enable").returncode == 2
    assert not units.exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("folder", ["home", 'a "home" of 100 % \\ $HOME'])
def test_autostart_unit_is_accepted_by_systemd(vms, tmp_path, folder):
    """The unit is valid whatever characters the home's path contains."""
    vms = Interlock(tmp_path / folder)
    vms.create("web", "tiny", driver="simulated")
    vms.autostart("web")
    command = ["systemd-analyze", "--user", "verify", "--man=no", autostart.service(vms.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_autostart_unit_starts_and_stops_what_is_marked(interlock, marked, tmp_path):
    """The unit's commands do what systemd relies on at login and at the end of the session."""
    environment = dict(word.split("=", 1) for (word,) in lines_of(marked, "Environment"))
    environment |= {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
    for key, states in (("ExecStart", ["created", "running"]), ("ExecStop", ["created", "stopped"])):
        (command,) = lines_of(marked, key)
        subprocess.run(command, env=environment, cwd="/", check=True, capture_output=True, timeout=300)
        listed = interlock("list", "--format", "{{.Name}} {{.Status}}").stdout
        assert [line.split()[1].lower() for line in listed.splitlines()] == states


def test_autostart_unit_that_cannot_start_everything_keeps_what_runs(interlock, marked):
    """After a failed start, systemd would kill everything in the unit's group; the "-" makes it ignore the failure."""
    (command,) = lines_of(marked, "ExecStart")
    assert interlock(*command[-2:], orders={"start": {"degraded": "a script"}}).returncode == 6
    assert '\nExecStart=-"' in marked.read_text()


def test_autostart_stays_with_the_instance(interlock, vms, marked):
    """The mark follows a rename, is not copied to a clone, and goes with the instance; the unit then does nothing."""
    vms.clone("web", "copy")
    vms.rename("web", "site")
    assert shown(interlock) == {"copy": False, "db": False, "site": True}
    vms.delete("site")
    vms.create("site", "tiny", driver="simulated")
    assert not any(shown(interlock).values())
    (command,) = lines_of(marked, "ExecStart")
    assert subprocess.run(command, check=False, capture_output=True, timeout=300).returncode == 0


def test_autostart_enabled_while_the_last_mark_goes_has_its_unit(vms, marked, monkeypatch):
    """Removing the unit and enabling another instance take turns."""
    removing, waits, others = autostart._keep, threading.Event(), []
    mark = vms.home.directory("db") / "autostart"

    def enable_db():
        autostart.change(vms.home, mark, enabled=True, report=lambda _: waits.set())

    def keep(home, *, needed):
        if not needed:
            others.append(threading.Thread(target=enable_db))
            others[0].start()
            while others[0].is_alive() and not waits.is_set():
                others[0].join(0.01)
        removing(home, needed=needed)

    monkeypatch.setattr(autostart, "_keep", keep)
    vms.autostart("web", enabled=False)
    others[0].join()
    assert vms.status("db").autostart
    assert marked.exists()


def test_autostart_on_macos_is_an_agent_of_launchd(vms, marked, monkeypatch, tmp_path):
    """Checked as text only: no macOS was available to try it."""
    assert marked.suffix == ".service"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    vms.autostart("web")
    (path,) = Path(tmp_path / "Library" / "LaunchAgents").iterdir()
    agent = plistlib.loads(path.read_bytes())
    assert agent["Label"] == path.stem
    assert agent["ProgramArguments"][-3:] == ["interlock", "start", "--filter=autostart=true"]
    assert agent["EnvironmentVariables"]["INTERLOCK_HOME"] == str(vms.home.root)
    assert (agent["RunAtLoad"], agent["AbandonProcessGroup"]) == (True, True)
    vms.autostart("web", enabled=False)
    assert not path.exists()
