"""Signals at any moment of the program's life, and closed standard streams."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from interlock.fsm.states import State

INTERLOCK = [sys.executable, "-m", "interlock"]

AT_IMPORT = """\
import os, signal, sys
from interlock.host import cancellation

class Finder:
    left = {number}
    def find_spec(self, *_):
        Finder.left -= 1
        if Finder.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from interlock.__main__ import main
main()
"""
"""The program, sending itself SIGINT at the start of its NUMBER-th import."""


@pytest.mark.parametrize("number", [2, 5, 10, 20, 40, 60, 80])
def test_signal_in_an_import_ends_with_one_word_and_no_traceback(bring, state, number, injected):
    """An interrupted import would leave half a module: the signal waits until the work checks for it."""
    bring(State.created)
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT.format(number=number), "start", "web"],
        env={**os.environ, "INTERLOCK_SIMULATED": '{"start": {"hang": true}}'},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, state()) == (130, "created")
    assert done.stderr.count("error: cancelled") == 1
    assert "Traceback" not in done.stderr
    injected("a signal in start-up")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_change_nothing(begin, bring, state, closed, injected):
    """A start whose streams are closed succeeds, and no file of ours gets their numbers."""
    bring(State.created)
    process = begin("start", "web", "--format", "json", preexec_fn=lambda: [os.close(number) for number in closed])
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, state()) == (0, "running")
    assert (bool(stdout), bool(stderr)) == (1 not in closed, 2 not in closed)
    injected("closed standard streams")


def test_signal_that_comes_again_while_the_work_is_undone_counts_for_nothing(
    begin, bring, at_work, state, history, injected
):
    """A second Ctrl-C does not interrupt the clean-up."""
    bring(State.created)
    process = begin("start", "web", orders={"start": {"hang": True}, "kill": {"delay_s": 0.5}})
    at_work()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    assert (process.returncode, state(), history()[-1]) == (130, "created", ("start", "failed"))
    assert process.stderr.read().count("error: cancelled") == 1
    injected("a signal that comes again while work is undone")


def test_signal_at_a_question_ends_it(begin, home):
    """Ctrl-C at the question creates nothing."""
    leader, follower = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    process = begin("create", "web", "-t", "tiny", "--driver", "simulated", **streams)
    os.close(follower)
    said = b""
    while b"ancel" not in said:
        said += os.read(leader, 1024)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    os.close(leader)
    assert not home.exists("web")
