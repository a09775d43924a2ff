"""How long `shell NAME -- true` takes: by Interlock, by plain ssh with and without a shared connection, by limactl.

    python benchmarks/shell.py web [--runs 9] [--limactl default]

The instance must be running, and so must limactl's instance, if its name is given.
"""

import argparse
import shutil
import statistics
import sys
from pathlib import Path

from measure import in_turn, machine, median_ms, ratio

from interlock import Interlock


def main() -> None:
    """Print the medians of runs in turn, and each one's ratio to ssh without a shared connection."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a running instance")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--limactl", metavar="NAME", help="a running instance of limactl")
    given = parser.parse_args()
    config = str(Interlock().home.directory(given.name) / "ssh.config")
    program = str(Path(sys.executable).with_name("interlock"))
    alone = "ssh, a connection of its own"
    commands = {
        alone: (["ssh", "-F", config, "-o", "ControlPath=none", given.name, "true"], {}),
        "ssh, the shared connection": (["ssh", "-F", config, given.name, "true"], {}),
        "interlock shell": ([program, "shell", given.name, "--", "true"], {}),
        "interlock --version": ([program, "--version"], {}),
    }
    if given.limactl:
        lima = shutil.which("limactl") or parser.error("limactl is not on PATH")
        commands["limactl shell"] = ([lima, "shell", given.limactl, "true"], {})
    print(f"{machine()}; {given.runs} runs each, in turn")
    taken = in_turn(commands, given.runs)
    for name, took in taken.items():
        print(f"{name:<30} {median_ms(took)}   {ratio(took, taken[alone]):.2f} of {alone}")
    own_s = statistics.median(taken["interlock shell"]) - statistics.median(taken["ssh, the shared connection"])
    print(f"Interlock's own part of it      {own_s * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
