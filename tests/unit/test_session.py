"""Sessions in a guest, and what is built of them, with a shell of this host's in ssh's place."""

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.errors import DeadlineError, DriverError
from interlock.fsm.port import Deadline
from interlock.fsm.spec import Probe
from interlock.guest import probes, provision, session, ssh
from interlock.guest.report import Failure
from interlock.guest.session import Endpoint, GuestGoneError, Wait


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """Return an endpoint on this host: the real command, run by a shell as sshd would, without the network."""
    monkeypatch.setattr(ssh, "command_line", lambda _config, _name, command, options: list(command))  # noqa: ARG005
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    monkeypatch.setattr(probes, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.chdir(tmp_path)
    return Endpoint("web", tmp_path / "ssh.config", 1, "i-1")


@pytest.fixture
def machine() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return what is watched of a machine, and what kills it when it is closed."""
    pidfd, alive = socket.socketpair()
    with pidfd, alive:
        yield pidfd, alive


def test_run_gives_stdin_and_hears_both_outputs(endpoint, machine):
    """What is said is heard as it comes, and the exit status is the command's."""
    heard = bytearray()
    command = ["sh", "-c", "cat; echo error >&2; exit 7"]
    wait = Wait(Deadline(30), machine[0].fileno())
    assert session.run(endpoint, command, wait, stdin=b"given\n", hear=heard.extend) == 7
    assert heard == b"given\nerror\n"


def test_run_ends_with_the_machine(endpoint, machine):
    """The session of a guest that died is cut off at once."""
    wait = Wait(Deadline(30), machine[0].fileno())
    with pytest.raises(GuestGoneError):
        session.run(endpoint, ["sh", "-c", "echo; exec sleep 60"], wait, hear=lambda _: machine[1].close())


def probe(script: str, hint: str = "") -> Probe:
    """Return a probe called after its script."""
    return Probe(description=f"that {script}", script=f"#!/bin/sh\n{script}\n", hint=hint)


def test_probes_are_tried_until_each_succeeds(endpoint, machine, tmp_path):
    """One after the other, each as often as it takes, and each said once."""
    steps: list[str] = []
    wanted = [probe("echo x >>tries; [ $(wc -l <tries) = 3 ]"), probe("[ $(wc -l <tries) = 3 ]")]
    probes.run(endpoint, wanted, Deadline(30), machine[0].fileno(), steps.append)
    assert (tmp_path / "tries").read_text() == "x\nx\nx\n"
    assert steps == [f"probing: {it.description}" for it in wanted]


def test_probe_is_run_by_its_first_line(endpoint, machine, tmp_path, monkeypatch):
    """Its `#!` line counts, and nothing of it is left behind."""
    script = "#!/usr/bin/env python3\nimport sys\nsys.exit(sys.stdin.read() != '')\n"
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    probes.run(endpoint, [Probe("python", script, "")], Deadline(30), machine[0].fileno(), lambda _: None)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_probe_that_never_succeeds_is_told_with_its_words_and_hint(endpoint, machine):
    """At the deadline the error has the probe's description, the last that it said, and what to look at."""
    with pytest.raises(DeadlineError, match=r'"that echo not yet; exit 1" did not succeed within 0.5 s') as caught:
        probes.run(
            endpoint, [probe("echo not yet; exit 1", "look here")], Deadline(0.5), machine[0].fileno(), lambda _: None
        )
    assert caught.value.details == ("not yet", "look here")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that stands for the guest's program, called as root would call it."""
    path = tmp_path / "interlock"
    monkeypatch.setattr(ssh, "as_root", lambda *_: ["sh", str(path), "again"])
    return path


def test_provision_reports_steps_and_returns_failures(endpoint, machine, program):
    """Each step is said as it begins; what failed is the result."""
    program.write_text("echo 'running script 000 (boot)'; echo noise; echo 'failed 3 script 000 (boot)'; echo ' why'\n")
    steps: list[str] = []
    failures = provision.run(endpoint, Deadline(30), machine[0].fileno(), steps.append)
    assert failures == (Failure("script 000 (boot)", 3, ("why",)),)
    assert steps == ["running script 000 (boot)"]


def test_provision_that_cannot_begin_is_an_error_in_the_guests_words(endpoint, machine, program):
    """A guest that lets nobody be root, say: its last five lines are the error's."""
    program.write_text("seq 100; echo 'sudo: a password is required' >&2; exit 1\n")
    with pytest.raises(DriverError, match="could not run its scripts again") as caught:
        provision.run(endpoint, Deadline(30), machine[0].fileno(), lambda _: None)
    assert caught.value.details == ("97", "98", "99", "100", "sudo: a password is required")


def test_provision_that_takes_too_long_says_where_it_is(endpoint, machine, program):
    """The last step that began is in the error."""
    program.write_text("seq 100; echo 'running script 000 (boot)'; exec sleep 60\n")
    with pytest.raises(DeadlineError, match=r"did not end within 0.5 s") as caught:
        provision.run(endpoint, Deadline(0.5), machine[0].fileno(), lambda _: None)
    assert caught.value.details == ("running script 000 (boot)",)


FLOOD = "head -c 100000000 /dev/zero | tr '\\0' '%s'; "


def test_flooding_provision_keeps_what_it_reports_and_takes_no_memory(endpoint, machine, program, injected):
    """Of a guest that talks without end, its last words are heard, its steps up to a number, and its names in part."""
    program.write_text(
        "yes 'running again and again' | head -100000; " + FLOOD % "x" + "echo; echo 'failed 3 script 000 (boot)'; "
        "echo ' why'; yes 'failed 1 again' | head -1000\n"
    )
    steps: list[str] = []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failures = provision.run(endpoint, Deadline(300), machine[0].fileno(), steps.append)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20_000  # KiB
    assert failures[0] == Failure("script 000 (boot)", 3, ("why",))
    assert len(failures) == 100
    assert steps == ["running again and again"] * 200
    injected("a guest or program that talks without end")


def test_flooding_probe_is_told_in_a_few_short_lines(endpoint, machine, injected):
    """What a probe says is the guest's choice, and an error has room for so much."""
    flooding = probe("seq 1000; " + FLOOD % "y" + "exit 1")
    with pytest.raises(DeadlineError) as caught:
        probes.run(endpoint, [flooding], Deadline(3), machine[0].fileno(), lambda _: None)
    assert len(caught.value.details) < 30
    assert len("".join(caught.value.details)) < 20_000
    injected("a guest or program that talks without end")
