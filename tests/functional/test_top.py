"""`interlock top` in a terminal: the real program, its keys, and how it ends."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading

import pytest

from interlock.fsm.states import State

SIZE = struct.pack("HHHH", 24, 80, 0, 0)
ESCAPES = re.compile(r"\x1b\[[0-9;?<>=$]*[ -/]*[@-~]|\x1b[PX^_\]].*?(?:\x1b\\|\x07)|\x1b.")


class Terminal:
    """A terminal of 80 by 24, its output, and the program that writes to it."""

    def __init__(self, begin, until, **options):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, SIZE)
        os.set_blocking(self.leader, True)
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        self.process = begin("top", start_new_session=True, **streams, **options)
        os.close(follower)
        self._received, self._until = b"", until
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while piece := os.read(self.leader, 4096):
                self._received += piece
        except OSError:  # the last writer has ended
            pass

    @property
    def text(self):
        """The whole output, without escape sequences."""
        return ESCAPES.sub("", self._received.decode(errors="replace"))

    def shows(self, *words):
        self._until(lambda: all(word in self.text for word in words))

    def press(self, keys):
        os.write(self.leader, keys.encode())

    def ends(self):
        return self.process.wait(timeout=300)


@pytest.fixture
def terminal(begin, until, monkeypatch):
    """Return a function that begins `top` on a terminal; `orders` are for the simulated driver."""
    monkeypatch.setenv("TERM", "xterm-256color")
    made = []

    def open_one(**options):
        made.append(Terminal(begin, until, **options))
        return made[-1]

    yield open_one
    for it in made:
        os.close(it.leader)


def test_top_shows_takes_keys_and_ends(terminal, bring, vms, until):
    """A key does what is legal, and `q` ends the view with exit code 0."""
    bring(State.created)
    top = terminal()
    top.shows("NAME", "web", "created", "start", "quit")
    top.press("s")
    until(lambda: vms.status("web").state is State.running)
    top.shows('started "web"', "suspend")
    top.press("q")
    assert top.ends() == 0


@pytest.fixture
def quit_while_it_starts(terminal, bring, vms, until):
    """Return a function that starts `web` from the view, with orders for that start, and then quits the view."""

    def begin(orders):
        bring(State.created)
        top = terminal(orders={"start": orders})
        top.shows("start")
        top.press("s")
        until(lambda: vms.status("web").operation and vms.status("web").operation.step)
        top.shows("waiting for the simulated guest")
        top.press("q")
        top.shows("Under way")
        top.press("q")
        return top

    return begin


def test_top_that_is_quit_finishes_what_is_under_way(quit_while_it_starts, tmp_path):
    """The terminal says so and waits; the exit code is that of the start."""
    go = tmp_path / "go"
    top = quit_while_it_starts({"until": str(go), "error": "the simulated disk is full"})
    top.shows('still starting "web"; Ctrl-C cancels it')
    go.touch()
    assert top.ends() == 6
    top.shows("the simulated disk is full")


def test_top_that_waits_for_the_rest_calls_it_off_at_ctrl_c(quit_while_it_starts, vms):
    """The same happens as with the command `start`."""
    top = quit_while_it_starts({"hang": True})
    top.shows("still starting")
    top.process.send_signal(signal.SIGINT)
    assert top.ends() == 130
    assert vms.status("web").state is State.created
    assert vms.status("web").operation is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_top_ends_by_a_signal(terminal, bring, number):
    """The terminal's settings are restored."""
    bring(State.created)
    top = terminal()
    top.shows("start")
    before = termios.tcgetattr(top.leader)[3] & termios.ECHO
    top.process.send_signal(number)
    assert top.ends() == 130
    assert not before
    assert termios.tcgetattr(top.leader)[3] & termios.ECHO


def test_top_without_colours_shows_the_same(terminal, bring, monkeypatch):
    """With NO_COLOR, bold and reverse replace the colours."""
    bring(State.running)
    monkeypatch.setenv("NO_COLOR", "1")
    top = terminal()
    top.shows("running", "stop")
    coloured = {
        part
        for sequence in re.findall(rb"\x1b\[([0-9;]*)m", top._received)
        for part in sequence.split(b";")
        if part and 30 <= int(part) <= 48 and int(part) != 39
    }
    assert coloured == set()


def test_top_without_a_terminal_names_what_programs_use(interlock):
    """It is a usage error, given before anything is loaded."""
    done = interlock("top")
    assert (done.returncode, "hint: interlock watch --json" in done.stderr) == (2, True)


def test_top_without_textual_says_how_to_install_it(on_terminal, tmp_path, monkeypatch):
    """The message is one line, and the exit code is that of a missing program."""
    (tmp_path / "textual.py").write_text("raise ModuleNotFoundError(\"No module named 'textual'\", name='textual')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, said = on_terminal("top")
    assert code == 6
    assert "textual, which is not installed" in said
    assert "install textual" in said


@pytest.mark.usefixtures("home")
def test_top_ends_when_its_terminal_is_closed():
    """A closed window or a lost connection ends it as a signal does."""
    pid, leader = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "interlock", "top"])  # noqa: S606 - no shell is needed
    received = b""
    while b"No instances" not in received:
        received += os.read(leader, 4096)
    os.close(leader)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
