"""A pytest plugin that provides another host, as the program sees it: a real sshd with a separate Interlock behind it.

sshd listens on the loopback interface with its own port and keys, and does not use this machine's configuration. The
Interlock there has another home and another runtime directory.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
DEADLINE_S = 60.0


class OtherHost:
    """A host that ssh knows as `other`. Its files are in `folder`."""

    url = "ssh://other"

    def __init__(self, folder: Path, client: Path, home: Path | None = None, run: Path | None = None) -> None:
        self.folder, self.home, self.client = folder, home or folder / "home", client
        self.run, self.bin = run or folder / "run", folder / "bin"
        for path in (folder, self.run, self.bin, client):
            path.mkdir(mode=0o700, exist_ok=True)
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._install(sys.executable)
        self._know()
        self.begin()

    def _install(self, python: str) -> None:
        """Put the program on the PATH of the host, where its simulated machines obey `order`, and configure sshd."""
        self.order("{}")
        self.program("interlock", f'INTERLOCK_SIMULATED="$(cat {self.folder}/orders)" exec {python} -m interlock "$@"')
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "MaxStartups 100\nMaxSessions 100\n"
            f"SetEnv INTERLOCK_HOME={self.home} XDG_RUNTIME_DIR={self.run} PATH={self.bin}:{os.environ['PATH']} "
            f"HOME={self.folder} INTERLOCK_DRIVER=simulated PYTHONPATH={os.environ.get('PYTHONPATH', '')}\n"
        )

    def _know(self) -> None:
        """Make the host known on this side, with a script that runs the real ssh with a separate ssh_config(5)."""
        algorithm, key, *_ = (self.folder / "host_key.pub").read_text().split()
        (self.client / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {algorithm} {key}\n")
        (self.client / "config").write_text(
            f"Host other\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {self.folder}/user_key\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.client}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
        )
        (self.client / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.client}/config "$@"\n')
        (self.client / "ssh").chmod(0o755)

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH of the host: a shell script with the line `text`."""
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def order(self, text: str) -> None:
        """Give orders, as JSON, to the simulated machines of the host."""
        (self.folder / "orders").write_text(text)

    def begin(self) -> None:
        """Start sshd, and wait until it accepts connections."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # normally made by the Debian package's service
        assert SSHD, "sshd is not installed: apt install openssh-server"
        log = self.folder / "sshd.log"
        command = [SSHD, "-D", "-f", self.folder / "sshd_config", "-E", log]
        self._sshd = subprocess.Popen(command, start_new_session=True)
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        pytest.fail(f"sshd does not answer: {log.read_text()}")

    def end(self) -> None:
        """Kill sshd and its open connections, as a cut cable would break them after a while."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._sshd.kill()
        self._sshd.wait()

    def sessions(self) -> list[int]:
        """Return the ids of sshd's processes for connections, without the commands that they run."""
        found = [pid for child in _children(self._sshd.pid) for pid in (child, *_children(child))]
        return [pid for pid in found if _name(pid).startswith("sshd")]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OtherHost]]:
    """Yield a function that makes another host, which ssh on this side can reach until the test ends."""
    made: list[OtherHost] = []
    with tempfile.TemporaryDirectory(prefix="host-") as short:  # the path of a socket may have 107 bytes

        def make(home: Path | None = None, run: Path | None = None) -> OtherHost:
            made.append(OtherHost(tmp_path / "other", tmp_path / "client", home, run))
            monkeypatch.setenv("PATH", f"{tmp_path}/client:{os.environ['PATH']}")
            monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
            monkeypatch.setenv("XDG_RUNTIME_DIR", short)
            return made[0]

        yield make
        for host in made:
            host.end()


@pytest.fixture
def other(reached: Callable[..., OtherHost]) -> OtherHost:
    """Return another host without instances, which `interlock --host ssh://other` reaches."""
    return reached()
