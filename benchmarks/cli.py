"""The cost of the command line: processor time of whole processes, compared with a Python that does nothing.

Usage: python benchmarks/cli.py [RUNS]

The program is installed from its wheel into an environment of its own, whose bare interpreter is the base of the
comparison; its dependencies are those of the environment that runs this. Prints user and system time (median, range),
the ratio pair by pair, and the target. All homes are temporary. The instances are simulated, because `list` reads the
same files for them as for real instances at rest.
"""

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from measure import in_turn, machine, median_ms, processor_seconds, ratio

MANY = 1000
ROOT = Path(__file__).parents[1]

OURS = b"by Interlock:"
"""Text that tells the drop-in from the real limactl."""

TARGETS = {
    "import interlock": 2.0,
    "interlock --version": 2.0,
    "interlock list, 1 instance": 4.5,
    "interlock can, 1 instance": 4.5,
    "interlock start, already running": 6.0,
    "completion of an instance's name": 5.0,
    "drop-in limactl ls, 1 instance": 4.5,
    "completion of a template's name": 5.0,
    "completion of a driver's name": 5.0,
}
"""Command → how many times the cost of a bare interpreter it may cost. The others have no target."""

REAL = "real limactl ls, 1 instance"
TIMES_REAL = 2.0
"""How many times the cost of the real limactl the drop-in may cost."""


def fill(home: Path, count: int) -> None:
    """Make `count` instances in `home`: `vm-0000`, which runs, and copies of its directory from when it was stopped."""
    from interlock import Interlock
    from interlock.host.home import Home

    vms = Interlock(Home(root=home, runtime=home / "run"))
    vms.create("vm-0000", "tiny", driver="simulated")
    vms.start("vm-0000")
    vms.stop("vm-0000")
    for number in range(1, count):
        shutil.copytree(home / "instances" / "vm-0000", home / "instances" / f"vm-{number:04}")
    vms.start("vm-0000")


def install(scratch: Path) -> Path:
    """Install Interlock from its wheel into a new environment, and return the folder of its programs."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", scratch / "wheel", ROOT],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what the builder leaves behind
    venv.create(scratch / "venv")
    python = scratch / "venv" / "bin" / "python"
    (wheel,) = (scratch / "wheel").iterdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index", wheel],
        check=True,
    )
    (packages,) = (scratch / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def real_limactl(scratch: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the call of the limactl on PATH, with one instance in a LIMA_HOME of its own; empty without a limactl.

    The result is also empty if limactl cannot list that instance, for example because it refuses root.
    """
    program = shutil.which("limactl")
    home = scratch / "lima-of-its-own"
    (home / "vm-0000").mkdir(parents=True)
    (home / "vm-0000" / "lima.yaml").write_text("images: [{location: /nowhere.qcow2}]\n")
    environment = {"LIMA_HOME": str(home)}
    if program is None or OURS in Path(program).read_bytes()[:200]:
        return {}
    listed = subprocess.run([program, "ls", "-q"], env={**os.environ, **environment}, capture_output=True, check=False)
    return {REAL: ([program, "ls"], environment)} if listed.stdout == b"vm-0000\n" else {}


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as scratch:
        programs = install(Path(scratch))
        python, interlock = str(programs / "python"), str(programs / "interlock")
        subprocess.run([interlock, "--quiet", "install-limactl", f"{scratch}/drop-in"], check=True)
        one, many = ({"INTERLOCK_HOME": f"{scratch}/{name}", "XDG_RUNTIME_DIR": scratch} for name in ("one", "many"))
        shown = {**one, "LIMA_HOME": f"{scratch}/shown"}
        fill(Path(scratch, "one"), 1)
        fill(Path(scratch, "many"), MANY)
        begun = {"instance": "start v", "template": "create --template t", "driver": "create --driver q"}
        completing = {
            what: {
                **one,
                "_INTERLOCK_COMPLETE": "bash_complete",
                "COMP_WORDS": f"interlock {words}",
                "COMP_CWORD": str(len(words.split())),
            }
            for what, words in begun.items()
        }
        taken = in_turn(
            {
                "python -c pass": ([python, "-c", "pass"], {}),
                "import interlock": ([python, "-c", "import interlock"], {}),
                "interlock --version": ([interlock, "--version"], {}),
                "interlock --help": ([interlock, "--help"], {}),
                "interlock list, 1 instance": ([interlock, "list"], one),
                "interlock can, 1 instance": ([interlock, "can", "vm-0000"], one),
                "interlock start, already running": ([interlock, "start", "vm-0000"], one),
                "completion of an instance's name": ([interlock], completing["instance"]),
                "completion of a template's name": ([interlock], completing["template"]),
                "completion of a driver's name": ([interlock], completing["driver"]),
                f"interlock list, {MANY} instances": ([interlock, "list"], many),
                "drop-in limactl ls, 1 instance": ([f"{scratch}/drop-in/limactl", "ls"], shown),
                **real_limactl(Path(scratch)),
            },
            runs,
            measure=processor_seconds,
        )
    print(f"{machine()}; processor time of {runs} runs each, in turn")
    bare = taken["python -c pass"]
    for name, times in taken.items():
        target = f"  (target {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name:<34} {median_ms(times)}  {ratio(times, bare):5.2f} x python{target}")
    if REAL in taken:
        times = ratio(taken["drop-in limactl ls, 1 instance"], taken[REAL])
        print(f"the drop-in costs {times:.2f} x the real limactl  (target {TIMES_REAL})")
    few, lots = taken["interlock list, 1 instance"], taken[f"interlock list, {MANY} instances"]
    more = statistics.median(b - a for a, b in zip(few, lots, strict=True))
    print(f"{MANY} instances cost {more * 1e3:.0f} ms more than one")


if __name__ == "__main__":
    main()
