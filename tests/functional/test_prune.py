"""`interlock prune`: lists what nothing needs, and removes it after consent; what is in use stays."""

import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from interlock import Interlock
from interlock.host.home import Home, make_runtime
from interlock.host.unneeded import KINDS
from interlock.images.download import Download
from interlock.images.source import Place
from interlock.images.store import Store

OLD_S = time.time() - 8 * 24 * 3600
NOTHING = "nothing to remove\n"


@pytest.fixture(autouse=True)
def home(home, monkeypatch):
    """Return an empty home with a short path to its sockets: a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="il-", dir="/tmp") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield Home.at(home.root)


@pytest.fixture
def template(interlock, tmp_path):
    """Return a template of a machine on real QEMU, made from the imported image `mine`."""
    (tmp_path / "my-disk.img").write_bytes(bytes(510) + b"\x55\xaa" + bytes(1 << 20))
    assert interlock("image", "import", "my-disk.img", "--name", "mine").returncode == 0
    path = tmp_path / "mine.yaml"
    path.write_text("images:\n- location: build:mine\n")
    return path


@pytest.fixture
def old_logs(template, vms, home):
    """Return the logs of `web`, which has been at rest for longer than logs are kept."""
    vms.create("web", str(template), driver="qemu")
    logs = [home.directory("web") / name for name in ("serial.log", "serial.old.log", "qemu.log", "events.log")]
    for path in logs:
        path.write_text("said")
        os.utime(path, (OLD_S, OLD_S))
    return logs


@pytest.fixture
def orphan(home):
    """Return a runtime directory whose instance is gone, with a socket that nobody listens on."""
    home.prepare()
    runtime = home.sockets("gone")
    make_runtime(runtime, home.directory("gone"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime / "qmp.sock"))
    return runtime


def listed(interlock, *arguments):
    """Return the listed items: (what, name)."""
    done = interlock("prune", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return [(one["what"], one["name"]) for one in map(json.loads, done.stdout.splitlines())]


def test_prune_of_nothing_makes_nothing(interlock, home):
    """Looking changes nothing."""
    done = interlock("prune", "--yes")
    assert (done.returncode, done.stdout, done.stderr, home.root.exists()) == (0, "", NOTHING, False)


@pytest.mark.usefixtures("template")
def test_prune_without_a_terminal_lists_and_says_the_command(interlock, home, old_logs, orphan):
    """Nothing is removed without consent; the suggested command removes exactly what was listed."""
    download = Download.of(Store(home.images), Place("http://x/a"))
    download.folder.mkdir(parents=True)
    download.begin("http://x/a", {}, None)
    (home.images / "blobs" / ("0" * 64)).write_bytes(b"left")
    expected = [
        ("download", "http://x/a"),
        ("leftover", str(home.images / "blobs" / ("0" * 64))),
        *sorted(("log", f"web/{path.name}") for path in old_logs),
        ("runtime", str(orphan)),
    ]
    assert sorted(listed(interlock)) == expected
    done = interlock("prune")
    assert done.stderr.endswith(": interlock prune --yes\n")
    assert sorted(listed(interlock, "--yes")) == expected
    assert not any(path.exists() for path in (*old_logs, orphan, download.folder))
    assert interlock("prune").stderr == NOTHING


def test_prune_looks_for_what_is_named(interlock, old_logs, orphan):
    """Each kind is named as in the JSON; an unknown kind is a usage error."""
    assert [kind for kind, _ in listed(interlock, "runtime", "image")] == ["runtime"]
    assert "[image|warm|download|leftover|log|runtime]" in interlock("prune", "--help").stdout
    assert interlock("prune", "log", "--yes").returncode == 0
    assert orphan.exists()
    assert not any(path.exists() for path in old_logs)
    assert interlock("prune", "disks").returncode == 2


def test_prune_help_explains_each_kind(interlock):
    """The help has a table of the kinds."""
    text = interlock("prune", "--help").stdout
    assert [kind for kind in KINDS if f"\n  {kind} " not in text] == []


@pytest.mark.parametrize("answer", ["y", "n"])
def test_prune_asks_at_a_terminal(orphan, answer):
    """It lists, asks, and follows the answer."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "120"}
    environment.pop("INTERLOCK_LOG_FORMAT")
    command = [sys.executable, "-m", "interlock", "prune"]
    with subprocess.Popen(command, env=environment, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(leader, 1024)
        os.write(leader, f"{answer}\n".encode())
        assert process.wait(300) == 0
    os.close(leader)
    assert str(orphan).encode() in said
    assert orphan.exists() is (answer == "n")


def test_prune_keeps_new_logs_and_those_of_what_runs(interlock, vms, old_logs, home):
    """Somebody may want to know why a machine ended yesterday, and a running QEMU still writes to its logs."""
    now = time.time()
    os.utime(old_logs[0], (now, now))
    assert ("log", "web/serial.log") not in listed(interlock, "log")
    with vms.engine.at_rest("web") as site:
        assert site is not None
        assert listed(interlock, "log", "--yes") == []  # its lock is held
    vms.create("run", "tiny", driver="simulated")
    vms.start("run")
    with vms.engine.at_rest("run") as site:
        assert site is None
    with vms.engine.at_rest("none") as site:
        assert site is None
    assert not home.lock("none").exists()


def test_prune_leaves_sockets_that_may_be_in_use(interlock, home, orphan, tmp_path):
    """Sockets with a listener or an instance, and those that nobody can check, stay; another home's orphans do not."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(orphan / "agent.sock"))
        server.listen()
        assert listed(interlock) == []
    assert listed(interlock) == [("runtime", str(orphan))]
    Interlock().create("gone", "tiny", driver="simulated")
    assert listed(interlock) == []
    other = Home.at(tmp_path / "other")
    make_runtime(other.sockets("db"), other.directory("db"))
    unknown = home.runtime / ("0" * 12)
    unknown.mkdir()
    (unknown / "instance").symlink_to(other.directory("db"))
    assert listed(interlock, "--yes") == [("runtime", str(other.sockets("db")))]
    assert unknown.exists()
    assert not other.root.exists()


HELD_CREATE = """
import sys
import tempfile
from interlock import Interlock
from interlock.creation import plan

made = plan.user_key

def user_key(keys):
    print("found", flush=True)
    sys.stdin.readline()
    return made(keys)

plan.user_key = user_key
Interlock().create("web", sys.argv[1], driver="qemu")
"""


def test_prune_keeps_the_image_that_a_running_create_has_found(interlock, template, home):
    """Between finding an image and having all its files, an instance already counts as a user of the image."""
    command = [sys.executable, "-c", HELD_CREATE, template]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as create:
        assert create.stdout.readline() == "found\n"
        assert interlock("image", "prune", "--yes").stderr == NOTHING
        refused = interlock("image", "delete", "mine")
        assert (refused.returncode, "is used by web" in refused.stderr) == (6, True)
        create.communicate("\n", timeout=300)
    assert create.returncode == 0
    assert (home.directory("web") / "base.qcow2").stat().st_nlink == 2


def test_prune_keeps_the_image_that_only_a_clone_stands_on(interlock, template, vms, home):
    """A clone keeps using the image after its original is deleted."""
    vms.create("web", str(template), driver="qemu")
    vms.clone("web", "copy")
    vms.delete("web")
    assert interlock("prune", "--yes").stderr == NOTHING
    base = home.directory("copy") / "base.qcow2"
    assert base.stat().st_nlink == 2
    vms.delete("copy")
    assert listed(interlock) == [("image", "mine")]
