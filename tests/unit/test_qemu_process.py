"""Which process is the hypervisor: signed before it exists, proved before it is signalled."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.drivers.qemu import process
from interlock.fsm.errors import DriverError

SLEEP = ["sleep", "60"]


@pytest.fixture
def launched(tmp_path):
    actor = process.launch(SLEEP, tmp_path)
    yield actor
    with process.held(actor) as pidfd:
        if pidfd is not None:
            process.end(pidfd, grace_s=0)


def test_launch_signs_the_process_that_then_runs(tmp_path, launched):
    """The identity that the shell wrote is that of the program it became, in a session of its own."""
    assert process.find(tmp_path) == launched
    deadline = time.monotonic() + 10
    while Path(f"/proc/{launched.pid}/cmdline").read_bytes() != b"sleep\x0060\0":
        assert time.monotonic() < deadline
    assert os.getsid(launched.pid) != os.getsid(0)


def test_launch_of_a_second_is_the_first(tmp_path, launched):
    """While one lives, a second launch runs nothing."""
    assert process.launch(["touch", "ran"], tmp_path) == launched
    assert not (tmp_path / "ran").exists()


def test_launch_of_what_fails_returns_none_and_keeps_its_words(tmp_path):
    """A program that ends at once leaves its words, and no live process."""
    actor = process.launch(["sh", "-c", "echo qemu-system-x86_64: no such machine >&2; exit 1"], tmp_path)
    with process.held(actor) as pidfd:
        assert pidfd is None or process.wait(pidfd, 10)
    assert process.find(tmp_path) is None
    assert process.words(tmp_path) == ["no such machine"]


@pytest.mark.parametrize("change", [{"started_ticks": 1}, {"boot_id": "another"}])
def test_held_refuses_a_stranger_with_the_same_pid(launched, change):
    """A pid alone proves nothing: neither another start nor another boot is ours."""
    with process.held(replace(launched, **change)) as pidfd:
        assert pidfd is None
    with process.held(launched) as pidfd:
        assert pidfd is not None


@pytest.mark.parametrize("record", ["", "12\n", "12 (sh) R 1\nboot\n", "x (sh) R\n\n", "\0" * 64])
def test_find_with_damaged_record_is_none(tmp_path, record):
    """What a power cut leaves of the record names no process, and raises nothing."""
    (tmp_path / process.RECORD).write_text(record)
    assert process.last(tmp_path) is None
    assert process.find(tmp_path) is None


def test_last_reads_a_name_with_parentheses(tmp_path):
    """The command's name may hold what separates the fields."""
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / process.RECORD).write_text(f"12 (a) b) c) S {fields}\nboot\n")
    assert process.last(tmp_path).started_ticks == 22


def test_settled_with_lock_but_no_signature_says_so(tmp_path, monkeypatch):
    """A process that holds the directory and cannot be told is an error that says how to find it, not a free place."""
    launched = process.launch(SLEEP, tmp_path)
    signature = (tmp_path / process.RECORD).read_bytes()
    monkeypatch.setattr(process, "_SIGNATURE_TIMEOUT_S", 0.05)
    try:
        os.truncate(tmp_path / process.RECORD, 0)
        with pytest.raises(DriverError, match="does not say which process"):
            process.settled(tmp_path)
    finally:
        (tmp_path / process.RECORD).write_bytes(signature)
        os.kill(launched.pid, signal.SIGKILL)


def test_end_with_grace_lets_it_end_itself(tmp_path):
    """SIGTERM comes first: what handles it may still write."""
    script = 'trap "echo bye >said; exit" TERM; echo >ready; while :; do sleep 0.01; done'
    actor = process.launch(["sh", "-c", script], tmp_path)
    deadline = time.monotonic() + 10
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
    with process.held(actor) as pidfd:
        process.end(pidfd, grace_s=10)
    assert (tmp_path / "said").read_text() == "bye\n"


def test_end_without_grace_ends_a_stopped_process(tmp_path, launched):
    """SIGKILL reaches what SIGSTOP holds."""
    os.kill(launched.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while not process.suspended(launched):
        assert time.monotonic() < deadline
    with process.held(launched) as pidfd:
        process.end(pidfd, grace_s=0)
    assert process.find(tmp_path) is None
