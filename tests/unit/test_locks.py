"""A lock excludes threads and processes, dies with its holder, and follows the name of its file."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from interlock.host.locks import Lock, held
from interlock.host.process import this_process

HOLD = """
import sys, time
from pathlib import Path
from interlock.host.locks import Lock, held
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "web"


@pytest.fixture
def holder(path):
    """Return another process that holds the lock until it is ended."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_acquire_free_lock_succeeds_and_held_one_fails(path):
    """While one `Lock` holds the file, no other can, until it is released."""
    with Lock(path) as first, Lock(path) as second:
        assert first.acquire()
        assert not second.acquire()
        first.release()
        assert second.acquire()


def test_acquire_held_by_another_process_fails(path, holder):
    """Processes exclude each other."""
    assert holder.poll() is None
    assert not Lock(path).acquire()


def test_acquire_after_holder_was_killed_succeeds(path, holder):
    """A lock cannot be stale: the kernel releases it with its holder."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lock(path) as lock:
        assert lock.acquire()


def test_acquire_while_a_child_of_the_dead_holder_runs_succeeds(path):
    """A child of the holder, such as a hypervisor, does not inherit the lock."""
    first = Lock(path)
    assert first.acquire()
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child,
        Lock(path) as second,
    ):
        child.stdout.readline()
        os.close(first._descriptor)  # as the death of the process does
        assert second.acquire()
        child.communicate(b"\n")


def test_release_while_a_child_is_being_forked_frees_it_for_all(path):
    """A fork in another thread copies the descriptor for a moment; a release takes effect in spite of the copy."""
    with Lock(path) as first, Lock(path) as second:
        assert first.acquire()
        copied = os.dup(first._descriptor)
        first.release()
        assert second.acquire()
        os.close(copied)


def test_release_with_forget_removes_the_file(path):
    """The lock file of a name that is no longer in use is removed."""
    lock = Lock(path)
    assert lock.acquire()
    lock.release(forget=True)
    assert not path.exists()


def test_acquire_file_that_lost_its_name_meanwhile_takes_its_successor(path):
    """A lock on a file that its owner has since removed is not the lock of that name."""
    with Lock(path) as first, Lock(path) as second, Lock(path) as third:
        assert first.acquire()
        path.unlink()
        assert second.acquire()
        assert not third.acquire()


def test_lock_taken_and_forgotten_by_many_threads_admits_one_at_a_time(path):
    """Removing the file on each release never admits two threads at once."""
    inside, most, rounds = 0, 0, 0

    def work():
        nonlocal inside, most, rounds
        for _ in range(50):
            lock = Lock(path)
            while not lock.acquire():
                pass
            inside += 1
            most = max(most, inside)
            rounds += 1
            inside -= 1
            lock.release(forget=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (most, rounds) == (1, 200)


def test_acquire_over_anything_else_takes_its_place_and_touches_nothing_beyond(path, thing, tmp_path, injected):
    """Anything but a regular file is replaced; the target of a link is neither truncated nor locked."""
    beyond = tmp_path / "beyond"
    beyond.write_text("mine")
    thing(path)
    if path.is_symlink():
        path.unlink()
        path.symlink_to(beyond)
    with Lock(path) as lock, Lock(path) as other:
        assert lock.acquire()
        assert not other.acquire()
    assert (path.is_file(), path.is_symlink(), beyond.read_text()) == (True, False, "mine")
    injected("a FIFO, folder, socket, device, link or huge file in place of a file")


def test_acquire_by_threads_at_once_over_a_fifo_admits_one(path):
    """Threads that replace the FIFO never remove the file that another one has made and locked."""
    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            os.mkfifo(path)
            locks = [Lock(path) for _ in range(4)]
            assert sorted(threads.map(Lock.acquire, locks)) == [False, False, False, True]
            for lock in locks:
                lock.release(forget=True)


@pytest.mark.parametrize("note", [b"x", b"\xff \xff", b" ", b"1 2", bytes(5000)])
def test_asked_to_let_go_by_garbage_is_nobody(path, note):
    """A malformed note cancels nothing."""
    with Lock(path) as lock:
        assert lock.acquire()
        path.write_bytes(note)
        assert lock.asked_to_let_go(this_process()) is None


def test_held_makes_the_folder_and_says_once_that_it_waits(tmp_path):
    """A caller that finds the lock taken reports it once and gets it next; without a text to report, it fails."""
    path, said = tmp_path / "new" / "lock", []
    with ThreadPoolExecutor() as pool:
        with held(path, None):
            with pytest.raises(BlockingIOError), held(path, None):
                pass
            heard = threading.Event()

            def wait():
                with held(path, "waiting", lambda words: (said.append(words), heard.set())):
                    return True

            waiter = pool.submit(wait)
            assert heard.wait(60)
        assert waiter.result(60)
    assert said == ["waiting"]


def test_held_follows_a_folder_that_its_holder_removed(tmp_path):
    """The lock is the file of that name: a folder that the holder has removed is made again."""
    path = tmp_path / "download" / "lock"
    with held(path, None):
        path.unlink()
        path.parent.rmdir()
        with held(path, None):
            assert path.exists()


def test_asked_to_let_go_at_length_is_asked_in_a_kibibyte(path):
    """A note ends up in a message, so a long one is cut."""
    with Lock(path) as lock:
        assert lock.acquire()
        holder = this_process()
        lock.ask_to_let_go(holder, "x" * 100_000)
        assert 900 < len(lock.asked_to_let_go(holder)) < 1024
