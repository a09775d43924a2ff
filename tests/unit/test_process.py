"""A process is identified by pid, start time and boot, never by its pid alone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlock.host.process import alive, boot_id, started_ticks, this_process, usage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def child():
    """Return a process that waits for its standard input to end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_alive_this_process_is_true():
    """The calling process is alive."""
    assert alive(this_process())


def test_alive_pid_of_another_start_is_false():
    """A reused pid is not the process that was recorded."""
    me = this_process()
    assert not alive(me._replace(started_ticks=me.started_ticks - 1))


def test_alive_pid_of_another_boot_is_false():
    """After a reboot no earlier process is alive, even if a pid and a start time recur."""
    assert not alive(this_process()._replace(boot_id="another boot"))


def test_alive_after_its_end_is_false_before_it_is_reaped(child):
    """A zombie counts as gone, before and after it is reaped."""
    actor = this_process()._replace(pid=child.pid, started_ticks=started_ticks(child.pid))
    assert alive(actor)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(actor)
    child.wait()
    assert not alive(actor)


def test_usage_counts_what_the_kernel_counts():
    """Processor time of all threads, memory and age agree with what the system tells a process about itself."""
    me, before = this_process(), os.times()
    used, after = usage(me), os.times()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert before.user + before.system - 2 * tick_s <= used.cpu_s <= after.user + after.system + 2 * tick_s
    assert 1 << 20 < used.resident_bytes < 1 << 40
    assert used.uptime_s > 0


def test_usage_of_another_process_with_the_pid_is_unknown(child):
    """Another process with the same pid, or one that has ended, has no figures to show."""
    me = this_process()
    assert usage(me._replace(started_ticks=me.started_ticks - 1)) is None
    assert usage(me._replace(boot_id="another boot")) is None
    child.kill()
    child.wait()
    assert usage(me._replace(pid=child.pid)) is None


def test_usage_of_a_process_without_memory_is_unknown(until, child):
    """A zombie, or a process in the middle of its exec, has no figures to show."""
    actor = this_process()._replace(pid=child.pid, started_ticks=started_ticks(child.pid))
    until(lambda: usage(actor))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert usage(actor) is None


def test_started_ticks_of_odd_command_name_is_read(tmp_path):
    """The command's name in /proc/PID/stat may hold blanks and parentheses and does not shift the fields."""
    odd = tmp_path / "a) R (b 1"
    shutil.copy(shutil.which("cat"), odd)
    with subprocess.Popen([odd], stdin=subprocess.PIPE) as process:
        mine, its = started_ticks(os.getpid()), started_ticks(process.pid)
    assert mine <= its <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


def test_this_process_names_its_command_as_typed(monkeypatch):
    """The command line is kept as a person would type it, and no longer than a line."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/interlock", "start", "web", "x" * 300])
    assert this_process().command[:20] == "interlock start web "
    assert len(this_process().command) == 200


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (
            ["/usr/bin/interlock", "create", "web", "--set", "env.TOKEN=s3cret"],
            "interlock create web --set env.TOKEN=…",
        ),
        (["interlock", "create", "web", "--set=env.TOKEN=s3cret\ns3cret"], "interlock create web --set=…"),
        (["interlock", "up", "web", "--param", "key=s3cret"], "interlock up web --param key=…"),
        (["interlock", "up", "w", "-t", "https://me:s3cret@x.org/w.yaml"], "interlock up w -t https://…@x.org/w.yaml"),
        (["interlock", "up", "w", "-t", "https://x.org/w?token=s3cret"], "interlock up w -t https://x.org/w?token=…"),
        ([str(ROOT / "__main__.py"), "start", "web"], "interlock start web"),
        (["/srv/agent/__main__.py", "--password", "s3cret"], "__main__.py"),
        (["/usr/bin/agent", "--password", "s3cret"], "agent"),
    ],
)
def test_this_process_keeps_no_secret_of_its_command_line(monkeypatch, argv, kept):
    """The journal, `list` and messages quote the command: secrets are masked, and other programs' arguments omitted."""
    monkeypatch.setattr(sys, "argv", argv)
    assert this_process().command == kept


def test_boot_id_is_the_kernels():
    """The id of this boot is the kernel's."""
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
