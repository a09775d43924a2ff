"""How much Interlock adds to a boot, and how long a first boot takes.

Usage: python benchmarks/boot.py [--runs N] [--debian] [--home DIR]
       python benchmarks/boot.py --limactl [PATH] --image FILE [--user NAME] [--runs N] [--home DIR]

1. `interlock start` of the tiny image, compared with the same QEMU command line started by hand; the two take turns.
   "By hand" is a loop that connects until the guest sends its banner, then runs the same question over ssh until it is
   answered. Times are those of whole processes and include Python's own start.
2. Peak memory of `interlock start`, and which processes of the instance are left afterwards.
3. With --debian: first and second boot of the debian image, with the seed in the initramfs and with cloud-init.

With --limactl, only the first boot of the cloud image FILE is measured, by limactl and by Interlock. PATH is that of
limactl, by default the one on $PATH; it runs as the user NAME, because it refuses root.

Without --home, the home is temporary, and the images are built first. Guests run with whatever acceleration this host
has; the first line says which.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from measure import QUIET, machine, wait_for_banner

import limactl
from interlock import Interlock
from interlock.drivers.qemu import events
from interlock.drivers.qemu.capabilities import acceleration
from interlock.drivers.qemu.driver import QemuDriver
from interlock.fsm.port import Site
from interlock.guest.seed import BOOTED
from interlock.host.home import Home

INTERLOCK = str(Path(sys.executable).with_name("interlock"))
DEADLINE_S = 300.0


@contextmanager
def by_hand(site: Site, change: Callable[[list[str]], list[str]] = list) -> Iterator[subprocess.Popen[bytes]]:
    """Run the hypervisor of `site` without Interlock, as a person would; `change` may change its command line."""
    events.prepare(site.directory)
    site.runtime.mkdir(parents=True, exist_ok=True)
    command = change(QemuDriver().command(site))
    hypervisor = subprocess.Popen(command, cwd=site.directory, **QUIET)  # type: ignore[call-overload]
    try:
        yield hypervisor
    finally:
        hypervisor.kill()
        hypervisor.wait()


def wait_for_answer(site: Site) -> None:
    """Return once the guest says over ssh that its first boot is over."""
    config = site.directory / "ssh.config"
    question = ["ssh", "-F", str(config), "-o", "BatchMode=yes", site.name, "cat", BOOTED]
    while subprocess.run(question, check=False, **QUIET).returncode:  # type: ignore[call-overload]
        time.sleep(0.05)


def start(name: str) -> tuple[float, float, float]:
    """Run `interlock start`; return seconds to the banner, seconds to its end, peak memory in MiB."""
    began = time.perf_counter()
    process = subprocess.Popen([INTERLOCK, "start", name], **QUIET)  # type: ignore[call-overload]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    total = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"interlock start {name} ended with {process.returncode}")
    lines = list(Interlock().history(name))
    banner = next(line for line in reversed(lines) if line.step == "waiting for ssh" and line.phase == "step")
    return total - (lines[-1].elapsed_s - banner.elapsed_s), total, usage.ru_maxrss / 1024


def processes_of(directory: Path) -> list[str]:
    """Return the programs that run in `directory`, or that have it in their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            inside = (process / "cwd").readlink() == directory
            if inside or any(os.fsencode(directory) in argument for argument in arguments):
                found.append(Path(os.fsdecode(arguments[0])).name)
    return found


def compare(vms: Interlock, runs: int) -> None:
    """Print how much Interlock adds to the boot of the tiny image."""
    vms.create("tiny", "tiny")
    vms.start("tiny")
    site = vms.engine.site("tiny")
    port = vms.status("tiny").observation.ssh_port  # type: ignore[union-attr]
    vms.kill("tiny")
    rows: list[tuple[float, ...]] = []
    for _ in range(runs):
        began = time.perf_counter()
        with by_hand(site):
            wait_for_banner(port or 0, DEADLINE_S)
            hand_banner = time.perf_counter() - began
            wait_for_answer(site)
            hand_answer = time.perf_counter() - began
        banner, answer, memory = start("tiny")
        left = processes_of(site.directory)
        vms.kill("tiny")
        rows.append((hand_banner, banner, hand_answer, answer, memory))
    columns = list(zip(*rows, strict=True))
    print(f"\ntiny, {runs} runs each, in turn                 by hand  interlock   ratio, pair by pair")
    for label, hand, ours in (("to the banner", 0, 1), ("to the answer over ssh", 2, 3)):
        ratios = [b / a for a, b in zip(columns[hand], columns[ours], strict=True)]
        medians = statistics.median(columns[hand]), statistics.median(columns[ours])
        spread = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{label:<40} {medians[0]:8.2f} s {medians[1]:8.2f} s   {spread}")
    print(f"peak memory of `interlock start`         {max(columns[4]):8.1f} MiB")
    print(f"left running afterwards                  {', '.join(left) or 'nothing'}")


def boots(vms: Interlock) -> None:
    """Print the times of first and second boot of the debian image, for both ways to set up a guest."""
    print("\ndebian                                    first boot  second boot")
    for template, way in (("debian", "seed in the initramfs, own kernel"), ("debian-firmware", "cloud-init, UEFI")):
        vms.create(template, template)
        first = start(template)[1]
        vms.stop(template)
        second = start(template)[1]
        vms.delete(template, force=True)
        print(f"{way:<40} {first:8.1f} s   {second:8.1f} s")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--debian", action="store_true")
    options.add_argument("--home", type=Path)
    options.add_argument("--limactl", nargs="?", const=shutil.which("limactl"), help="compare with limactl")
    options.add_argument("--image", type=Path, help="with --limactl: a cloud image on this host")
    options.add_argument("--user", help="with --limactl: the user who runs it")
    given = options.parse_args()
    if given.limactl and not given.image:
        options.error("--limactl needs --image")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["INTERLOCK_HOME"] = str(given.home.absolute() if given.home else Path(scratch, "home"))
        os.environ["XDG_RUNTIME_DIR"] = scratch
        vms = Interlock()
        vms.home.prepare()
        chosen = acceleration(Home.from_environment().runtime, os.uname().machine)
        print(f"{machine()}; guests run with {chosen.name}: {chosen.reason}")
        if given.limactl:
            emulated = chosen.name == "tcg"
            image = given.image.absolute()
            limactl.compare(INTERLOCK, vms, image, given.runs, lima=given.limactl, user=given.user, emulated=emulated)
            return
        try:
            compare(vms, given.runs)
            if given.debian:
                boots(vms)
        finally:
            for name in ("tiny", "debian", "debian-firmware"):
                vms.delete(name, force=True)


if __name__ == "__main__":
    main()
