"""How long one command takes to start ten guests, cold and warm, compared with one guest.

    python benchmarks/fleet.py [--count 10] [--runs 3] [--home DIR]

Each turn boots one instance of `tiny`, then all of them; then it starts one from the warm image, then all of them.
All are first starts. Times are those of whole processes, until every guest has answered. The processor time is that of
the command and of all hypervisors until then. Without --home, the home is temporary, and the image is built first.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from measure import cpu_seconds, machine, memory_mib, taken

from interlock import Interlock
from interlock.creation.wishes import Wishes

PROGRAM = str(Path(sys.executable).with_name("interlock"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="il-") as scratch:
        os.environ["INTERLOCK_HOME"] = str(given.home.absolute() if given.home else Path(scratch, "home"))
        os.environ["XDG_RUNTIME_DIR"] = scratch
        vms = Interlock()
        vms.home.prepare()
        names = [f"fleet-{number}" for number in range(given.count)]
        try:
            for name in names:
                vms.create(name, "tiny", Wishes(warm=True))
            run(vms, names, given.runs)
        finally:
            for name in names:
                vms.delete(name, force=True)


def run(vms: Interlock, names: Sequence[str], runs: int) -> None:
    """Print the costs of starting one and all of `names`, cold and warm."""
    print(f"{machine()}; {runs} runs each, in turn; {len(names)} instances of tiny")
    ways = {"cold": ["--cold"], "warm": []}
    rows: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for _ in range(runs):
        for way, options in ways.items():
            for chosen in (names[:1], names):
                for name in chosen:
                    vms.kill(name)
                    vms.reset(name)
                wall, processor = taken([PROGRAM, "start", *chosen, *options])
                pids = [int((vms.home.directory(name) / "hypervisor.id").read_text().split()[0]) for name in chosen]
                processor += sum(map(cpu_seconds, pids))
                rows.setdefault((way, len(chosen)), []).append((wall, processor, sum(map(memory_mib, pids))))
    base = [median(column) for column in zip(*rows["cold", 1], strict=True)]
    for (way, count), row in rows.items():
        wall, processor, pss = (median(column) for column in zip(*row, strict=True))
        print(
            f"{way}, {count:>3}   {wall:7.2f} s  {wall / base[0]:6.2f} of one cold;"
            f" processor {processor:7.2f} s  {processor / base[1]:6.2f};"
            f" PSS {pss:6.0f} MiB in all  {pss / base[2]:6.2f}"
        )


if __name__ == "__main__":
    main()
