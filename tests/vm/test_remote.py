"""Another host's guests, used from here: a real sshd between two homes, and a real guest behind it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from interlock import Interlock

pytestmark = pytest.mark.vm

BYTES = bytes(range(256)) * 5000


@pytest.fixture
def other(vms, reached, tmp_path, monkeypatch):
    """Return another host, which has the home of `vms`; this side has its own home, without images."""
    host = reached(vms.home.root, Path(os.environ["XDG_RUNTIME_DIR"]))
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "mine"))
    return host


@pytest.fixture
def afar(other):
    """Return a function that runs the program for the other host."""
    command = [sys.executable, "-m", "interlock", "--host", other.url]
    run = partial(subprocess.run, capture_output=True, check=False, timeout=600)
    return lambda *words, given=b"": run([*command, *words], input=given)


def test_guest_of_another_host_is_as_at_hand(afar, other, tmp_path, until, begin_port):
    """The guest is created, started, entered, copied into and out of, and tunnelled to; no key is copied here."""
    made = afar("create", "web", "--template", "tiny", "--driver", "qemu", "--memory", "256MiB")
    assert made.returncode == 0, made.stderr
    refused = afar("copy", str(tmp_path / "sent"), "web:")
    assert (refused.returncode, b"copy is legal from running only" in refused.stderr) == (3, True)
    started = afar("start", "web")
    assert started.returncode == 0, started.stderr

    entered = afar("run", "web", "--", "sh", "-c", "cat; echo err >&2; exit 7", given=BYTES)
    assert (entered.returncode, entered.stdout, entered.stderr) == (7, BYTES, b"err\n")

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a file").write_bytes(BYTES)
    assert afar("copy", "-r", str(tmp_path / "site"), "web:").returncode == 0
    assert afar("copy", "web:site/a file", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == BYTES
    assert afar("copy", "web:site/a file", "web:twin").returncode == 0
    assert list((tmp_path / "mine").rglob("*.key")) == []

    port = begin_port()
    command = [sys.executable, "-m", "interlock", "--host", other.url, "tunnel", "web", f"{port}:22"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tunnel:
        until(lambda: banner(port).startswith(b"SSH-2.0-"))
        tunnel.send_signal(signal.SIGTERM)
        tunnel.communicate()
    assert tunnel.returncode == 130
    assert [path.name for path in other.run.rglob("tunnel-*")] == []

    vms = Interlock(host=other.url)
    done = vms.run("web", ["sh", "-c", "cat twin; cat"], input=BYTES)
    assert (done.status, done.stdout) == (0, BYTES + BYTES)
    vms.copy("web:twin", str(tmp_path / "twin"))
    assert (tmp_path / "twin").read_bytes() == BYTES
    line = vms.shell("web", ["sh", "-c", 'echo "$A"'], environment={"A": "a b"})
    assert subprocess.run(line, capture_output=True, check=True, timeout=600).stdout == b"a b\n"
    vms.delete("web", force=True)


def banner(port: int) -> bytes:
    """Return the first bytes that the server on `port` sends."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
        return connection.recv(100)
    return b""


@pytest.fixture
def begin_port():
    """Return a function that returns a free port."""

    def port() -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            return int(free.getsockname()[1])

    return port
