"""The hand-written pages agree with the program: keys of JSON, names of events, environment variables."""

import json
import re
import subprocess
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent

import click
import pytest
from promised import command_of

from interlock.cli import cli
from interlock.contract import OF_COMMAND, WITHOUT_RESULT
from interlock.fsm.happening import Happening
from interlock.host.home import Home

ROOT = Path(__file__).parents[2]
MESSAGES = (ROOT / "docs" / "reference" / "messages.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
CREATE = ("create", "web", "-t", "tiny", "--driver", "simulated")
LIFE = (
    CREATE,
    ("start", "web"),
    ("fork", "web", "split"),
    *((verb, "web") for verb in ("provision", "resume", "suspend", "restart", "stop", "kill", "reset")),
)
LIFE += (("up", "web", "-t", "tiny"), *((verb, "web") for verb in ("protect", "unprotect")))


OTHERS = (
    ("create", "other", "-t", "tiny", "--driver", "simulated"),
    ("edit", "other", "--cpus", "3"),
    *(("snapshot", verb, "other", "one") for verb in ("create", "show", "restore")),
    ("snapshot", "list", "other"),
    ("snapshot", "delete", "other", "one"),
    ("clone", "other", "copy"),
    ("rename", "copy", "third"),
    ("start", "other"),
    ("fork", "other", "--as", "fourth"),
    ("repair", "web"),
    ("migrate", "web"),
    ("cluster", "failover", "web"),
    ("delete", "third"),
    ("can", "web"),
    ("history", "web"),
    ("wait", "web", "--for", "stopped"),
    ("list",),
    ("inspect", "web"),
    ("disk", "create", "data", "--size", "16MiB"),
    ("disk", "import", "old", "old.qcow2"),
    ("disk", "list"),
    ("disk", "inspect", "data"),
    ("disk", "resize", "data", "--size", "32MiB"),
    ("disk", "delete", "old"),
    ("image", "import", "old.qcow2", "--name", "old"),
    ("image", "list"),
    ("image", "inspect", "old"),
    ("prune", "--dry-run"),
    ("image", "prune", "--dry-run"),
    ("image", "delete", "old"),
    ("doctor",),
    ("template", "list"),
    ("template", "validate", "tiny"),
)
TEXTS = (
    ("help", "start"),
    ("template", "show", "tiny"),
    ("template", "copy", "tiny", "-"),
    ("template", "schema"),
    ("fleet", "schema"),
    ("diagram", "web"),
    ("autostart", "enable", "web"),
    ("autostart", "disable", "web"),
    ("install-limactl", "bin"),
    ("run", "--start", "web", "true"),
)
"""Commands without --format."""
ELSEWHERE = {
    "adopt",
    "cluster evacuate",
    "cluster nodes",
    "fleet apply",
    "fleet status",
    "image build",
    "image warm",
    "watch",
    "shell",
    "copy",
    "ssh-config",
    "tunnel",
    "logs",
    "--version",
}
"""Commands that take too long here, do not end, or need another program; their own tests check what they print."""


def test_contract_describes_what_every_command_prints(interlock, tmp_path, monkeypatch):
    """Each command with records in the contract prints exactly such records: no key is missing or unknown."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "old.qcow2", "16M"], check=True, timeout=60)
    printed = set()
    for command in (*LIFE, ("stop", "web"), *OTHERS, *TEXTS):
        words = (command[0], "--json", *command[1:]) if command in TEXTS else (*command, "--format", "json")
        done = interlock(*words)
        if any("error" not in json.loads(line) for line in done.stdout.splitlines()):
            printed.add(command_of(command))
    assert set(OF_COMMAND) - ELSEWHERE - printed == set()


def commands_of(group, words=()):
    """Yield each command below `group` as it is typed, with its parameters."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, (*words, name))
        else:
            yield " ".join((*words, name)), command.params


ALL = dict(commands_of(cli))
"""Every command → its parameters."""


def test_contract_has_a_kind_for_every_command():
    """A new command has a documented record, or is listed as one without a result."""
    assert {*OF_COMMAND, *WITHOUT_RESULT} == {*ALL, "--version"}


@pytest.mark.parametrize("command", sorted({*ALL} - {"limactl"}))
def test_every_command_answers_programs_with_one_object(interlock, command):
    """Its help and a mistyped option give one object on stdout and the usual exit code, wherever --json stands."""
    words = command.split()
    (text,) = map(json.loads, interlock(*words, "--json", "--help").stdout.splitlines())
    assert (text["about"], text["text"]) == (command, interlock(*words, "--help").stdout)
    for mistaken in (("--json", *words, "--no-such-option"), (*words, "--no-such-option", "--json")):
        done = interlock(*mistaken)
        (failure,) = map(json.loads, done.stdout.splitlines())
        assert (failure["error"]["reference"], failure["error"]["exit_code"], done.returncode) == ("usage", 2, 2)


def test_reference_of_messages_names_every_event():
    """A program that reads the messages finds each event in the list."""
    assert set(re.findall(r"`(transition_\w+)`", MESSAGES)) == {str(happening) for happening in Happening}


def test_guide_lists_the_environment_variables_that_are_read():
    """The table has every INTERLOCK_ variable that the sources name, and no other."""
    sources = [
        *ROOT.glob("*.py"),
        *(path for folder in ROOT.glob("*/__init__.py") for path in folder.parent.rglob("*.py")),
    ]
    read = {name for path in sources for name in re.findall(r'"(INTERLOCK_[A-Z_]+)"', path.read_text())}
    table = GUIDE.split("## Environment variables\n")[1].split("\n## ")[0]
    assert set(re.findall(r"INTERLOCK_[A-Z_]+", table)) == read


def test_contract_draws_the_tree_of_the_home():
    """The page has the tree of the class that owns the home, line for line."""
    page = (ROOT / "docs" / "contract.md").read_text()
    tree = "\n".join(line for line in cleandoc(Home.__doc__ or "").splitlines() if line.startswith("    "))
    assert dedent(tree) in page
