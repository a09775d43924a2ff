"""The cost and the benefit of a bound on QEMU's cache of translated code (tb-size), on a host that emulates guests.

Usage: python benchmarks/translation.py [--runs N] [--template NAME] [--sizes MIB,MIB,...] [--home DIR]

One guest at a time, started by hand with Interlock's command line except for `tb-size` (0: QEMU's own choice); the
sizes take turns. For each size: QEMU's processor time in seconds until the guest answered over ssh, and for a load in
the guest, with QEMU's memory (PSS) after each. Processor time hardly depends on what else runs on the machine.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from boot import by_hand, wait_for_answer
from measure import QUIET, cpu_seconds, machine, memory_mib

from interlock import Interlock
from interlock.fsm.port import Site

LOADS = {
    "debian": "tar -C /usr -c lib/python3 share/perl 2>/dev/null | gzip -1 | sha256sum; "
    "dpkg-query -W | sort -R | wc -l; "
    "for i in 1 2; do python3 -c 'import asyncio, glob, json, ssl, email.message, xml.dom.minidom, logging.config\n"
    'for path in glob.glob("/usr/lib/python3*/*.py"): compile(open(path).read(), path, "exec")\'; done',
    "tiny": "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; head -c 20000000 /dev/zero | gzip | sha256sum",
}
"""The load in the guest. That of debian runs many programs, each with much code."""


def measure(site: Site, load: str, mib: int) -> list[float]:
    """Return processor seconds and PSS in MiB at the answer, then the same after the load."""

    def bounded(command: list[str]) -> list[str]:
        plain = [re.sub(r"^(tcg,.*?),tb-size=\d+", r"\1", word) for word in command]
        return [f"{word},tb-size={mib}" if mib and word.startswith("tcg,") else word for word in plain]

    with by_hand(site, bounded) as hypervisor:
        wait_for_answer(site)
        booted = cpu_seconds(hypervisor.pid), memory_mib(hypervisor.pid)
        line = ["ssh", "-F", str(site.directory / "ssh.config"), "-o", "BatchMode=yes", site.name, load]
        subprocess.run(line, check=True, **QUIET)  # type: ignore[call-overload]
        return [*booted, cpu_seconds(hypervisor.pid) - booted[0], memory_mib(hypervisor.pid)]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--template", choices=LOADS, default="debian")
    options.add_argument("--sizes", default="0,512,256,128,64", help="MiB each")
    options.add_argument("--home", type=Path)
    given = options.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["INTERLOCK_HOME"] = str(given.home.absolute() if given.home else Path(scratch, "home"))
        os.environ["XDG_RUNTIME_DIR"] = scratch
        vms = Interlock()
        vms.home.prepare()
        try:
            vms.create("measured", given.template)
            vms.start("measured")  # so that every measured boot is a second one of the same disk
            vms.stop("measured")
            site = vms.engine.site("measured")
            taken: dict[int, list[list[float]]] = {size: [] for size in sizes}
            for _ in range(given.runs):
                for size in sizes:
                    taken[size].append(measure(site, LOADS[given.template], size))
        finally:
            vms.delete("measured", force=True)
    print(f"{machine()}; {given.template}, {given.runs} runs each, in turn")
    print("tb-size        boot, CPU    PSS        load, CPU    PSS")
    for size, rows in taken.items():
        boot, booted, load, loaded = (statistics.median(column) for column in zip(*rows, strict=True))
        name = f"{size} MiB" if size else "QEMU's own"
        print(f"{name:<12} {boot:8.1f} s {booted:8.0f} MiB {load:8.1f} s {loaded:8.0f} MiB")


if __name__ == "__main__":
    main()
