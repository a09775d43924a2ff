"""What shells offer: everything that has a name, quickly, also in real shells."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import click
import pytest
from terminals import shells

from interlock.cli import cli
from interlock.commands.completing import KINDS, SCRIPTS, TABLE, offers
from interlock.commands.index import COMMANDS
from interlock.diagrams.formats import FORMATS

SLOW = {
    "click",
    "hashlib",
    "structlog",
    "rich",
    "pydantic",
    "transitions",
    "yaml",
    "httpx",
    "zstandard",
    "qemu",
    "psutil",
}

RUN_AND_TELL = """
import sys
from interlock.__main__ import main
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture
def some(vms, home, tmp_path, monkeypatch):
    """Make two instances, an image, a disk, and a file and a folder in the working folder."""
    vms.create("web", "tiny", driver="simulated")
    vms.create("db", "tiny", driver="simulated")
    (home.images / "manifests").mkdir(parents=True)
    for arch in ("x86_64", "aarch64"):
        (home.images / "manifests" / f"debian.{arch}").touch()
    vms.disks.create("data", 1 << 20)
    vms.snapshot("web", "before")
    (tmp_path / "notes.yaml").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)


def complete(*words, to="bash"):
    """Return what the program offers a shell after `words`, the last one unfinished, and the modules that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment(*words, to=to),
    )
    (modules,) = done.stderr.splitlines()
    return done.stdout, set(modules.split())


def environment(*words, to="bash"):
    """Return the environment in which the shell `to` asks for completions."""
    return {
        **os.environ,
        "_INTERLOCK_COMPLETE": f"{to}_complete",
        "COMP_WORDS": shlex.join(("interlock", *words)),
        "COMP_CWORD": words[-1] if to == "fish" else str(len(words)),
    }


@pytest.fixture
def offered(interlock):
    """Return a function that returns the offers after some words; `<file>` or `<dir>` where the shell looks itself."""

    def offer(*words):
        done = interlock(env=environment(*words))
        assert (done.returncode, done.stderr) == (0, "")
        pairs = (line.split(",", 1) for line in done.stdout.splitlines())
        return [f"<{kind}>" if kind in ("file", "dir") else value for kind, value in pairs]

    return offer


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["start", "stop"]),
        (("l",), ["list", "logs", "limactl"]),
        (("start", "w"), ["web"]),
        (("rm", "w"), ["web"]),
        (("stop", ""), ["db", "web"]),
        (("stop", "db", ""), ["web"]),
        (("stop", "db", "web", ""), []),
        (("rename", "web", ""), []),
        (("can", "web", "re"), ["reset", "resume", "rename", "restore", "repair"]),
        (("template", "s"), ["schema", "show"]),
        (("template", "show", "debian-c"), ["debian-cloud", "<file>"]),
        (("create", "-t", "ti"), ["tiny", "<file>"]),
        (("create", "web", "--template=ti"), ["--template=tiny", "<file>"]),
        (("create", "web", "--mount", ""), ["<dir>"]),
        (("create", "web", "--driver", ""), ["ganeti", "lima", "qemu", "simulated"]),
        (("image", "rm", ""), ["debian"]),
        (("snapshot", "restore", "web", ""), ["before"]),
        (("snapshot", "restore", "db", ""), []),
        (("snapshot", "create", "web", ""), []),
        (("image", "import", ""), ["<file>"]),
        (("disk", "delete", ""), ["data"]),
        (("copy", "w"), ["web:", "<file>"]),
        (("copy", "web", ":", "/e"), []),
        (("list", "--format", ""), ["table", "json", "yaml"]),
        (("list", "--format", "=", "j"), ["json"]),
        (("list", "--format", "="), ["table", "json", "yaml"]),
        (("list", "--form"), ["--format"]),
        (("list", "--json", "--js"), []),
        (("list", "--filter", "stat"), ["state="]),
        (("--log-format", ""), ["human", "logfmt", "json"]),
        (("--log-format", "json", "up", "--on-failure", ""), ["stop", "keep"]),
        (("-q", "lis"), ["list"]),
        (("diagram", "--format", ""), list(FORMATS)),
        (("help", "comp"), ["completion"]),
        (("help", "star"), ["start"]),
        (("wait", "web", "--for", "r"), ["running", "ready"]),
        (("run", "web", "--star"), []),
        (("run", "--star"), ["--start"]),
        (("shell", "web", "--", "l"), []),
        (("prune", ""), ["image", "warm", "download", "leftover", "log", "runtime"]),
        (("no-such", "sta"), ["start"]),
        (("start", "it's"), []),
    ],
)
def test_completion_offers_what_can_be_typed_next(offered, words, expected):
    """Everything that has a name is offered where it can be typed."""
    assert offered(*words) == expected


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("words", [("st",), ("start", ""), ("image", "rm", ""), ("create", "-t", ""), ("list", "--")])
def test_completion_loads_no_parser_and_nothing_slow(words):
    """A shell waits for it at each press of Tab."""
    said, modules = complete(*words)
    assert said
    assert sorted(SLOW & modules) == []


@pytest.mark.usefixtures("some")
def test_completion_speaks_to_each_shell_in_its_form():
    """zsh reads three lines for each offer, "_" where it has no help; fish reads a tab before the help."""
    assert complete("start", "w", to="zsh")[0] == "plain\nweb\n_\n"
    assert complete("start", "w", to="fish")[0] == "plain,web\t\n"
    assert complete("resta", to="zsh")[0] == "plain\nrestart\nStop an instance, then start it\n"
    assert complete("import", to="fish")[0] == ""


def test_completion_where_the_home_cannot_be_used_offers_nothing(offered, home, monkeypatch):
    """An error would disturb the line that is being typed."""
    home.root.write_text("no folder")
    assert offered("start", "") == []
    monkeypatch.delenv("HOME", raising=False)
    assert offered("sta") == ["start"]


def named(command, context):
    """Yield (path, parameter's name, kind it completes, parameter) for every command, in the order of the table."""
    for param in command.params:
        yield context.command_path, param.name, getattr(param.type, "completes", None), param
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            yield from named(child, click.Context(child, info_name=name, parent=context))


def test_completion_knows_every_kind_that_a_parameter_takes():
    """Each parameter called name, template or driver has a kind."""
    found = list(named(cli, click.Context(cli, info_name="interlock")))
    kinds = {takes for _, _, takes, _ in found if isinstance(takes, str)}
    assert kinds == KINDS
    unknown = {
        (path, name)
        for path, name, takes, param in found
        if name in ("name", "names", "template", "templates", "driver") and takes is None
        if not isinstance(param.type, click.Choice) and not path.endswith(("import", "adopt"))
    }
    assert unknown == set()


def test_completion_table_has_every_command():
    """The committed table is generated; another test compares it with a fresh one."""
    tree = json.loads(TABLE.read_bytes())
    assert list(tree["commands"]) == [name for section in COMMANDS.values() for name in section]
    assert [offer.value for offer in offers([], "")] == list(tree["commands"])


PROGRAM = f"""#!/bin/sh
[ -n "$_INTERLOCK_COMPLETE" ] && exec {sys.executable} -m interlock
echo "<$*>"
"""
"""The program when it completes; otherwise it prints its arguments."""


@pytest.fixture
def shell(tmp_path):
    """Return a function that starts a shell with the program on its PATH; all shells are ended afterwards."""
    with shells(tmp_path, "interlock", PROGRAM) as start:
        yield start


LINES = (
    ("sta", "start"),
    ("start we", "start web"),
    ("stop web d", "stop web db"),
    ("create x -t arc", "create x -t archlinux"),
    ("create x -t ./no", "create x -t ./notes.yaml"),
    ("copy w", "copy web:"),
    ("list --format j", "list --format json"),
    ("list --format=j", "list --format=json"),
    ("create x --mount fol", "create x --mount folder"),
)
"""What is typed before Tab, and the line that results."""

LOAD = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(_INTERLOCK_COMPLETE=bash_source interlock)"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(_INTERLOCK_COMPLETE=zsh_source interlock)"'),
    "fish": (["--no-config", "-i"], "_INTERLOCK_COMPLETE=fish_source interlock | source"),
}


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("name", LOAD)
def test_completion_in_a_real_shell(shell, name):
    """The script works when loaded as the guide says: the line that is run is complete."""
    arguments, load = LOAD[name]
    one = shell(name, *arguments)
    one.type(f"{load}; echo lo''aded\n", "loaded")
    for typed, expected in LINES:
        one.type(f"interlock {typed}\t\n", f"<{expected}")


def test_completion_scripts_are_what_the_help_says(interlock):
    """Each shell gets a script with a valid syntax."""
    for name, script in SCRIPTS.items():
        done = interlock(env={**os.environ, "_INTERLOCK_COMPLETE": f"{name}_source"})
        assert (done.returncode, done.stdout, done.stderr) == (0, script, "")
        assert f"_INTERLOCK_COMPLETE={name}_source" in interlock("help", "completion").stdout
        if shutil.which(name):
            with tempfile.NamedTemporaryFile("w", suffix=f".{name}") as file, suppress(OSError):
                file.write(script)
                file.flush()
                assert subprocess.run([name, "-n", file.name], check=False, timeout=60).returncode == 0


def test_completion_table_lies_beside_the_commands():
    """The table is read from there, wherever the package is installed."""
    assert TABLE.parent == Path(offers.__code__.co_filename).parent
