"""`create` at a terminal shows what it would make and asks; without a terminal it never asks."""

import http.server
import os
import pty
import select
import shlex
import threading
import time

import pytest

CREATE = ("create", "web", "--template", "tiny", "--driver", "simulated")
PATIENCE_S = 30


class Terminal:
    """The terminal on which the program runs: what it shows, and what is typed."""

    def __init__(self) -> None:
        self.leader, self.follower = pty.openpty()
        self.unread = ""

    def read_until(self, words: str) -> str:
        """Wait for `words`, and return what was shown since the last call, up to and including them."""
        give_up = time.monotonic() + PATIENCE_S
        seen = self.unread
        while words not in seen:
            assert time.monotonic() < give_up, seen
            if select.select([self.leader], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.leader, 4096).decode()
                except OSError:  # the program has ended
                    break
        seen, found, self.unread = seen.partition(words)
        return seen + found

    def type(self, text: str) -> None:
        """Type `text` and a return."""
        os.write(self.leader, f"{text}\n".encode())


@pytest.fixture
def terminal():
    """Yield a terminal, closed afterwards."""
    terminal = Terminal()
    yield terminal
    os.close(terminal.leader)


TEMPLATE = "images: [{location: 'build:tiny'}]\nmounts: [{location: '{{.Home}}', mountPoint: /h, writable: true}]\n"


@pytest.fixture
def url():
    """Yield the URL of a template that asks for write access to its user's home."""

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TEMPLATE.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/web.yaml"
        listening.shutdown()


@pytest.fixture
def create(begin, terminal, monkeypatch):
    """Return a function that runs `create` at the terminal."""
    monkeypatch.setenv("TERM", "xterm")

    def run(*arguments):
        process = begin(*CREATE, *arguments, **dict.fromkeys(("stdin", "stdout", "stderr"), terminal.follower))
        os.close(terminal.follower)
        return process

    return run


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Return a function that makes the user's editor a program that replaces one text with another."""

    def make(old, new):
        program = tmp_path / "editor"
        program.write_text(f"#!/bin/sh\nsed -i 's/{old}/{new}/' \"$1\"\n")
        program.chmod(0o700)
        monkeypatch.setenv("VISUAL", str(program))

    return make


def test_create_at_a_terminal_shows_the_machine_and_waits(create, terminal, vms):
    """The user sees the plan before anything is made; Return accepts it."""
    process = create("--cpus", "3", "--port-forward", "8080:80")
    shown = terminal.read_until("[p]:")
    assert ("web, from template:tiny" in shown, "cpus 3" in shown, "8080 → 80" in shown) == (True, True, True)
    assert list(vms.instances()) == []
    terminal.type("")
    terminal.read_until("created")
    assert process.wait(PATIENCE_S) == 0
    assert vms.status("web").spec.forwards[0].guest_port == 80


def test_create_at_a_terminal_can_be_cancelled(create, terminal, home):
    """Nothing is created, and the exit code says so."""
    process = create()
    terminal.read_until("[p]:")
    terminal.type("c")
    assert "nothing was created" in terminal.read_until("nothing was created")
    assert process.wait(PATIENCE_S) == 130
    assert not home.directory("web").exists()


def test_create_at_a_terminal_edits_the_template(create, terminal, edit, vms):
    """The editor gets the whole template; the instance is made from what it saves."""
    edit("cpus: 1", "cpus: 2")
    create()
    terminal.read_until("[p]:")
    terminal.type("e")
    assert "cpus 2" in terminal.read_until("[p]:")
    terminal.type("p")
    terminal.read_until("created")
    assert vms.status("web").spec.cpus == 2


def test_create_at_a_terminal_tells_mistakes_and_lets_them_be_mended(create, terminal, edit):
    """Mistakes are shown and the editor can be opened again."""
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
    """An unknown template name is reported, and another one can be typed."""
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
    """An existing name is reported before the template is opened for editing."""
    vms.create("web", "tiny", driver="simulated")
    process = create()
    assert 'instance "web" is created' in terminal.read_until("hint")
    assert process.wait(PATIENCE_S) == 3


def test_create_at_a_terminal_with_yes_asks_nothing(create, terminal):
    """`--yes` skips the question."""
    process = create("--yes")
    assert "[p]:" not in terminal.read_until('created "web"')
    assert process.wait(PATIENCE_S) == 0


def test_create_from_a_server_at_a_terminal_needs_a_yes_to_what_it_reaches(create, terminal, url, vms):
    """The prompt shows the host path that the guest would reach and which template asks for it; a yes is enough."""
    create("--template", url)
    shown = terminal.read_until("[p]:")
    words = f"mounts[0]: the guest reads and writes {os.environ['HOME']}; asked for by {url}"
    assert words in shown.replace("\r\n", "")
    terminal.type("")
    terminal.read_until('created "web"')
    assert vms.status("web").spec.mounts[0].writable


def test_create_from_a_server_at_a_terminal_with_yes_is_done(create, terminal, url):
    """`--yes` counts as agreement."""
    process = create("--template", url, "--yes")
    terminal.read_until('created "web"')
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("command", [("create", "web", "--yes"), ("create", "web"), ("up", "web")], ids=" ".join)
def test_template_of_a_server_is_refused_in_a_script_without_trust(interlock, url, state, command):
    """Without a terminal nobody can agree: each request is refused by name, and the hint adds `--trust`."""
    refused = interlock(*command, "--template", url, "--driver", "simulated")
    assert (refused.returncode, state()) == (2, "absent")
    assert f"  | mounts[0]: the guest reads and writes {os.environ['HOME']}; asked for by {url}" in refused.stderr
    hint = refused.stderr.splitlines()[-1]
    assert hint == f"hint: interlock {' '.join(command)} --template {url} --driver simulated --trust"
    assert interlock(*shlex.split(hint)[2:]).returncode == 0


@pytest.mark.parametrize(
    "secret",
    [("--template", "http://me:s3cret@127.0.0.1"), ("--template", "?sig=s3cret"), ("--set", "env.TOKEN=s3cret")],
    ids=lambda it: it[1],
)
def test_template_of_a_server_is_refused_without_repeating_a_secret(interlock, url, secret):
    """stderr ends up in CI logs: with a secret in the command there is no hint; the message says what to add."""
    option, value = secret
    where = url.replace("http://127.0.0.1", value) if "@" in value else f"{url}{value if '?' in value else ''}"
    more = secret if option == "--set" else ()
    refused = interlock("create", "web", "--template", where, *more, "--driver", "simulated")
    assert refused.returncode == 2
    assert "needs --trust" in refused.stderr
    assert "s3cret" not in refused.stderr
    assert "hint:" not in refused.stderr


def test_template_validate_notes_what_an_instance_would_reach(interlock, url):
    """`template validate` lists what a template would reach on the host."""
    done = interlock("template", "validate", url)
    assert (done.returncode, f"reads and writes {os.environ['HOME']}; asked for by" in done.stderr) == (0, True)
