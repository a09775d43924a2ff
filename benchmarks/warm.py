"""How long starts from saved memory and from a warm image take, compared with a boot of the same instance; and forks.

    python benchmarks/warm.py web [--runs 9] [--forks 10]

The instance must be stopped; everything in it is lost. Each turn resets it and starts it for the first time, once cold
and once from the warm image that it was created with, if any; then suspends it and starts it from its memory. With
--forks, one command then forks it into that many copies and starts them.

Times are those of whole processes, from the command until the guest has answered. Beside them is the processor time
that the command and the hypervisor used until then, which a busy machine changes less. PSS is the memory of a
hypervisor, with shared pages split among its users; that of the copies is measured while all of them run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from measure import cpu_seconds, machine, median_ms, memory_mib, ratio, taken

from interlock import Interlock
from interlock.drivers.qemu import events

PROGRAM = str(Path(sys.executable).with_name("interlock"))
BOOT, WARM, SUSPEND, RESUME = "first start, a boot", "first start, warm", "suspend", "start, from the memory"


class Record:
    """The measurements of one command, one for each turn."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.pss: list[float] = []


def main() -> None:
    """Print the medians, and their ratios to a boot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a stopped instance")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--forks", type=int, default=0, metavar="N", help="fork it into N copies at the end")
    given = parser.parse_args()
    vms = Interlock()
    if vms.status(given.name).saved:
        parser.error(f"the memory of {given.name} is saved: start and stop it first")
    directory = vms.home.directory(given.name)
    records: dict[str, Record] = {}
    firsts = {BOOT: ["--cold"]} | ({WARM: []} if (directory / "warm").exists() else {})
    saved = 0
    for _ in range(given.runs):
        for label, options in firsts.items():
            vms.kill(given.name)
            vms.reset(given.name)
            measure(records, label, directory, ["start", given.name, *options])
        measure(records, SUSPEND, None, ["suspend", given.name])
        saved = _size(directory / "saved")
        measure(records, RESUME, directory, ["start", given.name])
    print(f"{machine()}; {given.runs} runs each, in turn; {saved >> 20} MiB saved")
    show(records, (*firsts, RESUME))
    print(f"{SUSPEND:<24} {median_ms(records[SUSPEND].wall)}")
    if given.forks:
        fork(vms, given.name, given.forks, median(records[BOOT].pss))
    vms.kill(given.name)


def measure(records: dict[str, Record], label: str, directory: Path | None, command: Sequence[str]) -> None:
    """Run `command` of the program, and add its measurements; with `directory`, add those of the hypervisor there."""
    record = records.setdefault(label, Record())
    wall, processor = taken([PROGRAM, *command])
    record.wall.append(wall)
    if directory:
        pid = _pid(directory)
        record.processor.append(processor + cpu_seconds(pid))
        record.pss.append(memory_mib(pid))


def show(records: dict[str, Record], labels: Sequence[str]) -> None:
    """Print the medians of `labels`, which start a hypervisor, and their ratios to a boot."""
    base = records[BOOT]
    for label in labels:
        it = records[label]
        print(
            f"{label:<24} {median_ms(it.wall)}  {ratio(it.wall, base.wall):5.3f} of a boot;"
            f" processor {median(it.processor):6.2f} s  {ratio(it.processor, base.processor):5.3f};"
            f" PSS {median(it.pss):4.0f} MiB  {ratio(it.pss, base.pss):4.2f}"
        )


def fork(vms: Interlock, name: str, count: int, cold_pss: float) -> None:
    """Fork `name` into `count` copies, which starts them, and print how long that took and what they use."""
    copies = [f"{name}-fork-{number}" for number in range(count)]
    try:
        wall, processor = taken([PROGRAM, "fork", name, *copies])
        pids = [_pid(vms.home.directory(copy)) for copy in copies]
        processor += sum(map(cpu_seconds, pids))
        pss = median(map(memory_mib, pids))
        still = _stood_still(vms.home.directory(name))
        print(f"fork of one into {count}: {wall:.2f} s until all have answered, processor {processor:.2f} s in all")
        print(f"the original stood still for {still * 1e3:.0f} ms")
        print(f"PSS of each copy {pss:.0f} MiB, {pss / cold_pss:.2f} of a boot's")
    finally:
        for copy in copies:
            vms.delete(copy, force=True)


def _stood_still(directory: Path) -> float:
    """Return for how many seconds the machine of `directory` stood still at its last pause."""
    at = {
        event["event"]: event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
        for event in events.read(directory)
        if event["event"] in ("STOP", "RESUME")
    }
    return float(at["RESUME"] - at["STOP"])


def _pid(directory: Path) -> int:
    return int((directory / "hypervisor.id").read_text().split()[0])


def _size(folder: Path) -> int:
    """Return the disk space that the files in `folder` use, in bytes."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


if __name__ == "__main__":
    main()
