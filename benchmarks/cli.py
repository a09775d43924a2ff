"""What the command line costs before it does anything: `interlock list` against a Python that does nothing.

Usage: python benchmarks/cli.py [RUNS]

Prints whole-process wall times (median, range) and the ratio pair by pair. Every home is a temporary one; the
instances are simulated, because `list` reads the same files for them as for real ones that are at rest.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from measure import in_turn, machine, median_ms, ratio

MANY = 1000


def fill(home: Path, count: int) -> None:
    """Make `count` stopped instances in `home`: one by its commands, the others as copies of its directory."""
    from interlock import Interlock
    from interlock.host.home import Home

    vms = Interlock(Home(root=home, runtime=home / "run"))
    vms.create("vm-0000", "tiny", driver="simulated")
    vms.start("vm-0000")
    vms.stop("vm-0000")
    for number in range(1, count):
        shutil.copytree(home / "instances" / "vm-0000", home / "instances" / f"vm-{number:04}")


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    interlock = str(Path(sys.executable).with_name("interlock"))
    with tempfile.TemporaryDirectory() as scratch:
        environments = {}
        for name, count in (("one", 1), ("many", MANY)):
            home = Path(scratch, name)
            fill(home, count)
            environments[name] = {"INTERLOCK_HOME": str(home), "XDG_RUNTIME_DIR": scratch}
        taken = in_turn(
            {
                "python -c pass": ([sys.executable, "-c", "pass"], {}),
                "interlock --help": ([interlock, "--help"], {}),
                "interlock list, 1 instance": ([interlock, "list"], environments["one"]),
                f"interlock list, {MANY} instances": ([interlock, "list"], environments["many"]),
            },
            runs,
        )
    print(f"{machine()}; {runs} runs each, in turn")
    bare = taken["python -c pass"]
    for name, times in taken.items():
        print(f"{name:<32} {median_ms(times)}  {ratio(times, bare):5.2f} x python")
    one, many = taken["interlock list, 1 instance"], taken[f"interlock list, {MANY} instances"]
    more = statistics.median(b - a for a, b in zip(one, many, strict=True))
    print(f"{MANY} instances cost {more * 1e3:.0f} ms more than one")


if __name__ == "__main__":
    main()
