"""Measuring of whole processes, which take turns: if the machine slows down, it slows down all of them."""

import os
import resource
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Return how long `command` took, wall clock; raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})}, **QUIET)  # type: ignore[call-overload]
    return time.perf_counter() - began


def processor_seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Return the processor time, user and system, that `command` took; raises CalledProcessError when it fails.

    Wall time would also depend on how busy the machine was.
    """
    return taken(command, environment)[1]


def taken(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return how long `command` took, wall clock, and its processor time; raises CalledProcessError when it fails."""
    began = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, **(environment or {})}, **QUIET) as process:  # type: ignore[call-overload]
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return wall, used.ru_utime + used.ru_stime


Measure = Callable[[Sequence[str], Mapping[str, str]], float]


def in_turn(
    commands: Mapping[str, tuple[Sequence[str], Mapping[str, str]]],
    runs: int,
    warm_up: int = 2,
    measure: Measure = seconds,
) -> dict[str, list[float]]:
    """Return the results of `measure` for `runs` runs of each command, in the order A B C A B C ..."""
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-warm_up, runs):
        for name, (command, environment) in commands.items():
            measured = measure(command, environment)
            if number >= 0:
                took[name].append(measured)
    return took


def median_ms(taken: Sequence[float]) -> str:
    """Return the median and the range, in milliseconds."""
    return f"{statistics.median(taken) * 1e3:7.0f} ms  ({min(taken) * 1e3:.0f} to {max(taken) * 1e3:.0f})"


def ratio(taken: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios, pair by pair: each pair ran under the same conditions."""
    return statistics.median(a / b for a, b in zip(taken, base, strict=True))


def peak_children_mib() -> float:
    """Return the peak memory of the largest child process that was waited for so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its threads have used so far. Source: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, kind: str = "Pss") -> float:
    """Return the resident memory of a process: `Rss`, or `Pss`, which splits shared pages among their processes.

    Source: proc(5), smaps_rollup.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def wait_for_banner(port: int, deadline_s: float) -> None:
    """Return once the guest greets on local TCP `port`."""
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.3) as connection:
            connection.settimeout(0.3)
            if connection.recv(4) == b"SSH-":
                return
        time.sleep(0.02)
    raise SystemExit("the guest did not greet")


def machine() -> str:
    """Return a line that describes this machine."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown processor",
    )
    return f"{model}, {os.cpu_count()} processors, Linux {os.uname().release}"
