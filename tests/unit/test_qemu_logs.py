"""A machine's output is kept in bounded files; tested with the real copiers and a shell instead of the hypervisor."""

import os
import signal
from pathlib import Path

import pytest

from interlock.drivers.qemu import events, hypervisor, logs
from interlock.host.process import started_ticks

LIMITS = {log: log._replace(limit_kib=64, kept_bytes=8 << 10) for log in (logs.SERIAL, logs.EVENTS, logs.QEMU)}
SPEAK = "exec 7>serial.pipe 8>events.out; "


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a script as the hypervisor of `tmp_path`, waits for its end and returns the logs."""

    def ran(script: str) -> dict[str, bytes]:
        with hypervisor.held(hypervisor.launch(["sh", "-c", SPEAK + script], tmp_path)) as pidfd:
            assert pidfd is None or hypervisor.wait(pidfd, 60)
        logs.complete(tmp_path)
        return {log.file: (tmp_path / log.file).read_bytes() for log in LIMITS}

    return ran


@pytest.fixture
def limited(monkeypatch):
    """Lower the size limits of the log files."""
    for name, log in zip(("SERIAL", "EVENTS", "QEMU"), LIMITS.values(), strict=True):
        monkeypatch.setattr(logs, name, log)


def test_last_words_are_kept(run):
    """Once the process has ended, all its output is in the files, each channel in its own."""
    for number in map(str, range(20)):
        kept = run(f"echo serial {number} >&7; echo events {number} >&8; echo qemu {number} >&2")
        assert kept == {
            "serial.log": f"serial {number}\n".encode(),
            "events.log": f"events {number}\n".encode(),
            "qemu.log": f"qemu {number}\n".encode(),
        }


@pytest.mark.usefixtures("limited")
def test_flood_takes_no_more_than_its_limit_and_keeps_the_end(run, tmp_path):
    """A guest that writes without end on any channel does not fill the disk, and its last lines are kept."""
    for way, log in ((7, logs.SERIAL), (8, logs.EVENTS), (2, logs.QEMU)):
        kept = run(f"yes | head -c 2000000 >&{way}; echo last >&{way}")[log.file]
        assert kept.endswith(b"last\n")
        assert len(kept) <= 2 * log.limit_kib * 1024
        assert sum(path.stat().st_blocks for path in tmp_path.iterdir()) <= 8 * log.limit_kib


def test_plain_file_in_place_of_a_fifo_is_not_waited_for(tmp_path, monkeypatch):
    """Machines of Interlock 0.1.0 have one; every command on such a stopped machine used to wait for a copier."""
    (tmp_path / logs.EVENTS.pipe).touch()
    monkeypatch.setattr(logs.cancellation, "pause", pytest.fail)
    logs.complete(tmp_path)


@pytest.mark.usefixtures("limited")
def test_file_is_within_its_limit_while_nobody_looks(tmp_path, until):
    """The limit holds at every moment, and the copiers end with the machine."""
    actor = hypervisor.launch(["sh", "-c", SPEAK + "exec yes >&7"], tmp_path)
    sizes: list[int] = []
    files: set[int] = set()

    def replaced_often() -> bool:
        seen = (tmp_path / logs.SERIAL.file).stat()
        sizes.append(seen.st_size)
        files.add(seen.st_ino)
        return len(files) > 1 and len(sizes) > 100

    until((tmp_path / logs.SERIAL.file).exists)
    until(replaced_often)
    assert max(sizes) <= 2 * logs.SERIAL.limit_kib * 1024
    os.kill(actor.pid, signal.SIGKILL)
    until(lambda: hypervisor.find(tmp_path) is None)
    logs.complete(tmp_path)
    for log in (logs.SERIAL, logs.EVENTS, logs.QEMU):
        with pytest.raises(OSError, match="No such device"):
            os.open(tmp_path / log.pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_copier_that_hangs_is_not_awaited(tmp_path, monkeypatch):
    """A process that keeps a FIFO open delays nobody for long; the log is read as it is by then."""
    monkeypatch.setattr(logs, "_COMPLETE_S", 0.1)
    os.mkfifo(tmp_path / logs.QEMU.pipe)
    reader = os.open(tmp_path / logs.QEMU.pipe, os.O_RDONLY | os.O_NONBLOCK)
    logs.complete(tmp_path)
    os.close(reader)


@pytest.mark.usefixtures("limited")
def test_copier_that_outlives_its_run_leaves_the_logs_of_the_next_one_alone(tmp_path, monkeypatch, until):
    """It emptied them: a hypervisor's greeting was lost, and the start waited for it until its deadline."""
    monkeypatch.setattr(logs, "_COMPLETE_S", 0.0)

    def runs(word):
        actor = hypervisor.launch(["sh", "-c", f"{SPEAK} echo {word} >&7; echo {word} >&8; exec sleep 600"], tmp_path)
        until(lambda: said() == [f"{word}\n"] * 2)
        return actor

    def said():
        files = (tmp_path / log.file for log in (logs.SERIAL, logs.EVENTS))
        return [file.read_text() if file.exists() else "" for file in files]

    first = runs("one")
    copiers = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
    pipes = [(tmp_path / log.pipe).open("wb", buffering=0) for log in (logs.SERIAL, logs.EVENTS)]
    hypervisor.kill(tmp_path, print)
    runs("two")
    for pipe in pipes:  # as from a copier that has been waiting for a processor all this time
        with pipe:
            pipe.write(b"late\n" * 100_000)
    until(lambda: not any(map(started_ticks, copiers)))
    assert said() == ["two\n"] * 2
    hypervisor.kill(tmp_path, print)


def test_new_run_puts_the_serial_log_aside(run, tmp_path):
    """People often restart a machine before they ask why it went down."""
    run("echo one >&7; echo one >&8")
    assert run("echo two >&7")["events.log"] == b""
    assert (tmp_path / "serial.log").read_text() == "two\n"
    assert (tmp_path / "serial.old.log").read_text() == "one\n"


def test_events_find_room_on_a_disk_that_fills_up(tmp_path, run):
    """The first blocks of the log are allocated before anything is written, and read as empty."""
    run("")
    assert (tmp_path / logs.EVENTS.file).stat().st_blocks * 512 >= 16384
    assert events.read(tmp_path) == []
    assert not events.greeted(tmp_path)


def test_events_of_a_hypervisor_of_the_first_version_are_read(tmp_path):
    """It writes them itself to a plain file padded with zeros, and may still run after an upgrade of Interlock."""
    assert events.read(tmp_path) == []
    (tmp_path / "events.out").write_bytes(b'{"event": "STOP"}\n' + b"\0" * 100)
    assert events.read(tmp_path) == [{"event": "STOP"}]
    assert events.greeted(tmp_path)
