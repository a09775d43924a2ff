"""`interlock shell` and `interlock run`: their errors, and the command line that runs in the guest."""

import shlex
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.cli import Session
from interlock.commands.guest import run_command, shell_command
from interlock.errors import DeadlineError, InterlockError
from interlock.fsm.states import State
from interlock.guest import ssh


class OneGuest(Session):
    """A session with one guest, in which a command exits with the number at its end."""

    interlock: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[InterlockError] = []
        self.interlock = SimpleNamespace(status=lambda _: SimpleNamespace(state=State.running))
        self.interlock.shell = self._shell

    def complain(self, error: InterlockError) -> None:
        self.complaints.append(error)

    def _shell(self, _: str, command: tuple[str, ...], **__: object) -> list[str]:
        return [sys.executable, "-c", f"exit(int('{command[-1][-3:]}'))"]


def test_shell_with_a_command_line_as_one_word_says_how_to_run_it():
    """The shell's "not found" would name a program that nobody meant; the hint works as typed."""
    session = OneGuest()
    with pytest.raises(SystemExit) as ended:
        shell_command.main(["web", "--", "exit 127"], obj=session)
    assert ended.value.code == 127
    (error,) = session.complaints
    assert error.message == 'the guest of "web" has no program called "exit 127"'
    assert shlex.split(error.hint or "") == ["interlock", "shell", "web", "--", "sh", "-c", "exit 127"]


def test_shell_with_a_program_whose_name_has_blanks_runs_it():
    """A program's name may contain blanks; its exit code is passed on."""
    session = OneGuest()
    with pytest.raises(SystemExit) as ended:
        shell_command.main(["web", "/opt/my program 003"], obj=session)
    assert (ended.value.code, session.complaints) == (3, [])


def test_run_that_takes_longer_than_its_timeout_is_a_deadline_that_names_the_command():
    """The command's own exit code is passed on only if it ends in time."""
    session = OneGuest()
    session.interlock.shell = lambda *_, **__: [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(DeadlineError) as caught:
        run_command.main(["--timeout", "0.2", "web", "sleep", "600"], obj=session, standalone_mode=False)
    assert caught.value.message == 'sleep did not end in the guest of "web" within 0.2 s'
    session.interlock.shell = session._shell
    with pytest.raises(SystemExit) as ended:
        run_command.main(["--timeout", "600", "web", "--", "true 003"], obj=session)
    assert ended.value.code == 3


@pytest.mark.parametrize(
    ("command", "asked", "said"),
    [
        (["printf", "%s|", "a  b", "$HOME", "it's", ""], {}, "a  b|$HOME|it's||"),
        (["printf", "%s|", "a  b", "$HOME", "it's"], {"shell": "sh"}, "a  b|$HOME|it's|"),
        (["sh", "-c", "pwd; printf '%s|' \"$@\"", "sh", "a  b"], {"workdir": "my folder"}, "/my folder\na  b|"),
        (["pwd"], {"workdir": "-my", "shell": "sh"}, "/-my\n"),
    ],
)
def test_within_runs_the_command_as_it_was_given(tmp_path, command, asked, said):
    """Neither a working folder nor another shell changes the arguments."""
    for folder in ("my folder", "-my"):
        (tmp_path / folder).mkdir()
    done = subprocess.run(ssh.within(command, **asked), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.replace(str(tmp_path), "") == said


def test_within_a_missing_folder_runs_nothing(tmp_path):
    """The guest's own error names the missing folder."""
    line = ssh.within(["touch", "ran"], workdir="missing")
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "missing" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, []),
        ({"shell": "fish"}, ["fish", "-l"]),
        ({"shell": "fish", "workdir": "/etc"}, ["sh", "-c", ssh._WITHIN, "sh", "/etc", "fish", "-l"]),
    ],
)
def test_within_without_a_command_is_a_login_shell(asked, line):
    """With nothing asked, the command stays empty, and ssh starts the user's own shell."""
    assert ssh.within([], **asked) == line
