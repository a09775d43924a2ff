"""`interlock start`: boots an existing instance, waits for its guest, and never reads a template."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.fsm.spec import SPEC_FILE
from interlock.fsm.states import State

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"
"""Instances that version 0.1.0 wrote, including a real machine."""

CREATION = ("interlock.creation", "interlock.templates", "interlock.images")

MODULES_AFTER = """
import sys
from interlock.__main__ import main
sys.argv = ["interlock", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules), sep="\\n")
"""


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_start_of_instance_that_is_down_ends_running(interlock, bring, state, source):
    """`start` works from `created` and from `stopped`."""
    bring(source)
    assert interlock("start", "web").returncode == 0
    assert state() == "running"


def test_start_of_running_instance_succeeds_and_says_so(interlock, bring, history):
    """Asking for what is already so does nothing, successfully."""
    bring(State.running)
    before = history()
    done = interlock("--log-format", "human", "start", "web")
    assert (done.returncode, done.stderr) == (0, '"web" is running: nothing to start\n')
    assert history() == before


def test_start_of_absent_instance_creates_nothing(interlock, home):
    """An unknown name creates nothing; the hint says how to create an instance."""
    refused = interlock("start", "web")
    assert (refused.returncode, refused.stderr.splitlines()) == (
        4,
        ["error: not-found", 'there is no instance "web"', "hint: interlock create web --template debian"],
    )
    assert list(home.instances.rglob("web")) == []


def test_start_loads_no_module_of_templates_or_images(bring):
    """The code that reads templates and fetches images is not even loaded by a start."""
    bring(State.created)
    command = [sys.executable, "-c", MODULES_AFTER, "start", "web"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.splitlines()
    assert "interlock.fsm.instance" in loaded
    assert [name for name in loaded if name.startswith(CREATION)] == []
    assert [name for name in ("yaml", "pydantic", "httpx", "pycdlib") if name in loaded] == []


@pytest.mark.parametrize("driver", ["qemu", "lima"])
def test_driver_loads_nothing_heavy(driver):
    """`list` loads the driver of every instance: OpenSSL alone costs a third of a bare interpreter's start."""
    code = f"import sys, interlock.drivers.{driver}.driver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert {"_hashlib", "subprocess", "shutil", "inspect"} & set(done.stdout.split()) == set()


def test_start_after_its_template_was_deleted_works(interlock, tmp_path, state):
    """Start works after the template is deleted."""
    (tmp_path / "t.yaml").write_text("images: [{location: 'build:tiny', arch: x86_64}]\narch: x86_64\n")
    interlock("create", "web", "-t", "./t.yaml", "--driver", "simulated")
    (tmp_path / "t.yaml").unlink()
    assert interlock("start", "web").returncode == 0
    assert state() == "running"


def test_start_that_hangs_ends_at_its_deadline_with_nothing_alive(interlock, bring, home, state):
    """A guest that does not answer in time is ended, and the state is the one before the start."""
    bring(State.created)
    failed = interlock("start", "web", "--timeout", "0.2", orders={"start": {"hang": True}})
    assert failed.returncode == 7
    assert "hint: interlock logs web" in failed.stderr
    assert state() == "created"
    assert not json.loads((home.directory("web") / "machine.json").read_text())["alive"]


def test_start_that_hangs_with_keep_leaves_the_guest(interlock, bring, vms, history):
    """`--on-failure keep` leaves the guest alive, and the next start continues with it."""
    bring(State.created)
    failed = interlock("start", "web", "--timeout", "0.2", "--on-failure", "keep", orders={"start": {"hang": True}})
    assert failed.returncode == 7
    status = vms.status("web")
    assert (status.state, status.observation.alive, status.operation.trigger) == ("created", True, "start")
    assert interlock("start", "web").returncode == 0
    assert history() == [("create", "done"), ("start", "left"), ("start", "done")]


def test_start_killed_in_the_middle_is_finished_by_the_next(interlock, begin, bring, at_work, vms, history):
    """SIGKILL leaves a guest alive and a journal that says so; nothing blocks the next start."""
    bring(State.created)
    process = begin("start", "web", orders={"start": {"hang": True}})
    at_work()
    process.kill()
    process.wait()
    status = vms.status("web")
    assert (status.state, status.operation.interrupted, status.observation.alive) == ("created", True, True)
    assert interlock("start", "web").returncode == 0
    assert history() == [("create", "done"), ("start", "done")]


def test_start_by_two_processes_boots_once(begin, bring, at_work, history, tmp_path):
    """The second waits for the first, and both succeed."""
    bring(State.created)
    orders = {"start": {"until": str(tmp_path / "go")}}
    first = begin("start", "web", "--format", "json", orders=orders)
    at_work()
    second = begin("--log-format", "logfmt", "start", "web", "--format", "json", orders=orders)
    assert any("transition_joined" in line for line in second.stderr)
    (tmp_path / "go").touch()
    said = [json.loads(process.communicate(timeout=60)[0])["changed"] for process in (first, second)]
    assert said == [True, False]
    assert history() == [("create", "done"), ("start", "done")]


@pytest.mark.parametrize(
    ("template", "instance"),
    [
        ("./web.yaml", "web"),
        ("./my vm.yaml", "web"),
        ("file:db.yaml", "db"),
        ("https://x/y/web.yml", "web"),
        ("template:debian", "debian"),
        ("-", "web"),
    ],
)
def test_start_of_template_is_refused_with_the_command_that_creates(interlock, vms, template, instance):
    """`start` never creates, however a template is spelled; the hint is the command that does."""
    done = interlock("start", template)
    assert (done.returncode, list(vms.instances())) == (2, [])
    assert f"interlock up {instance} --template {shlex.quote(template)}" in done.stderr


@pytest.mark.parametrize("name", ["web", "./web.yaml", "template:tiny"])
def test_start_loads_no_module_of_templates(bring, name):
    """Whatever `start` is given, it loads no module that could read a template."""
    bring(State.created)
    program = (
        "import sys\nfrom contextlib import suppress\nfrom interlock.__main__ import main\n"
        "with suppress(SystemExit):\n    main()\n"
        f"print(*[name for name in sys.modules if name.startswith({CREATION})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "start", name], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "\n"


def test_start_ends_with_what_the_machines_author_has_to_say(interlock, vms, tmp_path):
    """The template's message is printed once the machine can be used; a start with nothing to do does not repeat it."""
    (tmp_path / "web.yaml").write_text("images: [{location: 'build:tiny'}]\nmessage: |\n  It is at\n  port 80.\n")
    vms.create("web", str(tmp_path / "web.yaml"), driver="simulated")
    done = interlock("start", "web", "--format", "json")
    assert done.stderr.endswith("\nIt is at\nport 80.\n")
    assert "port 80" not in done.stdout + interlock("start", "web").stderr


HANGING = """\
#!/bin/sh
echo $$ >{pid}
exec sleep 600
"""
"""A QEMU that hangs when it is asked for its capabilities."""


@pytest.mark.slow
def test_start_whose_qemu_hangs_ends_at_the_deadline_of_the_start(interlock, home, tmp_path):
    """Querying QEMU has its own, longer limit: the command's timeout is the one that counts, and nothing is left."""
    home.prepare()
    directory = home.directory("vm")
    shutil.copytree(RELEASE / "vm", directory)
    spec = json.loads((directory / SPEC_FILE).read_bytes())
    (directory / SPEC_FILE).write_text(json.dumps({**spec, "forwards": []}))
    qemu, pid = tmp_path / "bin" / "qemu-system-x86_64", tmp_path / "pid"
    qemu.parent.mkdir()
    qemu.write_text(HANGING.format(pid=pid))
    qemu.chmod(0o700)
    path = f"{qemu.parent}:{os.environ['PATH']}"
    done = interlock("start", "vm", "--timeout", "8", env={**os.environ, "PATH": path})
    assert done.returncode == 7, done.stderr
    (within_s,) = re.findall(r"qemu-system-x86_64 did not end within (\S+) s", done.stderr)
    assert float(within_s) <= 8
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert "stopped" in interlock("list").stdout
