"""Help exists for every command, agrees with it, and loads nothing that it does not need."""

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from interlock.cli import Commands
from interlock.commands.help import TOPICS
from interlock.commands.index import COMMANDS

ROOT = Path(__file__).parents[2]
NAMES = [name for section in COMMANDS.values() for name in section]
COLUMNS = 120


def commands(names, group, before=()):
    """Yield the words and the object of each command, including the commands in groups."""
    for name in names:
        command = group.get_command(click.Context(click.Group()), name)
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command.commands, command, (*before, name))


EVERY = dict(commands(NAMES, Commands()))

SLOW = (
    "hashlib",
    "structlog",
    "rich",
    "pydantic",
    "transitions",
    "yaml",
    "httpx",
    "zstandard",
    "qemu",
    "pycdlib",
    "psutil",
)

RUN_AND_TELL = """
import sys
from interlock.__main__ import main
sys.argv = ["interlock", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def modules_after(*arguments):
    """Return the top-level modules that are loaded when the program, run on `arguments`, ends."""
    command = [sys.executable, "-c", RUN_AND_TELL, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stderr.splitlines()[-1].split()


@pytest.mark.parametrize("arguments", EVERY)
def test_help_of_every_command_works_and_says_what_it_does(interlock, arguments):
    """Each command explains itself on stdout."""
    done = interlock(*arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: interlock {' '.join(arguments)}")


def test_help_of_program_lists_every_command_under_its_section(interlock):
    """The overview names every command, with its summary from the table of commands."""
    text = interlock("--help").stdout
    for section, commands in COMMANDS.items():
        assert f"\n{section}:\n" in text
        assert [name for name, (_, summary) in commands.items() if f"{name} " not in text or summary not in text] == []


def test_commands_entry_leads_to_a_command_of_that_name():
    """The table that saves loading the commands is right about each one: module, name and the summary's first word."""
    for name in NAMES:
        command = Commands().get_command(click.Context(click.Group()), name)
        assert command.name == name
        summary = next(section[name][1] for section in COMMANDS.values() if name in section)
        assert (name, summary.split()[0]) == (name, command.help.split()[0])


def test_help_of_every_command_has_an_example():
    """Readers find something that they can type."""
    examples = {words: f"\n    interlock {' '.join(words)}" for words in EVERY}
    without = [
        words
        for words, command in EVERY.items()
        if examples[words] not in textwrap.indent(inspect.cleandoc(command.help), "    ")
    ]
    assert without == []


def test_help_without_arguments_is_the_overview_and_names_the_topics(interlock):
    """`interlock help` prints what `--help` prints, and lists the topics."""
    done = interlock("help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(interlock("--help").stdout.rstrip())
    assert all(topic in done.stdout for topic in TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_help_of_topic_explains_it_within_a_terminal(interlock, topic):
    """A topic is text that fits a terminal of 120 columns, and no command has its name."""
    done = interlock("help", topic)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= COLUMNS
    assert topic not in NAMES


@pytest.mark.parametrize(("typed", "meant"), [("rm", ("delete",)), ("ps", ("list",)), ("images", ("image", "list"))])
def test_help_of_another_programs_name_is_that_of_the_command_it_means(interlock, typed, meant):
    """Both ways of asking show the help of the command, under its name here."""
    assert interlock("help", typed).stdout == interlock("help", *meant).stdout
    assert interlock(typed, "--help").stdout == interlock(*meant, "--help").stdout


@pytest.mark.parametrize("arguments", [("start",), ("image", "build")])
def test_help_of_command_is_its_help_option(interlock, arguments):
    """`help COMMAND` prints what `COMMAND --help` prints."""
    assert interlock("help", *arguments).stdout == interlock(*arguments, "--help").stdout


def test_help_of_nonsense_says_what_there_is(interlock):
    """An unknown word is a usage error that names the topics."""
    done = interlock("help", "nonsense")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: usage")
    assert "exit-codes" in done.stderr


def test_help_names_every_variable_that_is_read(interlock):
    """`help environment` lists every variable of ours that users may set."""
    text = interlock("help", "environment").stdout
    sources = [*ROOT.glob("*.py"), *ROOT.glob("commands/*.py"), *ROOT.glob("host/*.py"), *ROOT.glob("drivers/**/*.py")]
    ours = {name for path in sources for name in re.findall(r'"(INTERLOCK_[A-Z_]+)"', path.read_text())}
    assert len(ours) > 1
    assert {name for name in ours if name not in text} <= {"INTERLOCK_SIMULATED"}


def test_program_without_arguments_shows_the_help(interlock):
    """`interlock` without a command prints the overview on stderr and exits with 2."""
    done = interlock()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")


def test_version_is_printed(interlock):
    """Name and version, on one line."""
    from interlock import __version__

    for words in (("--version",), ("version",), ("-q", "version")):
        assert interlock(*words).stdout == f"interlock {__version__}\n"


def test_unknown_command_is_answered_with_the_one_meant(interlock):
    """A mistyped command is a usage error, and the hint is the command to type."""
    done = interlock("lst", "web")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error: usage", 'there is no command "lst"', "hint: interlock list web"],
    )


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("list",), ("list", "--format", "json"), ("can", "web"), ("start", "--help")],
)
def test_looking_loads_nothing_slow(interlock, arguments):
    """Quick commands import no slow module, even with an instance to look at."""
    interlock("up", "web", "--template", "tiny", "--driver", "simulated")
    loaded = modules_after(*arguments)
    assert [name for name in SLOW if name in loaded] == []
