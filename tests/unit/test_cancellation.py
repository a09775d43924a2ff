"""The cancellation flag that signals set: which waits it ends, and where the handler may raise."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from interlock.errors import CancelledError
from interlock.fsm.port import Deadline
from interlock.host import cancellation
from interlock.host.locks import wait_for
from interlock.host.run import run

LONG_S = 60.0


@pytest.fixture(autouse=True)
def listening():
    """Listen for signals as the program does, and restore the handlers afterwards."""
    handlers = {number: signal.getsignal(number) for number in (*cancellation.SIGNALS, signal.SIGALRM)}
    cancellation.listen()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    cancellation._requested = cancellation._listener = None


@pytest.fixture
def soon():
    """Return a function that signals this process after 0.2 s, when the test is in the middle of its wait."""
    timers = []

    def send(number=signal.SIGTERM):
        timers.append(threading.Timer(0.2, os.kill, (os.getpid(), number)))
        timers[-1].start()

    yield send
    for timer in timers:
        timer.join()


def test_handler_alone_raises_nothing():
    """A signal does not disturb work that does not wait; the next look at the flag raises."""
    os.kill(os.getpid(), signal.SIGINT)
    assert cancellation.requested()
    with pytest.raises(CancelledError, match="interrupted by SIGINT"):
        cancellation.check()


@pytest.mark.parametrize("number", cancellation.SIGNALS)
def test_listen_leaves_an_ignored_signal_ignored(number):
    """Under nohup(1), SIGHUP is ignored."""
    signal.signal(number, signal.SIG_IGN)
    cancellation.listen()
    os.kill(os.getpid(), number)
    assert not cancellation.requested()


@pytest.fixture
def waits(tmp_path):
    """Return every kind of wait, by name; each would outlast the test."""

    def look_at_the_clock():
        deadline = Deadline(LONG_S)
        while not deadline.passed:
            time.sleep(0.01)

    def read():
        with cancellation.interruptible():
            os.read(reader, 1)

    reader, writer = os.pipe()
    with (tmp_path / "lock").open("ab") as held, (tmp_path / "lock").open("ab") as wanted:
        wait_for(held.fileno(), pytest.fail)
        yield {
            "pause": lambda: cancellation.pause(LONG_S),
            "readable": lambda: cancellation.readable(LONG_S, [reader]),
            "deadline": look_at_the_clock,
            "program": lambda: run(["sleep", "60"]),
            "lock": lambda: wait_for(wanted.fileno(), lambda: None),
            "foreign call": read,
            "iterator": lambda: list(cancellation.each(iter(lambda: os.read(reader, 1), b""))),
        }
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("name", ["pause", "readable", "deadline", "program", "lock", "foreign call", "iterator"])
def test_wait_is_ended_by_a_signal(waits, soon, name, injected):
    """A signal ends every kind of wait."""
    soon()
    with pytest.raises(CancelledError, match="interrupted by SIGTERM"):
        waits[name]()
    injected("a signal in the middle of a wait")


def test_shielded_work_is_not_called_off():
    """Undo steps are not cancelled: a signal has no effect there, not even in a nested foreign call."""
    with cancellation.interruptible():
        with cancellation.shielded():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            cancellation.pause(0)
            with cancellation.interruptible():
                os.kill(os.getpid(), signal.SIGINT)
            assert not Deadline(LONG_S).passed
        with pytest.raises(CancelledError):
            cancellation.check()
        cancellation._requested = None


def test_shield_of_one_thread_covers_no_other():
    """While one thread is shielded, a signal still ends the waits of the others."""
    raised = []

    def other():
        try:
            cancellation.pause(LONG_S)
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=other)
    with cancellation.shielded():
        thread.start()
        os.kill(os.getpid(), signal.SIGINT)
        thread.join()
    assert len(raised) == 1


def test_interruptible_in_another_thread_lets_the_handler_raise_nowhere():
    """The handler runs in the main thread, so an interruptible call in another thread must not make it raise."""
    inside, go = threading.Event(), threading.Event()

    def other():
        with cancellation.interruptible():
            inside.set()
            go.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        cancellation._requested = None
        go.set()
        thread.join()


def test_interruptible_notices_a_call_that_swallows_what_is_raised():
    """A library that catches everything can neither prevent the cancellation nor turn it into another error."""

    def swallow():
        with cancellation.interruptible(), suppress(CancelledError):
            os.kill(os.getpid(), signal.SIGINT)

    def spoil():
        with cancellation.interruptible():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except CancelledError as error:
                raise RuntimeError from error

    for library in (swallow, spoil):
        with pytest.raises(CancelledError):
            library()
        cancellation._requested = None


def test_step_aside_gives_the_signals_their_effect_back():
    """A program that replaces ours gets the default signal handling, and an earlier signal is not lost."""
    code = (
        "import os, signal\nfrom interlock.host import cancellation\n"
        "cancellation.listen(); cancellation.step_aside(); os.kill(os.getpid(), signal.SIGTERM)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(CancelledError):
        cancellation.step_aside()
