"""The keeper: ports that open in a guest are open on the host, by a process that may be killed at any moment."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers.simulated import VARIABLE, SimulatedDriver
from interlock.fsm.journal import Journal
from interlock.host.home import Home
from interlock.host.locks import Lock
from interlock.keeper import calls

ALL = "portForwards:\n- guestPortRange: [1, 65535]\n"

Until = Callable[[Callable[[], object]], None]


class Watched:
    """The instance `web`, whose ports that open are forwarded, and the keeper of its home."""

    def __init__(self, vms: Interlock, until: Until) -> None:
        self.vms, self.until = vms, until

    @property
    def keepers(self) -> list[int]:
        """The pids of the processes that are keepers of the home."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[2:5] == [b"-m", b"interlock.keeper", os.fsencode(self.vms.home.root)]:
                found.append(int(process.name))
        return found

    @property
    def keeper(self) -> int:
        """The pid of the keeper, as soon as there is one that hears calls."""
        self.until(lambda: calls.heard(self.vms.home))
        self.until(lambda: len(self.keepers) == 1)
        return self.keepers[0]

    def end(self) -> None:
        """Kill the keeper, as a person or the kernel would."""
        os.kill(self.keeper, signal.SIGKILL)
        self.until(lambda: not self.keepers)

    def listen(self, *sockets: str) -> None:
        """Let programs in the guest listen on `sockets` and no others."""
        SimulatedDriver().happen(self.vms.engine.site("web"), sockets=" ".join(sockets))

    @property
    def ports(self) -> list[tuple[int, str]]:
        """The ports of the host that lead into the guest, or should, and why they do not."""
        seen = self.vms.status("web").observation
        return [(port.host_port, port.problem) for port in seen.ports] if seen else []


@pytest.fixture
def watched(vms: Interlock, until: Until, tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "web.yaml").write_text(f"base: template:tiny\n{ALL}")
    vms.create("web", str(tmp_path / "web.yaml"), driver="simulated")
    watched = Watched(vms, until)
    yield watched
    vms.delete("web", force=True)
    until(lambda: not watched.keepers)


def test_port_that_opens_in_the_guest_is_shown_and_goes_away_with_it(
    watched: Watched, interlock: Callable[..., "subprocess.CompletedProcess[str]"], until: Until
) -> None:
    """Each look of the keeper makes the host's ports those of the guest; `list` and `inspect` show them."""
    assert interlock("start", "web").returncode == 0
    watched.listen("0.0.0.0:8080", "127.0.0.1:3000", "0.0.0.0:22", "10.0.2.15:4000")
    until(lambda: watched.ports == [(3000, ""), (8080, "")])

    assert "running · ports 3000, 8080\n" in interlock("list").stdout
    first = json.loads(interlock("inspect", "web", "--json").stdout)["ports"][0]
    expected = {"guest_ip": "127.0.0.1", "guest_port": 3000, "host_ip": "127.0.0.1", "host_port": 3000, "problem": None}
    assert first == expected
    watched.listen("127.0.0.1:3000")
    until(lambda: watched.ports == [(3000, "")])
    assert "running · port 3000\n" in interlock("list").stdout


def test_keeper_ends_with_the_last_machine_that_needs_it(watched: Watched, vms: Interlock, until: Until) -> None:
    """It is no daemon: it begins with a start, and is gone when nothing needs it."""
    assert not watched.keepers
    vms.start("web")
    assert watched.keeper

    vms.stop("web")

    until(lambda: not watched.keepers)
    lock = Lock(calls.folder(vms.home) / calls.LOCK)
    assert lock.acquire()
    lock.release()


def test_without_a_keeper_all_else_works_and_the_next_start_begins_one_that_continues(
    watched: Watched, vms: Interlock, interlock: Callable[..., "subprocess.CompletedProcess[str]"], until: Until
) -> None:
    """Killed by kill -9, it leaves what it did; what happened meanwhile is done by the next one."""
    vms.start("web")
    watched.listen("0.0.0.0:8080")
    until(lambda: watched.ports == [(8080, "")])

    watched.end()

    watched.listen("0.0.0.0:3000")
    assert interlock("list").returncode == interlock("can", "web").returncode == 0
    assert watched.ports == [(8080, "")]
    assert not vms.start("web").changed
    until(lambda: watched.ports == [(3000, "")])


def test_keeper_that_is_killed_in_the_middle_is_made_up_for_by_the_next(
    watched: Watched, vms: Interlock, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill may come while the driver opens ports: the next keeper asks for all of them again."""
    go_on = tmp_path / "go-on"
    monkeypatch.setenv(VARIABLE, json.dumps({"carry": {"until": str(go_on)}}))
    vms.start("web")
    watched.listen("0.0.0.0:8080")
    watched.end()  # it is in the middle of the first port, or just before

    assert watched.ports == []
    go_on.touch()
    vms.start("web")
    until(lambda: watched.ports == [(8080, "")])


def test_taken_port_is_said_in_list_and_in_the_log_and_tried_again(
    watched: Watched,
    vms: Interlock,
    interlock: Callable[..., "subprocess.CompletedProcess[str]"],
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that another program has is no secret, and once it is free it leads into the guest."""
    words = "tcp port 8080 of 127.0.0.1 is taken by python3 (pid 4711)"
    monkeypatch.setenv(VARIABLE, json.dumps({"carry": {"error": words}}))
    vms.start("web")
    watched.listen("0.0.0.0:8080")
    until(lambda: watched.ports == [(8080, words)])

    assert f"running · {words}\n" in interlock("list").stdout
    log = calls.folder(vms.home) / calls.LOG
    until(lambda: f"web: {words}\n" in log.read_text())
    watched.end()
    monkeypatch.delenv(VARIABLE)
    vms.start("web")
    until(lambda: watched.ports == [(8080, "")])
    until(lambda: "web: 127.0.0.1:8080 leads to 127.0.0.1:8080\n" in log.read_text())


def test_exit_that_nobody_asks_about_is_recorded_as_it_happens(watched: Watched, vms: Interlock, until: Until) -> None:
    """The keeper looks, and the engine records: the journal has the line before any command reads it."""
    vms.start("web")
    assert watched.keeper

    site = vms.engine.site("web")
    SimulatedDriver().happen(site, alive=False, exit_reason="guest panicked")

    until(lambda: (line := Journal(site.directory).last()) and line.trigger == "exited")
    assert Journal(site.directory).last().reason == "guest panicked"


def test_edit_of_the_rules_counts_while_the_machine_runs(watched: Watched, vms: Interlock, until: Until) -> None:
    """A port that a rule ignores from now on is closed at the keeper's next look."""
    vms.start("web")
    watched.listen("127.0.0.1:8080")
    until(lambda: watched.ports == [(8080, "")])

    vms.edit("web", "portForwards=[{guestPortRange: [8000, 8999], ignore: true}, {guestPortRange: [1, 65535]}]")
    watched.listen("127.0.0.1:8080", "127.0.0.1:9000")

    until(lambda: watched.ports == [(9000, "")])


def test_second_keeper_ends_at_once(watched: Watched, vms: Interlock) -> None:
    """Two starts at the same time may begin two: one of them finds the other and leaves."""
    vms.start("web")
    first = watched.keeper

    done = subprocess.run([sys.executable, "-m", "interlock.keeper", vms.home.root], check=False, timeout=120)

    assert done.returncode == 0
    assert watched.keeper == first


def test_instance_without_rules_needs_no_keeper(vms: Interlock, home: Home) -> None:
    """A simulated machine has no rules unless its template asks for some, and nothing is begun for it."""
    vms.create("plain", "tiny", driver="simulated")

    vms.start("plain")

    assert not calls.folder(home).exists()
    vms.delete("plain", force=True)


@pytest.mark.usefixtures("watched")
def test_dry_run_begins_no_keeper(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper would look at real instances, and make files for that."""
    called: list[Home] = []
    monkeypatch.setattr(calls, "call", called.append)
    rehearsed = Interlock(dry_run=True).start("web")
    assert (rehearsed.changed, called) == (True, [])
    Interlock().start("web")
    assert called == [home]
