"""`interlock shell`: what it says about a command that is one word with blanks."""

import shlex
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.cli import Session
from interlock.commands.guest import shell_command
from interlock.errors import InterlockError
from interlock.fsm.states import State


class OneGuest(Session):
    """A session in whose only guest every command exits with the number in which it ends."""

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
    """The shell's own "not found" names a program nobody meant; the hint works as typed."""
    session = OneGuest()
    with pytest.raises(SystemExit) as ended:
        shell_command.main(["web", "--", "exit 127"], obj=session)
    assert ended.value.code == 127
    (error,) = session.complaints
    assert error.message == 'the guest of "web" has no program called "exit 127"'
    assert shlex.split(error.hint or "") == ["interlock", "shell", "web", "--", "sh", "-c", "exit 127"]


def test_shell_with_a_program_whose_name_has_blanks_runs_it():
    """A blank in a program's name is allowed; its exit code is the command's."""
    session = OneGuest()
    with pytest.raises(SystemExit) as ended:
        shell_command.main(["web", "/opt/my program 003"], obj=session)
    assert (ended.value.code, session.complaints) == (3, [])
