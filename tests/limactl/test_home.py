"""LIMA_HOME shows all instances, no matter who made them, but a start does not read these files."""

import json
import os
import subprocess
import sys

import pytest

from interlock import Interlock
from interlock.host.home import Home
from interlock.limactl.__main__ import run

MODULES_AFTER = """
import atexit, sys
sys.argv = ["limactl", *sys.argv[1:]]
opened = []
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event == "open" else None)
atexit.register(lambda: print(*sorted(sys.modules), *opened, sep="\\n"))
from interlock.limactl.__main__ import main
main()
"""
CREATION = ("interlock.creation", "interlock.templates", "interlock.images")


@pytest.fixture
def vms(lima):
    """Return the API on the home of the instances in LIMA_HOME."""
    return Interlock(Home.from_environment()._replace(root=lima / "_interlock"))


def test_start_of_existing_instance_touches_no_template(lima):
    """The code that reads templates is not imported, and the instance's lima.yaml is not opened."""
    assert run(["create", "web.yaml"]) == 0
    command = [sys.executable, "-c", MODULES_AFTER, "start", "web"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    seen = done.stdout.splitlines()
    assert "interlock.fsm.instance" in seen
    assert [name for name in seen if name.startswith(CREATION) or name.endswith((".yaml", ".yml"))] == []
    assert str(lima / "_interlock" / "instances" / "web" / "spec.json") in seen


def test_start_after_every_template_is_gone_works(lima, tmp_path):
    """An instance needs neither the template that it was created from nor the copy that embedders read."""
    run(["create", "web.yaml"])
    (tmp_path / "here" / "web.yaml").unlink()
    (lima / "web" / "lima.yaml").unlink()
    assert run(["start", "web"]) == 0


def test_start_of_instance_whose_lima_yaml_was_changed_says_that_it_is_ignored(lima, capfd):
    """If an embedder changes lima.yaml, a message says that the instance starts as it was created."""
    run(["create", "web.yaml"])
    run(["start", "web"])
    assert "was changed" not in capfd.readouterr().err
    run(["stop", "web"])
    (lima / "web" / "lima.yaml").write_text("cpus: 9\n")
    run(["start", "web"])
    assert "`web` was created; the instance starts as it was created" in capfd.readouterr().err


def test_mistyped_name_creates_nothing(lima, vms):
    """`start`, `create` and `shell` of a name that is neither an instance nor a template create nothing."""
    assert run(["start", "wbe"]) == run(["create", "wbe"]) == run(["shell", "wbe"]) == 1
    assert list(vms.instances()) == []
    assert not (lima / "wbe").exists()


def test_instance_made_by_interlock_is_shown(lima, vms, capfd):
    """Embedders see what `interlock` creates, protects and deletes from their next call on."""
    vms.create("web", "tiny", driver="simulated")
    vms.protect("web")
    run(["list", "--json"])
    assert json.loads(capfd.readouterr().out)["protected"] is True
    shown = {path.name for path in (lima / "web").iterdir()}
    assert {"lima.yaml", "lima-version", "protected", "interlock", "serial.log"} <= shown
    vms.unprotect("web")
    vms.delete("web")
    run(["list"])
    assert not (lima / "web").exists()


def test_instance_made_by_the_drop_in_is_interlocks(lima, vms):
    """An instance that the drop-in creates and starts is like any other."""
    run(["start", "--tty=false", "web.yaml"])
    assert str(vms.status("web").state) == "running"
    assert [(str(line.trigger), str(line.phase)) for line in vms.history("web") if line.phase == "done"] == [
        ("create", "done"),
        ("start", "done"),
    ]
    run(["delete", "-f", "web"])
    assert not vms.status("web").exists
    assert not (lima / "web").exists()


def test_renamed_instance_keeps_its_files_and_is_reached_by_its_new_name(lima, vms, capfd):
    """Its folder is renamed with lima.yaml unchanged, and links to its directory point to the new one."""
    run(["start", "web.yaml"])
    (lima / "web" / "ssh.config").write_text("Host lima-web\n")
    assert run(["rename", "web", "other"]) == 1
    assert "`limactl stop web && limactl rename web " in capfd.readouterr().err
    run(["stop", "web"])
    text = (lima / "web" / "lima.yaml").read_bytes()
    assert run(["rename", "web", "other"]) == 0
    assert ((lima / "web").exists(), (lima / "other" / "lima.yaml").read_bytes()) == (False, text)
    assert (lima / "other" / "interlock").readlink() == vms.status("other").directory
    assert (lima / "other" / "serial.log").resolve().is_relative_to(vms.status("other").directory)
    assert not (lima / "other" / "ssh.config").exists()  # it has the old name
    assert run(["start", "other"]) == 0
    assert "was changed" not in capfd.readouterr().err


def test_edited_instance_shows_it_in_lima_yaml_unless_somebody_changed_that(lima, vms, capfd):
    """`edit` also changes lima.yaml, which then does not count as changed by others, but not a file that is."""
    run(["create", "web.yaml"])
    assert run(["edit", "web", "--cpus=2", "--set", '.memory = "1GiB"', "--start"]) == 0
    assert (vms.status("web").spec.cpus, vms.status("web").spec.memory_bytes) == (2, 1 << 30)
    text = (lima / "web" / "lima.yaml").read_text()
    assert ("cpus: 2\n" in text, 'memory: "1GiB"\n' in text, "build:tiny" in text) == (True, True, True)
    assert "was changed" not in capfd.readouterr().err
    run(["stop", "web"])
    (lima / "web" / "lima.yaml").write_text("cpus: 9 # mine\n")
    assert run(["edit", "web", "--cpus=3"]) == 0
    assert (lima / "web" / "lima.yaml").read_text() == "cpus: 9 # mine\n"


def test_clone_has_the_template_of_its_original(lima):
    """The clone's lima.yaml is the same, except for values that are edited in the same call."""
    run(["create", "web.yaml"])
    run(["clone", "web", "one"])
    run(["clone", "web", "two", "--cpus=2"])
    web, one, two = ((lima / name / "lima.yaml").read_text() for name in ("web", "one", "two"))
    assert one == web
    assert two == web.replace("cpus: 1\n", "cpus: 2\n")


def test_instance_of_limas_own_is_left_alone(lima, capfd):
    """A folder that the drop-in did not write is left alone, and its name cannot be used."""
    (lima / "old").mkdir(parents=True)
    (lima / "old" / "lima.yaml").write_text("cpus: 1\n")
    assert run(["create", "--name", "old", "web.yaml"]) == 1
    assert "made by Lima itself" in capfd.readouterr().err
    assert run(["list"]) == 0
    assert "Ignoring `old`" in capfd.readouterr().err
    run(["delete", "-f", "old"])
    assert (lima / "old" / "lima.yaml").exists()


def test_settings_for_all_instances_are_refused_rather_than_ignored(lima, capfd):
    """`_config/override.yaml` is not read, so a create fails instead of making a different machine."""
    (lima / "_config").mkdir(parents=True)
    (lima / "_config" / "override.yaml").write_text("cpus: 4\n")
    assert run(["create", "web.yaml"]) == 1
    assert "override.yaml is not read by this limactl" in capfd.readouterr().err


def test_instance_that_is_starting_reads_running_and_a_second_start_waits(vms, until, tmp_path, capfd):
    """While another process starts it, Status is Running, Transition is start, and a second `start` waits."""
    run(["create", "web.yaml"])
    gate = tmp_path / "gate"
    slow = {**os.environ, "INTERLOCK_SIMULATED": json.dumps({"start": {"until": str(gate)}})}
    command = [sys.executable, "-m", "interlock.limactl", "start", "web"]
    with subprocess.Popen(command, env=slow, stderr=subprocess.DEVNULL) as first:
        until(lambda: vms.status("web").operation)
        capfd.readouterr()
        run(["ls", "-f", "{{.Status}} {{.Phase}} {{.Transition}}", "web"])
        assert capfd.readouterr().out == "Running created start\n"
        with subprocess.Popen(command, env=slow, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            joined = next(line for line in second.stderr if "waiting for it" in line)
            gate.touch()
            assert f"pid {first.pid}" in joined
        assert (first.wait(), second.returncode) == (0, 0)


def test_broken_instance_is_listed_with_its_errors_and_can_be_deleted(lima, vms, capfd):
    """A damaged instance does not hide others, and `delete --force` removes it."""
    run(["create", "web.yaml"])
    run(["create", "--name=other", "web.yaml"])
    (lima / "_interlock" / "instances" / "web" / "spec.json").write_text("{")
    capfd.readouterr()
    assert run(["list", "--json"]) == 0
    other, web = map(json.loads, capfd.readouterr().out.splitlines())
    assert (other["status"], web["status"]) == ("Stopped", "Broken")
    assert "spec.json" in web["errors"][0]
    assert run(["delete", "--force", "web"]) == 0
    assert not vms.status("web").exists
