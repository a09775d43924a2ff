"""Waiting for a guest, against a listener that accepts at once, as QEMU's user network does."""

import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock.errors import DeadlineError
from interlock.fsm.port import Deadline
from interlock.guest import readiness, session, ssh
from interlock.guest.report import Failure
from interlock.guest.session import Endpoint
from interlock.host.process import boot_id

GREETING = b"SSH-2.0-test\r\n"


class Listener:
    """A listener on the guest's port that remembers every connection."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.met: list[socket.socket] = []

    def accept(self) -> list[socket.socket]:
        """Return all connections made so far, oldest first."""
        while select.select([self.server], [], [], 0)[0]:
            self.met.append(self.server.accept()[0])
        return self.met

    def close(self) -> None:
        for connection in [self.server, *self.accept()]:
            connection.close()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Return a listener, polled a thousand times a second; a guest that is asleep gets one connection an hour."""
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    monkeypatch.setattr(readiness, "_ASLEEP_TURN_S", 3600.0)
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def machine() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a socket that is watched as the machine's pidfd, and another that ends the machine when it is closed."""
    pidfd, alive = socket.socketpair()
    with pidfd, alive:
        yield pidfd, alive


Look = Callable[[], bool]


def greeted(listener: Listener, pidfd: int, look: Look, reports: list[str], deadline_s: float = 30.0) -> bytes:
    """Return the first bytes of the connection that the wait chooses."""
    wait = session.Wait(Deadline(deadline_s), pidfd, look)
    with readiness._greeted_by(
        Endpoint("web", Path("ssh.config"), listener.port, "i-1"), wait, reports.append
    ) as connection:
        return connection.recv(64)


class EnoughError(Exception):
    """The test has seen what it wanted to see."""


def test_guest_without_network_is_met_once(listener, machine):
    """QEMU forwards every connection sooner or later, so only one is made while the guest has no network."""
    looks = iter(range(500))

    def look() -> bool:
        if next(looks, None) is None:
            raise EnoughError
        return False

    with pytest.raises(EnoughError):
        greeted(listener, machine[0].fileno(), look, reports := [])
    assert len(listener.accept()) == 1
    assert reports == []


def test_connection_that_qemu_gives_up_is_no_sign_of_the_guest(listener, machine):
    """While the guest hangs without a network, no step says that only sshd is missing."""

    def look() -> bool:
        if len(listener.accept()) == 3:
            raise EnoughError
        for connection in listener.met:
            connection.close()
        return False

    with pytest.raises(EnoughError):
        greeted(listener, machine[0].fileno(), look, reports := [])
    assert reports == []


def test_guest_that_wakes_is_looked_at_again(listener, machine):
    """The first connection was lost because the guest had no network yet; a new one is made, and it answers."""
    looks = iter(range(20))

    def look() -> bool:
        if len(listener.accept()) == 2:
            listener.met[1].sendall(GREETING)
        return next(looks, None) is None

    assert greeted(listener, machine[0].fileno(), look, reports := []) == GREETING
    assert reports == [readiness.WAITING_FOR_SSH]


def test_slow_greeting_on_an_old_connection_counts(listener, machine):
    """If the guest is slow to greet, whichever connection it greets on is used."""

    def look() -> bool:
        if len(listener.accept()) == 4:
            listener.met[0].sendall(GREETING)
        return True

    assert greeted(listener, machine[0].fileno(), look, []) == GREETING
    assert len(listener.accept()) == 4


def test_refused_connection_is_made_again(listener, machine):
    """A guest that has a network but no sshd yet refuses; the connection is retried at once."""

    def look() -> bool:
        met = listener.accept()
        if len(met) > 3:
            met[-1].sendall(GREETING)
        elif met:
            met[-1].close()
        return True

    assert greeted(listener, machine[0].fileno(), look, []) == GREETING


def test_connection_that_speaks_something_else_is_not_taken(listener, machine):
    """Only a server that sends ssh's greeting counts as sshd."""

    words = [GREETING, b"HTTP/1.1 400\r\n"]

    def look() -> bool:
        if len(listener.accept()) + len(words) > 2:
            listener.met[-1].sendall(words.pop())
        return True

    assert greeted(listener, machine[0].fileno(), look, []) == GREETING


def test_machine_that_dies_ends_the_wait(listener, machine):
    """The wait ends with the machine, however much time is left."""

    def look() -> bool:
        if listener.accept():
            machine[1].close()
        return True

    with pytest.raises(readiness.GuestGoneError):
        greeted(listener, machine[0].fileno(), look, [])


def test_deadline_ends_the_wait(listener, machine):
    """The wait for a guest that never greets times out, and the error says after how long."""
    with pytest.raises(DeadlineError, match=r"did not answer within 0.05 s"):
        greeted(listener, machine[0].fileno(), lambda: True, [], deadline_s=0.05)


class Guest:
    """A guest as a session sees it, with a folder of this host instead of the guest's own."""

    def __init__(self, folder: Path, listener: Listener, pidfd: int) -> None:
        self.folder, self._pidfd = folder, pidfd
        self.endpoint = Endpoint("web", folder, listener.port, "i-1")
        self._listener = listener

    def say(self, file: str, text: str) -> None:
        """Append `text` to the news or the report of this boot."""
        with (self.folder / file).open("a") as out:
            out.write(text if out.tell() else f"{boot_id()}\n{text}")

    def wait(
        self,
        report: Callable[[str], object],
        deadline_s: float = 60.0,
        agent: Callable[[], bool | None] = lambda: False,
    ) -> tuple[Failure, ...]:
        """Wait until the guest is ready; its sshd greets at once."""

        greeted = 0

        def look() -> bool:
            nonlocal greeted
            for connection in self._listener.accept()[greeted:]:
                connection.sendall(GREETING)
                greeted += 1
            return True

        deadline = Deadline(deadline_s)
        return readiness.wait_until_ready(self.endpoint, deadline, self._pidfd, report, look, agent=agent)


@pytest.fixture(params=["sh", "bash --posix"])
def guest(request, tmp_path, listener, machine, monkeypatch) -> Guest:
    """Return a guest with work to do at this boot; ssh is replaced by the parameter's shell, run on this host."""
    question = readiness._OVER.replace("/var/lib/interlock", str(tmp_path))

    def command_line(_config, _name, command, options):  # noqa: ARG001
        return [*request.param.split(), "-c", question, *command[3:]]

    monkeypatch.setattr(ssh, "command_line", command_line)
    (tmp_path / "each-boot").touch()
    return Guest(tmp_path, listener, machine[0].fileno())


SCRIPT = "script 004 (system) failed in the guest with status 3"


def test_failure_is_reported_before_the_boots_work_is_over(guest):
    """Failures are reported while other scripts still run, and each is returned once at the end."""
    guest.say("news", "now failed 3 script 004 (system)\n no key\nnow fai")
    steps = []

    def report(step: str) -> None:
        steps.append(step)
        if step == SCRIPT:
            guest.say("news", "led 1 script 005 (user)\n")
        elif step.startswith("script 005"):
            guest.say("report", "failed 3 script 004 (system)\n no key\nfailed 1 script 005 (user)\n")
            (guest.folder / "booted").write_text("i-1\n")

    assert guest.wait(report) == (Failure("script 004 (system)", 3, ("no key",)), Failure("script 005 (user)", 1, ()))
    assert steps == [
        *(readiness.WAITING_FOR_SSH, readiness.WAITING_FOR_FIRST_BOOT),
        *(SCRIPT, "script 005 (user) failed in the guest with status 1"),
    ]


def test_guest_in_which_something_failed_is_kept_when_time_is_up(guest):
    """Another script hangs: the result has the failure, and says that the rest did not finish in time."""
    guest.say("news", "now failed 3 script 004 (system)\n no key\n")
    failed = Failure("script 004 (system)", 3, ("no key",))
    assert guest.wait(print, 10.0) == (failed, Failure(readiness.UNFINISHED, 0, ("it did not end in time",)))


def test_guest_in_which_nothing_is_known_to_have_failed_is_a_deadline(guest):
    """News of another boot do not count."""
    (guest.folder / "news").write_text("another-boot\nnow failed 3 script 004 (system)\n")
    with pytest.raises(DeadlineError, match="did not answer within 1 s"):
        guest.wait(print, 1.0)


def test_agent_that_says_ready_saves_the_login(guest, monkeypatch):
    """The agent is asked once sshd has greeted, and again while the boot's work lasts; its yes saves the login."""
    monkeypatch.setattr(ssh, "command_line", None)
    steps, answers = [], iter([None, None, True])
    assert guest.wait(steps.append, agent=lambda: next(answers)) == ()
    assert steps == [readiness.WAITING_FOR_SSH, *2 * [readiness.WAITING_FOR_FIRST_BOOT]]


def test_agent_that_always_says_soon_is_given_up_at_the_deadline(guest):
    """The deadline holds even if the agent keeps saying that the guest is not ready yet."""
    with pytest.raises(DeadlineError):
        guest.wait(print, 0.1, agent=lambda: None)


def test_agent_that_is_not_sure_leaves_it_to_the_login(guest):
    """If something failed, the details come from the login."""
    guest.say("report", "failed 3 script 004 (system)\n")
    (guest.folder / "booted").write_text("i-1\n")
    answers = iter([None, False])
    assert guest.wait(print, agent=lambda: next(answers)) == (Failure("script 004 (system)", 3, ()),)


def test_guest_that_lets_nobody_in_is_a_deadline_with_the_words_of_ssh(guest, monkeypatch):
    """At first it may just be too early, so the login is retried; at the deadline, ssh's own words are the cause."""
    logins = iter([["sh", "-c", "echo 'web: Permission denied (publickey).' >&2; exit 255"]])

    def command_line(*_, **__):
        for login in logins:
            return login
        raise DeadlineError("time is up", details=["of the clock"])

    monkeypatch.setattr(ssh, "command_line", command_line)
    with pytest.raises(DeadlineError, match="time is up") as raised:
        guest.wait(print)
    assert [*raised.value.details] == ["web: Permission denied (publickey).", "of the clock"]
