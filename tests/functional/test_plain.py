"""Plain command lines are parsed without click, and mean the same as with click."""

import os
import subprocess
import sys

import pytest

from interlock.commands.plain import plain

WITH_CLICK = {"INTERLOCK_QUIET": "0"}
"""A setting that changes nothing, and that only click reads."""

LOADED = (
    "; there = [name for name in ('click', 'inspect', 'dataclasses') if name in sys.modules]"
    "; print(*[name for name in there if sys.modules[name].__spec__], file=sys.stderr)"  # a deferred one has no spec
)


@pytest.fixture
def some(vms):
    """Make one running instance, one at rest, and one with a damaged spec."""
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
    """Results, messages and exit code are the same with both parsers."""
    plainly = interlock(*words)
    by_click = interlock(*words, env={**os.environ, **WITH_CLICK})
    assert (plainly.returncode, plainly.stdout, plainly.stderr) == (
        by_click.returncode,
        by_click.stdout,
        by_click.stderr,
    )


@pytest.mark.parametrize("words", [("list",), ("list", "web"), ("ls",), ("can", "web")])
def test_plain_command_line_loads_no_parser(vms, words):
    """Neither click nor the modules that it needs are loaded."""
    vms.create("web", "tiny", driver="simulated")
    program = f"import sys\nsys.argv = ['interlock', *{words!r}]\nfrom interlock.__main__ import main\ntry: main()\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}finally: pass{LOADED}"], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == ""


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
    """Options, mistakes and other commands are left to click."""
    assert plain(words, {}) is None
