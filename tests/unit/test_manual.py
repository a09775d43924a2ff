"""Every command has a manual page that agrees with its help and that man(1) can print."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from interlock.cli import cli
from interlock.diagrams.manual import NAMES, every, page

MAN = Path(__file__).parents[2] / "docs" / "man"
COMMANDS = {context.command_path: command for command, context in every(cli, click.Context(cli, info_name="interlock"))}


def printed(name):
    """Return the page as a terminal with very long lines shows it."""
    command = ["man", "-l", "--warnings", MAN / name]
    environment = {"PATH": "/usr/bin:/bin", "MANWIDTH": "1000", "LANG": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


def test_manual_has_a_page_for_every_command_and_no_other():
    """A removed command leaves no page behind."""
    assert {path.name for path in MAN.iterdir()} == set(NAMES)
    assert {f"{path.replace(' ', '-')}.1" for path in COMMANDS} == set(NAMES)


@pytest.mark.parametrize("path", COMMANDS)
def test_manual_page_has_the_options_and_examples_of_the_help(path):
    """The page has every option and every example, with hyphens that can be typed."""
    text = page(f"{path.replace(' ', '-')}.1").replace("\\-", "-").replace("\\e", "\\")
    command = COMMANDS[path]
    names = [name for param in command.params if isinstance(param, click.Option) for name in param.opts]
    assert [name for name in [*names, "--help"] if f"\\fB{name}\\fR" not in text] == []
    examples = re.findall(r"^ *(interlock .*?) *$", (command.help or "").split("\b\n")[-1], re.MULTILINE)
    assert [line for line in examples if line not in text] == []


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_manual_pages_are_what_mandoc_expects():
    """Only the date is missing: with one, a page could not be compared with the committed file."""
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *sorted(MAN.iterdir())],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert [line for line in done.stdout.splitlines() if 'missing date, using "": TH' not in line] == []


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("name", ["interlock.1", "interlock-create.1", "interlock-list.1", "interlock-image-prune.1"])
def test_manual_page_is_printed(name):
    """man(1) shows the sections and the text of the page."""
    text = printed(name)
    assert [title for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS") if f"\n{title}\n" not in text] == []
    assert f"{name.removesuffix('.1')} - " in re.sub(" +", " ", text)
    assert "{{.Name}}\\t{{.Status}}" in text or name != "interlock-list.1"
