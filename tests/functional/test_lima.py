"""The driver lima through the program, beside a limactl that its user goes on using: what that does is observed."""

import subprocess

import pytest

from interlock import Trigger

pytestmark = pytest.mark.usefixtures("limactl", "machine")


@pytest.fixture
def machine(vms):
    """Create the instance `web`, kept by the stand-in for limactl."""
    vms.create("web", {"images": [{"location": "/images/debian.qcow2"}]}, driver="lima")


def lima(*words):
    """Do what a user of limactl does."""
    subprocess.run(["limactl", "--log-format", "json", *words], check=True, capture_output=True)


def test_life_of_a_machine_that_lima_keeps(interlock):
    """Each command does by limactl what it does by QEMU."""
    for command in ("start", "stop", "start", "kill", "reset", "start", "restart", "stop", "delete"):
        assert interlock(command, "web").returncode == 0, command
    assert "web" not in interlock("list").stdout


@pytest.mark.parametrize("before", [(), (Trigger.start, Trigger.stop)], ids=["created", "stopped"])
def test_start_and_stop_by_limactl_are_observed(interlock, vms, history, before):
    """When its user starts and stops it by limactl, `list` says what is so, and history who did it."""
    for trigger in before:
        vms.fire("web", trigger)
    lima("start", "--tty=false", "web")
    assert "running · started by limactl" in interlock("list").stdout
    lima("stop", "web")
    assert "stopped · guest shut down" in interlock("list").stdout
    assert history()[-2:] == [("found", "done"), ("exited", "done")]
    assert vms.status("web").state == "stopped"


def test_delete_by_limactl_is_observed_with_the_way_out(interlock, vms):
    """The instance stays until somebody says so; start says that the machine is gone, and what to type."""
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
    """A rehearsal settles what others did as the real run would, and touches nothing."""
    lima("start", "--tty=false", "web")
    rehearsed = interlock("stop", "web", "--dry-run")
    assert (rehearsed.returncode, "started by limactl" in rehearsed.stdout + rehearsed.stderr) == (0, True)
    assert vms.status("web").state == "running"
