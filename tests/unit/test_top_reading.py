"""The thread that reads the live view's keys."""

import subprocess
import sys

from textual.drivers.linux_driver import LinuxDriver

from interlock.top.reading import Terminal

READS_FOR_EVER = """
import threading, time
from textual.drivers.linux_driver import LinuxDriver
from interlock.top.reading import Terminal
LinuxDriver.run_input_thread = lambda self: time.sleep(600)
driver = {kind}.__new__({kind})
threading.Thread(target=driver.run_input_thread).start()
"""


def test_program_ends_though_textual_reads_on():
    """This happens if the terminal was closed, and textual failed before it stopped its thread."""
    subprocess.run([sys.executable, "-c", READS_FOR_EVER.format(kind="Terminal")], check=True, timeout=120)


def test_reader_hands_on_what_textual_reads(monkeypatch):
    """The thread runs textual's reader and ends with it."""
    seen = []
    monkeypatch.setattr(LinuxDriver, "run_input_thread", lambda _: seen.append("read"))
    Terminal.run_input_thread(Terminal.__new__(Terminal))
    assert seen == ["read"]
