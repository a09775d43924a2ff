"""How long a start takes from a saved memory, against a boot of the same instance.

    python benchmarks/warm.py web [--runs 9]

The instance is stopped, and has run before. Each turn boots it, suspends it, starts it from its memory, and stops it;
times are of whole processes, from the command to a guest that has answered.
"""

import argparse
import sys
from pathlib import Path

from measure import machine, median_ms, ratio, seconds

from interlock import Interlock

BOOT, SUSPEND, RESUME = "start, a boot", "suspend", "start, from the memory"


def main() -> None:
    """Print the medians, and their ratio to the boot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="an instance that is stopped")
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    vms = Interlock()
    if vms.status(given.name).saved:
        parser.error(f"the memory of {given.name} is saved: start and stop it first")
    program = str(Path(sys.executable).with_name("interlock"))
    turn = ((BOOT, "start"), (SUSPEND, "suspend"), (RESUME, "start"))
    taken: dict[str, list[float]] = {name: [] for name, _ in turn}
    saved = 0
    for _ in range(given.runs):
        for name, command in turn:
            taken[name].append(seconds([program, command, given.name]))
            if command == "suspend":
                saved = _size(vms.home.directory(given.name) / "saved")
        vms.stop(given.name)
    print(f"{machine()}; {given.runs} runs each, in turn; {saved >> 20} MiB saved")
    for name, took in taken.items():
        print(f"{name:<24} {median_ms(took)}   {ratio(took, taken[BOOT]):.2f} of a boot")


def _size(folder: Path) -> int:
    """Return how much of the disk the files in `folder` take."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


if __name__ == "__main__":
    main()
