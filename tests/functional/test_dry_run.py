"""`--dry-run` of each command that moves an instance: it prints what would be done, and writes nothing."""

import json
import os
import subprocess
import sys

import click
import pytest
from asking import words

from interlock.cli import cli
from interlock.drivers.simulated import SimulatedDriver
from interlock.fsm.states import State
from interlock.fsm.table import TABLE

ROWS = [row for row in TABLE if row.recorded and not row.observed]
SEQUENCES = ("up", "restart")

WATCHED = """
import os, runpy, sys
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
           "os.truncate", "os.utime", "os.setxattr", "shutil.rmtree", "socket.bind", "os.kill", "signal.pthread_kill"}
def hear(event, arguments):
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if event in CHANGES or (written and arguments[0] not in (os.devnull, 1, 2)):
        os.write(2, f"WROTE {event} {arguments}\\n".encode())
sys.addaudithook(hear)
sys.dont_write_bytecode = True
sys.argv = ["interlock", *sys.argv[1:]]
runpy.run_module("interlock", run_name="__main__", alter_sys=True)
"""
"""The program, reporting on stderr what it opens for writing, changes or ends. Source: Python, audit events table."""


def command(row):
    """Return the words that request `row` for the instance `web`."""
    if row.appears:
        return ["create", "web", "--template", "tiny", "--driver", "simulated"]
    return [*(row.command or row.trigger).split(), "web", *words(row.trigger)]


def watched(*arguments):
    """Run the program to its end and return it; its stderr reports each write."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_watch_over_writes_would_notice_one(bring):
    """The same run without the option does write."""
    bring(State.created)
    assert "WROTE" in watched("start", "web").stderr


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.trigger)
def test_no_command_writes_anything(bring, vms, row):
    """Each command runs in a state where it is legal; it opens no file for writing, and changes and removes nothing."""
    bring(row.sources[0])
    if "tag" in row.needs and row.trigger != "snapshot":
        vms.snapshot("web", words(row.trigger)[0])
    if row.holds_unless:
        SimulatedDriver().happen(vms.engine.site("web"), condition="paused")
    done = watched(*command(row), "--dry-run")
    assert "WROTE" not in done.stderr
    assert done.returncode == 0
    assert done.stdout.startswith(f"dry run: {row.command or row.trigger} web: ")


def test_every_command_of_a_row_has_the_option():
    """So have the sequences `up` and `restart`, which are made of rows."""
    lacking = []
    for name in (*(row.command or row.trigger for row in ROWS), *SEQUENCES):
        found = cli
        for word in name.split():
            found = found.get_command(click.Context(found), word)
        if not any("--dry-run" in param.opts for param in found.params):
            lacking.append(name)
    assert lacking == []


def test_steps_are_for_people_and_for_programs(interlock, bring, vms):
    """People get a line for each transition and what it makes and removes; programs get an outcome with `steps`."""
    bring(State.running)
    vms.suspend("web")
    directory = vms.status("web").directory
    done = interlock("start", "web", "--dry-run")
    assert done.stdout.splitlines() == [
        "dry run: start web: stopped → running",
        f"  removes  {directory}/saved",
        "  note     resuming the simulated guest",
    ]
    done = interlock("restart", "web", "--dry-run", "--json")
    (outcome,) = map(json.loads, done.stdout.splitlines())
    assert (outcome["state"], outcome["changed"]) == ("running", True)
    (step,) = outcome["steps"]
    assert (step["trigger"], step["source"], step["dest"]) == ("start", "stopped", "running")
    assert vms.status("web").state is State.stopped


def test_refusal_is_the_same_with_its_exit_code(interlock, bring):
    """The dry run refuses what the command would refuse, in the same words."""
    bring(State.running)
    for arguments in (["delete", "web"], ["reset", "web"], ["start", "nope"], ["create", "web", "-t", "tiny"]):
        dry, real = interlock(*arguments, "--dry-run"), interlock(*arguments)
        assert (dry.returncode, dry.stdout, dry.stderr) == (real.returncode, real.stdout, real.stderr)
        assert dry.returncode


def test_what_is_so_already_is_said_and_is_no_step(interlock, bring):
    """Nothing would be done, and the output says so."""
    bring(State.running)
    done = interlock("start", "web", "--dry-run", "--json")
    assert '"web" is running: nothing to start' in done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["changed"], outcome["steps"]) == (False, [])
    assert interlock("start", "web", "--dry-run").stdout == ""


def test_several_at_once_are_each_foreseen(interlock, vms):
    """As in the real run, one refusal gives the exit code and holds up no other instance."""
    for name in "abc":
        vms.create(name, "tiny", driver="simulated")
    vms.start("b")
    done = interlock("delete", "--all", "--dry-run")
    assert done.returncode == 3
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("dry")) == [
        "dry run: delete a: created → absent",
        "dry run: delete c: created → absent",
    ]
    forced = interlock("delete", "--all", "--force", "--dry-run", "--json")
    assert forced.returncode == 0
    steps = {
        it["name"]: [step["trigger"] for step in it["steps"]] for it in map(json.loads, forced.stdout.splitlines())
    }
    assert steps == {"a": ["delete"], "b": ["kill", "delete"], "c": ["delete"]}
    assert [status.name for status in vms.instances()] == ["a", "b", "c"]


def test_fork_foresees_the_copies_and_their_starts(interlock, bring, vms):
    """The copies exist only in the plan, so that their starts can be planned too."""
    bring(State.running)
    done = interlock("fork", "web", "a", "b", "--dry-run")
    lines = [line for line in done.stdout.splitlines() if line.startswith("dry")]
    assert lines[:3] == [
        "dry run: fork web: running → running",
        "dry run: create a: absent → created",
        "dry run: create b: absent → created",
    ]
    assert sorted(lines[3:]) == [f"dry run: start {name}: created → running" for name in "ab"]
    assert [status.name for status in vms.instances()] == ["web"]


def test_edit_is_foreseen_in_words(interlock, bring, vms):
    """The output says what would change, mistakes included; nothing is changed."""
    bring(State.created)
    assert "cpus 1 → 3" in interlock("edit", "web", "--cpus", "3", "--dry-run").stdout
    assert interlock("edit", "web", "--disk", "1MiB", "--dry-run").returncode == 2
    assert vms.status("web").spec.cpus == 1
    vms.start("web")
    change = ("edit", "web", "--cpus", "3", "--port-forward", "8080:80")
    said = interlock(*change, "--dry-run").stdout.split("  note     ")[1].strip()
    assert f": {said}" in interlock(*change).stderr


def test_up_of_an_instance_that_does_not_exist_is_two_steps(interlock, vms):
    """The template's message is left out, because nothing was started."""
    done = interlock("up", "web", "-t", "tiny", "--driver", "simulated", "--dry-run")
    lines = [line for line in done.stdout.splitlines() if line.startswith("dry")]
    assert lines == ["dry run: create web: absent → created", "dry run: start web: created → running"]
    assert not vms.status("web").exists
