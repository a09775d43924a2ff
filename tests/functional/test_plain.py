"""Plain command lines are understood without click, and mean what they mean to click."""

import itertools
import os
import subprocess
import sys

import click
import pytest

from interlock.cli import cli
from interlock.commands.index import ABOUT_AN_INSTANCE, COMMANDS
from interlock.commands.options import InstanceName
from interlock.commands.plain import plain

WITH_CLICK = {"INTERLOCK_QUIET": "0"}
"""A setting that changes nothing, and that only click reads."""

LOADED = "; print(*[name for name in ('click', 'inspect', 'dataclasses') if name in sys.modules], file=sys.stderr)"


@pytest.fixture
def some(vms):
    """Make an instance that runs, one at rest, and one whose spec is damaged."""
    for name in ("web", "db", "bad"):
        vms.create(name, "tiny", driver="simulated")
    vms.start("web")
    (vms.home.directory("bad") / "spec.json").write_text("{")


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("list", "web"),
        ("list", "db", "web"),
        ("list", "nope"),
        ("list", "nope", "web", "nor-this"),
        ("list", "not a name"),
        ("ls",),
        ("ls", "nope"),
        ("ps",),
        ("status", "web"),
        ("can", "web"),
        ("can", "web", "stop"),
        ("can", "web", "start"),
        ("can", "db", "stop"),
        ("can", "db", "resume"),
        ("can", "nope"),
        ("can", "bad", "delete"),
        ("can", "web", "exited"),
        ("can", "web", "fly"),
        ("can",),
        ("can", "web", "stop", "now"),
        ("start", "web"),
        ("start", "bad"),
        ("start", "nope"),
        ("start", "not a name"),
        ("start", "./web.yaml"),
    ],
)
def test_plain_command_line_means_what_click_takes_it_for(interlock, words):
    """Results, messages and exit code are the same, whichever reads it."""
    plainly = interlock(*words)
    by_click = interlock(*words, env={**os.environ, **WITH_CLICK})
    assert (plainly.returncode, plainly.stdout, plainly.stderr) == (
        by_click.returncode,
        by_click.stdout,
        by_click.stderr,
    )


def complete(shell, words, cword, **more):
    """Return what is printed for a completion, and which of the slow modules were loaded."""
    asked = {"_INTERLOCK_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": cword, **more}
    program = f"import sys\nfrom interlock.__main__ import main\ntry: main()\nfinally: pass{LOADED}"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    return done.stdout, done.stderr.split()


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("begun", ["", "w", "x"])
def test_completion_of_an_instance_is_that_of_click(shell, begun):
    """The words, in the form that each shell wants; a quoted word is the same to click, which alone can read it."""
    said, loaded = complete(shell, f"interlock start {begun}", "2")
    assert loaded == []
    by_click, loaded = complete(shell, f"interlock 'start' {begun}", "2")
    assert "click" in loaded
    assert said.split() == by_click.split()


@pytest.mark.parametrize("words", [("list",), ("list", "web"), ("ls",), ("can", "web")])
def test_plain_command_line_loads_no_parser(vms, words):
    """Neither click nor what it is built on."""
    vms.create("web", "tiny", driver="simulated")
    program = f"import sys\nsys.argv = ['interlock', *{words!r}]\nfrom interlock.__main__ import main\ntry: main()\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}finally: pass{LOADED}"], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == ""


def test_commands_about_an_instance_are_those_whose_first_argument_is_one():
    """What plain completion takes for granted is what click is told."""
    context = click.Context(cli, info_name="interlock")
    names = itertools.chain.from_iterable(COMMANDS.values())
    commands = {name: cli.get_command(context, name) for name in names}
    arguments = {
        name: [it for it in command.params if isinstance(it, click.Argument)] for name, command in commands.items()
    }
    assert {name for name, them in arguments.items() if them and isinstance(them[0].type, InstanceName)} == (
        ABOUT_AN_INSTANCE
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("start", "web", "db"),
        ("start", "./web.yaml"),
        ("list", "--format", "json"),
        ("-q", "list"),
        ("ls", "-q"),
        ("ps",),
        ("rm", "web"),
        ("can",),
        ("can", "web", "fly"),
    ],
)
def test_command_line_that_is_not_plain_is_left_to_click(words):
    """An option, a mistake, another command."""
    assert plain(words, {}) is None
