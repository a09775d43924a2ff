"""The memory and processor time that the keeper uses while its guests do nothing.

Usage: python benchmarks/keeper.py [--guests N] [--seconds S] [--home DIR]

N tiny guests, each with a server that opened its port after the start. The goal: at most 30 MiB resident for any N.
"""

import argparse
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from measure import cpu_seconds, machine, memory_mib

from interlock import Interlock, Wishes

GOAL_MIB = 30
DEADLINE_S = 600


def keeper(vms: Interlock) -> int:
    """Return the pid of the keeper of the home."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"interlock.keeper" in words and bytes(vms.home.root) in words:
                return int(process.name)
    raise RuntimeError("there is no keeper")


def forwarded(vms: Interlock, name: str) -> bool:
    """Return whether a port that the guest of `name` opened is forwarded to it."""
    seen = vms.status(name).observation
    return bool(seen and any(not port.problem for port in seen.ports))


def measure(vms: Interlock, guests: int, seconds: float) -> tuple[float, float, float]:
    """Return the keeper's resident memory (RSS) and its PSS, in MiB, and its processor seconds per minute."""
    names = [f"measured-{number}" for number in range(guests)]
    for port, name in enumerate(names, start=20_000):
        vms.create(name, "tiny", Wishes(user="root"))
        vms.start(name)
        vms.run(name, ["httpd", "-p", str(port), "-h", "/etc"])
    give_up = time.monotonic() + DEADLINE_S
    while not all(forwarded(vms, name) for name in names):
        if time.monotonic() > give_up:
            raise RuntimeError("a port was not forwarded")
        time.sleep(1)
    pid = keeper(vms)
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return memory_mib(pid, "Rss"), memory_mib(pid), (cpu_seconds(pid) - before) / seconds * 60


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--guests", type=int, default=3)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--home", type=Path, help="with the image tiny in it")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["INTERLOCK_HOME"] = str(given.home.absolute() if given.home else Path(scratch, "home"))
        os.environ["XDG_RUNTIME_DIR"] = scratch
        vms = Interlock()
        try:
            rss, pss, processor = measure(vms, given.guests, given.seconds)
        finally:
            for status in vms.instances():
                if status.name.startswith("measured-"):
                    vms.delete(status.name, force=True)
    print(f"{machine()}; {given.guests} guests")
    print(f"resident {rss:.1f} MiB (goal: {GOAL_MIB}), PSS {pss:.1f} MiB, processor {processor:.2f} s a minute")


if __name__ == "__main__":
    main()
