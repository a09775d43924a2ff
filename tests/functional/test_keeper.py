"""The keeper: a process that opens a guest's ports on the host, and that may be killed at any moment."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.drivers import find
from interlock.drivers.simulated import VARIABLE, SimulatedDriver
from interlock.fsm import restarts
from interlock.fsm.journal import Journal
from interlock.fsm.records import AUTOSTART_FILE
from interlock.host import cancellation
from interlock.host.home import Home
from interlock.host.locks import Lock
from interlock.host.process import boot_id
from interlock.keeper import calls, keeper

ALL = "portForwards:\n- guestPortRange: [1, 65535]\n"

Until = Callable[[Callable[[], object]], None]


class Watched:
    """The instance `web`, whose opened ports are forwarded, and the keeper of its home."""

    def __init__(self, vms: Interlock, until: Until) -> None:
        self.vms, self.until = vms, until

    @property
    def keepers(self) -> list[int]:
        """The pids of the home's keeper processes."""
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
        """The keeper's pid, as soon as one keeper answers calls."""
        self.until(lambda: calls.heard(self.vms.home))
        self.until(lambda: len(self.keepers) == 1)
        return self.keepers[0]

    def end(self) -> None:
        """Kill the keeper with SIGKILL, as a person or the kernel would.

        Until its last thread has ended, it still reads the FIFO, so a call would be lost with it.
        """
        keeper = os.pidfd_open(self.keeper)
        signal.pidfd_send_signal(keeper, signal.SIGKILL)
        self.until(lambda: cancellation.readable(0, [keeper]))
        os.close(keeper)

    def listen(self, *sockets: str) -> None:
        """Let programs in the guest listen on `sockets` and no others."""
        SimulatedDriver().happen(self.vms.engine.site("web"), sockets=" ".join(sockets))

    @property
    def ports(self) -> list[tuple[int, str]]:
        """The host's ports that lead, or should lead, into the guest, each with its problem."""
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
    """At each look the keeper makes the host's ports match the guest's; `list` and `inspect` show them."""
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
    """It is not a daemon: it begins with a start, and ends when nothing needs it."""
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
    """A keeper killed with SIGKILL leaves its work in place; the next one catches up with what happened meanwhile."""
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
    """The kill may come while the driver opens ports: the next keeper opens all of them again."""
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
    """`list` and the log report a port that another program has taken; once it is free, it leads into the guest."""
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
    """The keeper looks and the engine records: the journal has the line before any command reads it."""
    vms.start("web")
    assert watched.keeper

    site = vms.engine.site("web")
    SimulatedDriver().happen(site, alive=False, exit_reason="guest panicked")

    until(lambda: (line := Journal(site.directory).last()) and line.trigger == "exited")
    assert Journal(site.directory).last().reason == "guest panicked"


class Inside:
    """Keepers that are threads of this process instead of processes; their restarts do not wait."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[threading.Thread] = []
        monkeypatch.setattr(restarts, "_FIRST_S", 0.0)
        monkeypatch.setattr(keeper, "RETRY_S", 0.0)
        monkeypatch.setattr(calls, "call", self.call)
        self.home = home

    def call(self, _: Home) -> None:
        if not calls.heard(self.home):
            self.threads.append(threading.Thread(target=keeper.Keeper(self.home, find).serve))
            self.threads[-1].start()


@pytest.fixture
def inside(home: Home, vms: Interlock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """Yield the keepers of a home in which `web` restarts on failure and has no port rules."""
    inside = Inside(home, monkeypatch)
    vms.create("web", {"base": "template:tiny", "restart": "on-failure"}, driver="simulated")
    yield inside
    vms.delete("web", force=True)
    for thread in inside.threads:
        thread.join(120)
        assert not thread.is_alive()


def fail(vms: Interlock, reason: str = "guest panicked", *, failed: bool = True) -> None:
    SimulatedDriver().happen(vms.engine.site("web"), alive=False, exit_reason=reason, failed=failed)


def ends(vms: Interlock) -> list[tuple[str, str, str | None]]:
    """Return what happened to `web` after its first start: trigger, phase, detail."""
    lines = [line for line in vms.history("web") if line.phase not in ("begun", "step")]
    said = [(line.trigger, line.phase, line.detail or (line.error or {}).get("message")) for line in lines]
    return said[said.index(("start", "done", None)) + 1 :]


def again(vms: Interlock, number: int) -> bool:
    """Return whether restart number `number` is the last thing that happened to `web`."""
    return ends(vms)[-1:] == [("start", "done", f"restart {number} of 5 after a failure")]


def test_machine_that_fails_is_started_again_by_the_keeper(watched: Watched, vms: Interlock, until: Until) -> None:
    """The keeper starts it after a delay; watchers see the delay, and the history has the restart's number."""
    vms.edit("web", "restart=on-failure")
    vms.start("web")
    assert watched.keeper
    fail(vms)

    until(lambda: len(ends(vms)) == 2)
    assert ends(vms) == [("exited", "done", "guest panicked"), ("start", "done", "restart 1 of 5 after a failure")]
    begun = [line for line in vms.history("web") if line.phase == "begun"][-1]
    assert (begun.asked, begun.actor.pid) == ({"restart": 1}, watched.keeper)
    waited = [line.step or "" for line in vms.history("web") if line.phase == "step"]
    assert any(step.startswith("restart 1 of 5, in ") for step in waited)


def test_machine_that_fails_again_and_again_is_given_up(inside: Inside, vms: Interlock, until: Until) -> None:
    """After the documented number of restarts its state says so, and a start by a user resets the count."""
    vms.start("web")
    for number in range(restarts.TRIES):
        fail(vms)
        until(partial(again, vms, number + 1))
    fail(vms)

    until(lambda: not inside.threads[-1].is_alive())
    assert vms.status("web").reason == "guest panicked; given up after 5 restarts"
    assert ends(vms)[-1] == ("exited", "done", "guest panicked; given up after 5 restarts")
    vms.start("web")
    fail(vms)
    until(partial(again, vms, 1))


def test_restart_that_cannot_be_is_tried_again_and_given_up(
    inside: Inside, vms: Interlock, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hypervisor that does not come up counts as a failure, like one that crashed."""
    vms.start("web")
    monkeypatch.setenv(VARIABLE, json.dumps({"start": {"error": "no memory"}}))
    fail(vms)

    until(lambda: not inside.threads[-1].is_alive())
    assert ends(vms) == [
        ("exited", "done", "guest panicked"),
        *[("start", "failed", "no memory")] * 4,
        ("start", "failed", "no memory; given up after 5 restarts"),
    ]


@pytest.mark.usefixtures("inside")
def test_machine_that_somebody_or_the_guest_shut_down_stays_down(vms: Interlock, inside: Inside, until: Until) -> None:
    """A stop, a kill and a guest that shuts itself down are not failures, and the keeper ends afterwards."""
    for end in (vms.stop, vms.kill, lambda _: fail(vms, "guest shut down", failed=False)):
        vms.start("web")
        end("web")
        until(lambda: not inside.threads[-1].is_alive())
        assert vms.status("web").state == "stopped"
        assert ends(vms)[-1][0] in ("stop", "kill", "exited")


def test_stop_calls_off_a_restart_that_waits(
    inside: Inside, vms: Interlock, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who stops the instance does not find it running a minute later."""
    monkeypatch.setattr(restarts, "_FIRST_S", 3600.0)
    vms.start("web")
    fail(vms)
    until(lambda: (doing := vms.status("web").operation) and doing.step.startswith("restart 1 of 5, in "))

    assert vms.stop("web").state == "stopped"

    until(lambda: not inside.threads[-1].is_alive())
    assert [(trigger, phase) for trigger, phase, _ in ends(vms)] == [("exited", "done"), ("start", "failed")]


@pytest.mark.usefixtures("inside")
def test_keeper_waits_for_a_failure_that_another_process_is_about_to_record(vms: Interlock, home: Home) -> None:
    """That process holds the lock: a keeper that ended now would miss the failure."""
    vms.start("web")
    lock = Lock(home.lock("web"))
    assert lock.acquire()
    fail(vms)
    assert keeper.Keeper(home, find)._look()
    lock.release()


def test_restart_whose_keeper_is_killed_is_finished_by_the_next(
    watched: Watched, vms: Interlock, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restart keeps its number, and no second machine appears."""
    go_on = tmp_path / "go-on"
    go_on.touch()
    monkeypatch.setenv(VARIABLE, json.dumps({"start": {"until": str(go_on)}}))
    vms.edit("web", "restart=on-failure")
    vms.start("web")
    assert watched.keeper
    go_on.unlink()
    fail(vms)
    until(lambda: (doing := vms.status("web").operation) and "simulated" in doing.step)
    watched.end()
    until(lambda: (doing := vms.status("web").operation) and doing.interrupted)

    go_on.touch()
    calls.call(vms.home)

    until(lambda: vms.status("web").state == "running")
    assert again(vms, 1)
    assert json.loads((vms.home.directory("web") / "machine.json").read_text())["boots"] == 2


def test_exit_of_an_instance_that_needs_no_keeper_is_recorded_while_there_is_one(
    inside: Inside, vms: Interlock, until: Until
) -> None:
    """The keeper also watches every other instance that is alive."""
    vms.create("plain", "tiny", driver="simulated")
    vms.start("plain")
    vms.start("web")
    SimulatedDriver().happen(vms.engine.site("plain"), alive=False, exit_reason="guest shut down")
    assert inside.threads
    until(lambda: Journal(vms.home.directory("plain")).last().trigger == "exited")
    vms.delete("plain")


def test_keeper_starts_what_should_have_started_at_login(
    inside: Inside, vms: Interlock, until: Until, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a unit, the keeper starts what was marked in an earlier boot of the host, but not what is marked now."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("old", "new"):
        vms.create(name, "tiny", driver="simulated")
        vms.autostart(name)
    (vms.home.directory("old") / AUTOSTART_FILE).write_bytes(b"")
    journal = vms.home.directory("old") / "journal.jsonl"
    journal.write_text(journal.read_text().replace(boot_id(), "an-earlier-boot"))

    vms.start("web")

    assert inside.threads
    until(lambda: vms.status("old").state == "running")
    assert vms.status("new").state == "created"
    vms.delete("old", force=True)
    vms.delete("new")


def test_keeper_starts_at_login_what_a_power_cut_ended_and_who_looked_first_has_recorded(
    inside: Inside, vms: Interlock, until: Until, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`list` records the exit in the new boot; that record does not count as somebody's later action."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    vms.create("old", "tiny", driver="simulated")
    vms.start("old")
    vms.autostart("old")
    for file in vms.home.directory("old").iterdir():
        file.write_text(file.read_text().replace(boot_id(), "an-earlier-boot"))
    assert vms.status("old").reason == "host went down"

    vms.start("web")

    assert inside.threads
    until(lambda: vms.status("old").state == "running")
    vms.delete("old", force=True)


def test_edit_of_the_rules_counts_while_the_machine_runs(watched: Watched, vms: Interlock, until: Until) -> None:
    """A port that a new rule ignores is closed at the keeper's next look."""
    vms.start("web")
    watched.listen("127.0.0.1:8080")
    until(lambda: watched.ports == [(8080, "")])

    vms.edit("web", "portForwards=[{guestPortRange: [8000, 8999], ignore: true}, {guestPortRange: [1, 65535]}]")
    watched.listen("127.0.0.1:8080", "127.0.0.1:9000")

    until(lambda: watched.ports == [(9000, "")])


def test_second_keeper_ends_at_once(watched: Watched, vms: Interlock) -> None:
    """Two starts at the same time may begin two keepers: one of them finds the other and ends."""
    vms.start("web")
    first = watched.keeper

    done = subprocess.run([sys.executable, "-m", "interlock.keeper", vms.home.root], check=False, timeout=120)

    assert done.returncode == 0
    assert watched.keeper == first


def test_instance_without_rules_needs_no_keeper(vms: Interlock, home: Home) -> None:
    """A simulated machine has no port rules unless its template has some, and no keeper is begun for it."""
    vms.create("plain", "tiny", driver="simulated")

    vms.start("plain")

    assert not calls.folder(home).exists()
    vms.delete("plain", force=True)


@pytest.mark.usefixtures("watched")
def test_dry_run_begins_no_keeper(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper would look at real instances, and create files for that."""
    called: list[Home] = []
    monkeypatch.setattr(calls, "call", called.append)
    rehearsed = Interlock(dry_run=True).start("web")
    assert (rehearsed.changed, called) == (True, [])
    Interlock().start("web")
    assert called == [home]
