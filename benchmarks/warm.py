"""How long a start takes from a saved memory, or from a warm image, against a boot of the same instance.

    python benchmarks/warm.py web [--runs 9]

The instance is stopped. Each turn resets it and lets it start for the first time, once cold and once from the warm
image that it was created with, if any (then its memory, PSS, is taken, too); then suspends it, and starts it from its
memory. Everything in it is lost. Times are of whole processes, from the command to a guest that has answered.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

from measure import machine, median_ms, memory_mib, ratio, seconds

from interlock import Interlock

BOOT, WARM, SUSPEND, RESUME = "first start, a boot", "first start, warm", "suspend", "start, from the memory"


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
    directory = vms.home.directory(given.name)
    firsts = {BOOT: ["--cold"]} | ({WARM: []} if (directory / "warm").exists() else {})
    taken: dict[str, list[float]] = {name: [] for name in (*firsts, SUSPEND, RESUME)}
    pss: dict[str, list[float]] = {name: [] for name in firsts}
    saved = 0
    for _ in range(given.runs):
        for name, options in firsts.items():
            vms.kill(given.name)
            vms.reset(given.name)
            taken[name].append(seconds([program, "start", given.name, *options]))
            pss[name].append(memory_mib(int((directory / "hypervisor.id").read_text().split()[0])))
        taken[SUSPEND].append(seconds([program, "suspend", given.name]))
        saved = _size(directory / "saved")
        taken[RESUME].append(seconds([program, "start", given.name]))
    vms.kill(given.name)
    print(f"{machine()}; {given.runs} runs each, in turn; {saved >> 20} MiB saved")
    for name, took in taken.items():
        print(f"{name:<24} {median_ms(took)}   {ratio(took, taken[BOOT]):.2f} of a boot")
    for name, used in pss.items():
        print(f"{name:<24} PSS {median(used):.0f} MiB")


def _size(folder: Path) -> int:
    """Return how much of the disk the files in `folder` take."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


if __name__ == "__main__":
    main()
