"""`create` at a terminal shows what would be made and asks; elsewhere it never does."""

import os
import pty
import select
import time

import pytest

CREATE = ("create", "web", "--template", "tiny", "--driver", "simulated")
PATIENCE_S = 30


class Terminal:
    """A terminal at which the program runs: what it shows, and what is typed."""

    def __init__(self) -> None:
        self.leader, self.follower = pty.openpty()
        self.screen = ""

    def read_until(self, words: str) -> str:
        """Return what was shown since the last call, once `words` are there."""
        give_up = time.monotonic() + PATIENCE_S
        seen = ""
        while words not in seen:
            assert time.monotonic() < give_up, seen
            if select.select([self.leader], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.leader, 4096).decode()
                except OSError:  # the program has gone
                    break
        return seen

    def type(self, text: str) -> None:
        """Type `text` and a return."""
        os.write(self.leader, f"{text}\n".encode())


@pytest.fixture
def terminal():
    """Yield a terminal, closed afterwards."""
    terminal = Terminal()
    yield terminal
    os.close(terminal.leader)


@pytest.fixture
def create(begin, terminal, monkeypatch):
    """Return what runs `create` at the terminal."""
    monkeypatch.setenv("TERM", "xterm")

    def run(*arguments):
        process = begin(*CREATE, *arguments, **dict.fromkeys(("stdin", "stdout", "stderr"), terminal.follower))
        os.close(terminal.follower)
        return process

    return run


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Return what makes the user's editor one that replaces a text by another in what it is given."""

    def make(old, new):
        program = tmp_path / "editor"
        program.write_text(f"#!/bin/sh\nsed -i 's/{old}/{new}/' \"$1\"\n")
        program.chmod(0o700)
        monkeypatch.setenv("VISUAL", str(program))

    return make


def test_create_at_a_terminal_shows_the_machine_and_waits(create, terminal, vms):
    """What would be made is seen before anything is made; a return agrees."""
    process = create("--cpus", "3", "--port-forward", "8080:80")
    shown = terminal.read_until("[p]:")
    assert ("web, from template:tiny" in shown, "cpus 3" in shown, "8080 → 80" in shown) == (True, True, True)
    assert list(vms.instances()) == []
    terminal.type("")
    terminal.read_until("created")
    assert process.wait(PATIENCE_S) == 0
    assert vms.status("web").spec.forwards[0].guest_port == 80


def test_create_at_a_terminal_can_be_cancelled(create, terminal, home):
    """Nothing was made then, and the exit code says so."""
    process = create()
    terminal.read_until("[p]:")
    terminal.type("c")
    assert "nothing was created" in terminal.read_until("nothing was created")
    assert process.wait(PATIENCE_S) == 130
    assert not home.directory("web").exists()


def test_create_at_a_terminal_edits_the_template(create, terminal, edit, vms):
    """The editor gets the whole template; what comes back is what is made."""
    edit("cpus: 1", "cpus: 2")
    create()
    terminal.read_until("[p]:")
    terminal.type("e")
    assert "cpus 2" in terminal.read_until("[p]:")
    terminal.type("p")
    terminal.read_until("created")
    assert vms.status("web").spec.cpus == 2


def test_create_at_a_terminal_tells_mistakes_and_lets_them_be_mended(create, terminal, edit):
    """A slip in the editor costs nothing but another look at it."""
    edit("cpus: 1", "cpus: many")
    process = create()
    terminal.read_until("[p]:")
    terminal.type("e")
    assert "cpus: " in terminal.read_until("edit it again")
    terminal.type("n")
    terminal.read_until("[p]:")
    terminal.type("c")
    assert process.wait(PATIENCE_S) == 130


def test_create_at_a_terminal_takes_another_template(create, terminal, vms):
    """A name that is none is told, and another one can be typed."""
    create()
    for name, words in (("tinny", "did you mean"), ("debian", "from template:debian")):
        terminal.read_until("[p]:")
        terminal.type("t")
        terminal.read_until("template:")
        terminal.type(name)
        assert words in terminal.read_until(words)
    terminal.read_until("[p]:")
    terminal.type("p")
    terminal.read_until("created")
    assert vms.status("web").spec.origin == "template:debian"


def test_create_at_a_terminal_of_what_exists_asks_nothing(create, terminal, vms):
    """Whoever would edit a template in vain is told at once."""
    vms.create("web", "tiny", driver="simulated")
    process = create()
    assert 'instance "web" is created' in terminal.read_until("hint")
    assert process.wait(PATIENCE_S) == 3


def test_create_at_a_terminal_with_yes_asks_nothing(create, terminal):
    """Who knows what they want is not kept."""
    process = create("--yes")
    assert "[p]:" not in terminal.read_until('created "web"')
    assert process.wait(PATIENCE_S) == 0
