"""The driver lima through the program, while its user keeps using limactl: what limactl does is observed."""

import signal
import subprocess

import pytest

from interlock import InterlockError, Trigger
from interlock.commands.instances import adopt_command
from interlock.commands.session import Session
from interlock.drivers.lima import program
from interlock.drivers.lima.folder import Folder
from interlock.host.process import alive, send

pytestmark = pytest.mark.usefixtures("limactl", "machine")


@pytest.fixture
def machine(vms):
    """Create the instance `web`, backed by the stand-in for limactl."""
    vms.create("web", {"images": [{"location": "/images/debian.qcow2"}]}, driver="lima")


def lima(*words, stdin=""):
    """Run limactl as its user would."""
    subprocess.run(["limactl", "--log-format", "json", *words], check=True, capture_output=True, text=True, input=stdin)


@pytest.fixture
def of_lima(lima_home):
    """Return a function that makes a machine with limactl alone and returns its folder."""

    def make(name, text="cpus: 1"):
        lima("create", "--name", name, "--tty=false", "-", stdin=text)
        return lima_home / name

    return make


def content(folder):
    """Return the files of a folder, each with its time and size."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}


def test_life_of_a_machine_that_lima_keeps(interlock):
    """Each command works through limactl as it does with QEMU."""
    for command in ("start", "stop", "start", "kill", "reset", "start", "restart", "stop", "delete"):
        assert interlock(command, "web").returncode == 0, command
    assert "web" not in interlock("list").stdout


@pytest.mark.parametrize("before", [(), (Trigger.start, Trigger.stop)], ids=["created", "stopped"])
def test_start_and_stop_by_limactl_are_observed(interlock, vms, history, before):
    """After a start and a stop by limactl, `list` shows the present state, and the history says who did it."""
    for trigger in before:
        vms.fire("web", trigger)
    lima("start", "--tty=false", "web")
    assert vms.status("web").state == "running"
    assert "running · started by limactl" in interlock("list").stdout
    lima("stop", "web")
    assert "stopped · guest shut down" in interlock("list").stdout
    assert history()[-2:] == [("found", "done"), ("exited", "done")]
    assert vms.status("web").state == "stopped"


def test_delete_by_limactl_is_observed_with_the_way_out(interlock, vms):
    """The instance stays until it is deleted; `start` says that the machine is gone, and what to type."""
    vms.start("web")
    lima("delete", "--force", "web")
    assert "stopped · `interlock delete web` removes what is left of it here · limactl has deleted it" in (
        interlock("list").stdout
    )
    started = interlock("start", "web")
    assert (started.returncode, "hint: interlock delete web" in started.stderr) == (6, True)
    assert interlock("delete", "web").returncode == 0
    assert list(vms.instances()) == []


def test_dry_run_says_that_limactl_has_started_it(interlock, vms):
    """A rehearsal takes in what others did, as the real run would, and touches nothing."""
    lima("start", "--tty=false", "web")
    rehearsed = interlock("stop", "web", "--dry-run")
    assert (rehearsed.returncode, "started by limactl" in rehearsed.stdout + rehearsed.stderr) == (0, True)
    assert vms.status("web").state == "running"


def test_adopt_takes_every_machine_of_limactl_and_changes_nothing(interlock, vms, of_lima):
    """Running and stopped machines become instances as they are; the second time there is nothing to adopt."""
    down, up = of_lima("down"), of_lima("up")
    lima("start", "--tty=false", "up")
    before = content(down), content(up)
    assert interlock("adopt").returncode == 0
    assert {status.name: str(status.state) for status in vms.instances()} == {
        "down": "created",
        "up": "running",
        "web": "created",
    }
    assert before == (content(down), content(up))
    spec = vms.status("down").spec
    assert (spec.cpus, spec.memory_bytes, spec.user) == (1, 512 << 20, "user")
    again = interlock("adopt")
    assert (again.returncode, "no machine that is not already an instance" in again.stderr) == (0, True)


def test_adopted_machine_lives_like_any_other_and_is_given_back(interlock, of_lima):
    """It can be started, stopped and renamed; `delete` leaves the machine to limactl."""
    folder = of_lima("old")
    assert interlock("adopt", "old", "--json").returncode == 0
    for command in (("start", "old"), ("stop", "old"), ("rename", "old", "new")):
        assert interlock(*command).returncode == 0
    assert interlock("adopt").stdout == ""
    assert interlock("start", "new").returncode == 0
    refused = interlock("delete", "new")
    assert (refused.returncode, (folder / "qemu.pid").exists()) == (3, True)
    deleted = interlock("delete", "new", "--force")
    assert (deleted.returncode, "`limactl delete old` removes it" in deleted.stderr) == (0, True)
    assert (folder / "lima.yaml").exists()
    assert interlock("adopt", "old").returncode == 0


def test_adopt_says_of_what_it_cannot_take_why_and_what_to_type(interlock, vms, of_lima, lima_home):
    """The other machines are adopted; a folder that Interlock's own limactl made is not one of Lima's machines."""
    of_lima("fine")
    of_lima("odd", "unreadable: true")
    (of_lima("ours") / "interlock").symlink_to("/nonexistent")
    half = of_lima("half")
    lima("start", "--tty=false", "half")
    agent = Folder(lima_home, "half").look().host_agent
    send(agent, signal.SIGKILL)
    while alive(agent):
        pass
    adopted = interlock("adopt")
    assert adopted.returncode == 6
    assert 'limactl\'s "half" is broken: its host agent is not running' in adopted.stderr
    assert "limactl stop --force half" in adopted.stderr
    assert f"limactl cannot read {lima_home}/odd/lima.yaml" in adopted.stderr
    assert {"fine", "web"} == {status.name for status in vms.instances()}
    assert half.exists()


def test_adopt_of_an_instance_and_of_nothing_is_refused(interlock):
    """A name that is already an instance, and a name that limactl does not know."""
    taken, absent = interlock("adopt", "web"), interlock("adopt", "nothing")
    assert ('"web" is already an instance' in taken.stderr, taken.returncode) == (True, 4)
    assert ('finds no machine "nothing"' in absent.stderr, absent.returncode) == (True, 4)


def test_adopt_of_several_asks_limactl_once(of_lima, vms, monkeypatch):
    """One call of limactl lists all machines at the cost of one."""
    of_lima("one")
    of_lima("two")
    asked = []
    output = program.output
    monkeypatch.setattr(program, "output", lambda home, words: asked.append(words) or output(home, words))
    adopt_command.main([], obj=Session(), standalone_mode=False)
    assert {status.name for status in vms.instances()} == {"web", "one", "two"}
    assert asked == [["list", "--json"]]


def test_adoption_that_fails_leaves_the_machine(vms, of_lima, monkeypatch):
    """Only Interlock's own files are rolled back: the machine was there before, and stays."""
    folder = of_lima("old")
    before = content(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interlock.fsm.instance.publish", full)
    with pytest.raises(InterlockError):
        vms.adopt("old")
    monkeypatch.undo()
    assert before == content(folder)


def test_edit_of_what_limactl_keeps_is_refused_with_its_command(interlock, vms, history):
    """limactl would not learn about the new spec: nothing is changed, and nothing is recorded."""
    before = history()
    edited = interlock("edit", "web", "--cpus", "7")
    assert (edited.returncode, "hint: limactl edit web" in edited.stderr) == (6, True)
    assert history() == before
    assert vms.status("web").spec.cpus != 7
