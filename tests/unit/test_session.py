"""Sessions in a guest, and probes and provisioning over them, with a local shell instead of ssh."""

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
    """Return an endpoint on this host, where the real command is run without ssh and the network."""
    monkeypatch.setattr(ssh, "command_line", lambda _config, _name, command, options: list(command))  # noqa: ARG005
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    monkeypatch.setattr(probes, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.chdir(tmp_path)
    return Endpoint("web", tmp_path / "ssh.config", 1, "i-1")


@pytest.fixture
def machine() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a socket that is watched as the machine's pidfd, and another that ends the machine when it is closed."""
    pidfd, alive = socket.socketpair()
    with pidfd, alive:
        yield pidfd, alive


def test_run_gives_stdin_and_hears_both_outputs(endpoint, machine):
    """Output is passed on as it arrives, and the exit status is the command's."""
    heard = bytearray()
    command = ["sh", "-c", "cat; echo error >&2; exit 7"]
    wait = Wait(Deadline(30), machine[0].fileno())
    assert session.run(endpoint, command, wait, stdin=b"given\n", hear=heard.extend) == 7
    assert heard == b"given\nerror\n"


def test_run_ends_with_the_machine(endpoint, machine):
    """The session is ended at once when the machine dies."""
    wait = Wait(Deadline(30), machine[0].fileno())
    with pytest.raises(GuestGoneError):
        session.run(endpoint, ["sh", "-c", "echo; exec sleep 60"], wait, hear=lambda _: machine[1].close())


def probe(script: str, hint: str = "") -> Probe:
    """Return a probe with `script`, which is named in its description."""
    return Probe(description=f"that {script}", script=f"#!/bin/sh\n{script}\n", hint=hint)


def test_probes_are_tried_until_each_succeeds(endpoint, machine, tmp_path):
    """Probes run one after the other, each until it succeeds; each is reported once."""
    steps: list[str] = []
    wanted = [probe("echo x >>tries; [ $(wc -l <tries) = 3 ]"), probe("[ $(wc -l <tries) = 3 ]")]
    probes.run(endpoint, wanted, Deadline(30), machine[0].fileno(), steps.append)
    assert (tmp_path / "tries").read_text() == "x\nx\nx\n"
    assert steps == [f"probing: {it.description}" for it in wanted]


def test_probe_is_run_by_its_first_line(endpoint, machine, tmp_path, monkeypatch):
    """The script's `#!` line is respected, and no file is left behind."""
    script = "#!/usr/bin/env python3\nimport sys\nsys.exit(sys.stdin.read() != '')\n"
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    probes.run(endpoint, [Probe("python", script, "")], Deadline(30), machine[0].fileno(), lambda _: None)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_probe_that_never_succeeds_is_reported_with_its_words_and_hint(endpoint, machine):
    """The error at the deadline has the probe's description, its last output and its hint."""
    with pytest.raises(DeadlineError, match=r'"that echo not yet; exit 1" did not succeed within 0.5 s') as caught:
        probes.run(
            endpoint, [probe("echo not yet; exit 1", "look here")], Deadline(0.5), machine[0].fileno(), lambda _: None
        )
    assert caught.value.details == ("not yet", "look here")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that replaces the guest's program, which is called as if by root."""
    path = tmp_path / "interlock"
    monkeypatch.setattr(ssh, "as_root", lambda *_: ["sh", str(path), "again"])
    return path


def test_provision_reports_steps_and_returns_failures(endpoint, machine, program):
    """Each step is reported when it begins; the failures are the result."""
    program.write_text("echo 'running script 000 (boot)'; echo noise; echo 'failed 3 script 000 (boot)'; echo ' why'\n")
    steps: list[str] = []
    failures = provision.run(endpoint, Deadline(30), machine[0].fileno(), steps.append)
    assert failures == (Failure("script 000 (boot)", 3, ("why",)),)
    assert steps == ["running script 000 (boot)"]


def test_provision_that_cannot_begin_is_an_error_in_the_guests_words(endpoint, machine, program):
    """For example, the guest may not allow sudo; the error has its last five lines of output."""
    program.write_text("seq 100; echo 'sudo: a password is required' >&2; exit 1\n")
    with pytest.raises(DriverError, match="could not run its scripts again") as caught:
        provision.run(endpoint, Deadline(30), machine[0].fileno(), lambda _: None)
    assert caught.value.details == ("97", "98", "99", "100", "sudo: a password is required")


def test_provision_that_takes_too_long_says_where_it_is(endpoint, machine, program):
    """The error has the last step that began."""
    program.write_text("seq 100; echo 'running script 000 (boot)'; exec sleep 60\n")
    with pytest.raises(DeadlineError, match=r"did not end within 0.5 s") as caught:
        provision.run(endpoint, Deadline(0.5), machine[0].fileno(), lambda _: None)
    assert caught.value.details == ("running script 000 (boot)",)


FLOOD = "head -c 100000000 /dev/zero | tr '\\0' '%s'; "


def test_flooding_provision_keeps_what_it_reports_and_takes_no_memory(endpoint, machine, program, injected):
    """With endless output, the failures at the end are still read; numbers of steps and failures are limited."""
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


def test_flooding_probe_is_reported_in_a_few_short_lines(endpoint, machine, injected):
    """The guest controls the output of a probe, so an error has only a limited part of it."""
    flooding = probe("seq 1000; " + FLOOD % "y" + "exit 1")
    with pytest.raises(DeadlineError) as caught:
        probes.run(endpoint, [flooding], Deadline(3), machine[0].fileno(), lambda _: None)
    assert len(caught.value.details) < 30
    assert len("".join(caught.value.details)) < 20_000
    injected("a guest or program that talks without end")
