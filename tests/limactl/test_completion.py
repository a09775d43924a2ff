"""Completion of the drop-in's command lines in real shells."""

import subprocess
import sys

import pytest
from terminals import shells

from interlock.limactl.__main__ import run
from interlock.limactl.completion import offers

PROGRAM = f"""#!/bin/sh
case $1 in completion|__complete*) exec {sys.executable} -m interlock.limactl "$@" ;; esac
echo "<$*>"
"""
"""A program that completes like the drop-in, and otherwise prints its arguments."""

LOAD = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(limactl completion bash)"'),
    "zsh": (["-f", "-i"], "autoload -Uz compinit; compinit -u -D; source <(limactl completion zsh)"),
    "fish": (["--no-config", "-i"], "limactl completion fish | source"),
}

LINES = (
    ("fact", "factory-reset"),
    ("start we", "start web"),
    ("create template:opensuse-l", "create template:opensuse-leap"),
    ("create ./we", "create ./web.yaml"),
    ("list --format j", "list --format json"),
    ("--log-level=w", "--log-level=warn"),
    ("network ls us", "network ls user-v2"),
    ("shell --instance we", "shell --instance web"),
)
"""The text typed before the tab key, and the completed line."""


@pytest.fixture
def shell(lima, tmp_path):
    """Yield a function that starts a shell with the program on its PATH; all shells are ended afterwards."""
    assert run(["create", "web.yaml"]) == 0
    assert lima.is_dir()
    with shells(tmp_path, "limactl", PROGRAM) as start:
        yield start


@pytest.mark.parametrize("name", LOAD)
def test_script_completes_in_a_real_shell(shell, name):
    """The script works when it is loaded as its first lines say, also for words with a colon."""
    arguments, load = LOAD[name]
    one = shell(name, *arguments)
    one.type(f"{load}; echo lo''aded\n", "loaded")
    for typed, expected in LINES:
        one.type(f"limactl {typed}\t\n", f"<{expected}")


@pytest.mark.usefixtures("lima")
def test_program_in_the_guest_is_not_completed():
    """After the instance of `shell`, words are for the guest: neither our flags nor files of this host are offered."""
    assert offers(["shell", "web", "-"]) == ([], 4)
    assert [it.word for it in offers(["shell", "--wor"])[0]] == ["--workdir"]


def test_every_group_and_command_is_offered_with_help():
    """A flag before the command, and its value, do not count as the command."""
    found, after = offers(["--log-level", "info", "sn"])
    assert ([(it.word, it.help) for it in found], after) == ([("snapshot", "create, apply, delete, list")], 4)


def test_asking_is_an_answer_of_words_and_a_number():
    """This is the format that limactl's own scripts read."""
    done = subprocess.run(
        [sys.executable, "-m", "interlock.limactl", "__complete", "network", "li"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "list\tList networks\n:4\n"
