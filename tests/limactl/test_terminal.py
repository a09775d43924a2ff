"""At a terminal, some commands ask whether to start the instance, unless a flag answers the question."""

import os
import sys

import pytest
from terminals import on_terminal

from interlock.limactl.__main__ import run

QUESTION = "Do you want to start the instance now?"


@pytest.fixture
def at_terminal(lima):
    """Return a function that runs the drop-in at a terminal and types `answer`; it returns (exit code, output)."""

    def limactl(answer, *words):
        environment = {**os.environ, "TERM": "xterm", "LIMA_HOME": str(lima)}
        return on_terminal([sys.executable, "-m", "interlock.limactl", *words], environment, answer)

    return limactl


@pytest.fixture
def status(lima, capfd):
    """Create the instance `web`, and return a function that returns its status according to limactl."""
    assert run(["create", "web.yaml"]) == 0
    assert (lima / "web").is_dir()

    def word():
        capfd.readouterr()
        run(["ls", "-f", "{{.Status}}", "web"])
        return capfd.readouterr().out.strip()

    return word


def test_shell_of_a_stopped_instance_asks_and_a_no_leaves_it_stopped(at_terminal, status):
    """After a no, the message says what to type, and the exit code is 1 because nothing ran."""
    code, shown = at_terminal(b"n\n", "shell", "web", "true")
    assert (code, QUESTION in shown, "run `limactl start web`" in shown) == (1, True, True)
    assert status() == "Stopped"


def test_yes_starts_the_instance_before_the_shell(at_terminal, status):
    """Enter alone means yes, as in limactl; the command then fails, because a simulated machine has no shell."""
    code, shown = at_terminal(b"\n", "shell", "web", "true")
    assert (code, 'driver "simulated" has no shell' in shown) == (1, True)
    assert status() == "Running"


@pytest.mark.parametrize("words", [("edit", "web", "--cpus=2"), ("clone", "web", "copy"), ("rename", "web", "other")])
def test_edit_clone_and_rename_ask_as_well(at_terminal, status, words):
    """The change itself is made whatever the answer."""
    assert status() == "Stopped"
    code, shown = at_terminal(b"n\n", *words)
    assert (code, QUESTION in shown) == (0, True)


@pytest.mark.parametrize(
    "words", [("--tty=false", "shell", "web"), ("-y", "shell", "web"), ("shell", "--start=false", "web")]
)
def test_question_is_not_asked_if_a_flag_answers_it(at_terminal, status, words):
    """`--tty=false`, `-y` and an explicit --start answer the question."""
    code, shown = at_terminal(b"", *words)
    assert (code, QUESTION in shown, status()) == (1, False, "Stopped")


def test_end_of_input_is_no_answer(at_terminal, status):
    """Control-D cancels the command."""
    code, shown = at_terminal(b"\x04", "shell", "web")
    assert (code, QUESTION in shown, "Traceback" in shown, status()) == (1, True, False, "Stopped")
