"""The folder of one Lima instance, `LIMA_HOME/NAME`: what its files say, without limactl and without trusting a pid.

    LIMA_HOME/NAME/          written by
    ├── lima.yaml            limactl create, and people: the template, whole
    ├── protected            limactl protect
    ├── ha.pid               the host agent, a limactl that serves the machine and ends with it
    ├── qemu.pid, vz.pid     the hypervisor; vz lives in the host agent and has its pid
    ├── ha.stdout.log        the host agent: its events, a JSON object each, of the last run only
    ├── ha.stderr.log        the host agent: its log, a JSON object each
    ├── ssh.config           the host agent: how to log in, to a host called lima-NAME
    └── serial*.log          the hypervisor

A pid file outlives a crash, and its pid may be reused. The host agent and the hypervisor both have the folder's path on
their command lines (`--pidfile`, `-pidfile`), so a process counts only if its command line names the folder. limactl
itself signals any process that has the pid, so stale files are removed before limactl is called. Source: Lima,
pkg/store/instance.go, pkg/instance/stop.go, pkg/hostagent/events/events.go.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...host.files import RECORD_BYTES, read_own
from ...host.process import Actor, boot_id, started_ticks

YAML = "lima.yaml"
HOST_AGENT_PID, HOST_AGENT_SOCKET = "ha.pid", "ha.sock"
EVENTS, LOG, SSH_CONFIG = "ha.stdout.log", "ha.stderr.log", "ssh.config"

_PID_BYTES = 32


class Life(NamedTuple):
    """Which processes of an instance are alive."""

    host_agent: Actor | None
    driver: Actor | None
    """The hypervisor."""
    stale: tuple[Path, ...] = ()
    """The pid files whose processes are gone."""
    hidden: bool = False
    """True when a process that is not visible from here listens at the host agent's socket."""

    @property
    def processes(self) -> set[Actor]:
        """The processes that can be seen."""
        return {one for one in (self.driver, self.host_agent) if one}

    @property
    def alive(self) -> bool:
        """True when any part of it runs."""
        return bool(self.host_agent or self.driver or self.hidden)

    @property
    def broken(self) -> str | None:
        """What is missing where only one of the two runs; Lima's own word for such an instance is Broken."""
        if self.hidden or bool(self.host_agent) == bool(self.driver):
            return None
        return "its hypervisor is not running" if self.host_agent else "its host agent is not running"


class Said(NamedTuple):
    """What the host agent has said of the last run."""

    ready: bool = False
    """True once the guest has answered."""
    errors: tuple[str, ...] = ()
    """What failed in a guest that runs."""
    degraded: bool = False
    exiting: bool = False
    ssh_port: int | None = None


class Folder(NamedTuple):
    """The folder of the instance `name` in `home`; it need not exist."""

    home: Path
    """LIMA_HOME, with its links resolved, as limactl does."""
    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.home / self.name

    @property
    def exists(self) -> bool:
        """True when limactl knows the instance."""
        return os.path.lexists(self.path / YAML)

    def look(self) -> Life:
        """Return which of its processes are alive; raises OSError if that cannot be known."""
        found: dict[bool, Actor] = {}
        stale = []
        for file in self._pid_files():
            process = self._process(file)
            if process:
                found[file.name == HOST_AGENT_PID] = process
            else:
                stale.append(file)
        hidden = not found and bool(stale) and _answers(self.path / HOST_AGENT_SOCKET)
        return Life(found.get(True), found.get(False), () if hidden else tuple(stale), hidden)

    def said(self) -> Said:
        """Return what the host agent's events say."""
        said = Said()
        for event in _objects(self.path / EVENTS):
            status = event.get("status")
            if not isinstance(status, dict):
                continue
            said = said._replace(
                exiting=said.exiting or status.get("exiting") is True,
                ssh_port=_port(status.get("sshLocalPort")) or said.ssh_port,
            )
            if status.get("running") is True:
                said = said._replace(
                    ready=True,
                    degraded=status.get("degraded") is True,
                    errors=tuple(str(error) for error in status.get("errors") or ()),
                )
        return said

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the host agent's log: `level`, `msg`, `time`."""
        yield from _objects(self.path / LOG)

    def ssh_config(self, name: str) -> str:
        """Return the ssh_config(5) of the last run, for a host called `name`; raises FileNotFoundError before one."""
        text = read_own(self.path / SSH_CONFIG).decode(errors="replace")
        lines = [f"Host {name}" if line.startswith("Host ") else line for line in text.splitlines()]
        return "\n".join(lines) + "\n"

    def run(self) -> int:
        """Return a number that changes when a run begins or logs an event; 0 before the first run."""
        with suppress(FileNotFoundError):
            return (self.path / EVENTS).stat().st_mtime_ns
        return 0

    def _pid_files(self) -> list[Path]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(path for path in self.path.iterdir() if path.suffix == ".pid")
        return []

    def _process(self, file: Path) -> Actor | None:
        """Return the process that wrote the pid file `file`, if it is alive."""
        try:
            pid = int(read_own(file, _PID_BYTES))
        except (FileNotFoundError, ValueError):
            return None
        ticks = started_ticks(pid)
        if ticks is None or not self._mentioned(pid):
            return None
        return Actor(pid, ticks, boot_id())

    def _mentioned(self, pid: int) -> bool:
        """True when the command line of process `pid` names a file of this folder."""
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return os.fsencode(f"{self.path}/") in line


def _answers(path: Path) -> bool:
    """True when a process listens at the socket `path`."""
    import socket

    with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):  # its path may be too long
        asking.settimeout(0)
        return asking.connect_ex(str(path)) in (0, errno.EAGAIN)  # EAGAIN: others are waiting to be served
    return False


def parsed(line: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object that `line` is; None for anything else."""
    with suppress(ValueError, RecursionError):
        data = json.loads(line)
        return data if isinstance(data, dict) else None
    return None


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in the last part of `path`, one per line; other lines are skipped."""
    with suppress(FileNotFoundError):
        for line in read_own(path, RECORD_BYTES, tail=True).splitlines():
            if (data := parsed(line)) is not None:
                yield data


def _port(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value <= 0xFFFF else None  # noqa: PLR2004 - the largest port
