"""The same guest by limactl and by Interlock: how long its first boot takes, and how much memory its QEMU uses then.

Used by `boot.py --limactl`. Both read the same template, in Lima's format, and start from the same cloud image, which
cloud-init sets up. Each run makes a new instance with limactl, then one with Interlock.
"""

import json
import os
import pwd
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measure import QUIET, memory_mib

from interlock import Interlock
from interlock.drivers.qemu import hypervisor

NAME = "compared"
ROWS = (("to the end of start", "s"), ("QEMU's PSS then", "MiB"), ("QEMU's RSS then", "MiB"))
"""What is compared. Nothing else connects to the guest meanwhile: repeated ssh greetings cost an emulated guest more
than its boot."""
TIMEOUT_S = 1200

TEMPLATE = """\
images: [{{location: {image}, arch: {arch}}}]
arch: {arch}
cpus: {cpus}
memory: {memory}
disk: 10GiB
mounts: []
containerd: {{system: false, user: false}}
ssh: {{localPort: {port}}}
"""


EMULATED = {
    "x86_64": "qemu-system-x86_64 -machine q35,vmport=off -accel tcg,thread=multi,tb-size=512 -cpu max",
    "aarch64": "qemu-system-aarch64 -machine virt,accel=tcg -cpu max",
}
"""The QEMU command for limactl where guests are emulated: the options that it uses for guests of other architectures.
For guests of the host's architecture it takes KVM for granted. Source: Lima's documentation, environment variables."""


class Boot(NamedTuple):
    """One first boot: seconds until `start` ends, and MiB of its QEMU at that moment."""

    start_s: float
    pss_mib: float
    rss_mib: float


class Program(NamedTuple):
    """How to call one of the two: its command lines, options that say who runs it, and how to find its QEMU."""

    command: list[str]
    create: list[str]
    start: list[str]
    options: Mapping[str, object]
    hypervisor: Callable[[], int]


def first_boot(program: Program) -> Boot:
    """Return the cost of the first boot of a new instance; raises SystemExit if it does not succeed."""
    quiet = {**QUIET, **program.options}
    subprocess.run([*program.command, *program.create], check=True, timeout=TIMEOUT_S, **quiet)  # type: ignore[call-overload]
    try:
        began = time.perf_counter()
        done = subprocess.run([*program.command, *program.start], check=False, timeout=TIMEOUT_S, **quiet)  # type: ignore[call-overload]
        took = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(program.command)} start {NAME} ended with {done.returncode}")
        pid = program.hypervisor()
        return Boot(took, memory_mib(pid, "Pss"), memory_mib(pid, "Rss"))
    finally:
        subprocess.run([*program.command, "delete", "--force", NAME], check=True, timeout=TIMEOUT_S, **quiet)  # type: ignore[call-overload]


@contextmanager
def limactl(program: str, user: str | None, template: Path, *, emulated: bool) -> Iterator[Program]:
    """Yield how to call limactl, with a home of its own; it refuses root, so root must name a `user`."""
    arch = os.uname().machine
    account = pwd.getpwnam(user) if user else None
    with tempfile.TemporaryDirectory(prefix="lima-") as home:
        options: dict[str, Any] = {"env": {**os.environ, "LIMA_HOME": home, "HOME": home}, "cwd": home}
        if emulated:
            options["env"] |= {f"QEMU_SYSTEM_{arch.upper()}": EMULATED[arch]}
        if account:
            os.chown(home, account.pw_uid, account.pw_gid)
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        create = ["create", "--tty=false", "--name", NAME, str(template)]
        start = ["start", "--timeout", f"{TIMEOUT_S}s", NAME]
        yield Program([program], create, start, options, lambda: int(Path(home, NAME, "qemu.pid").read_text()))


def compare(
    interlock: str, vms: Interlock, image: Path, runs: int, *, lima: str, user: str | None, emulated: bool
) -> None:
    """Print the medians of both, and the ratios pair by pair."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="compared-") as folder:
        template = Path(folder, "compared.yaml")
        said = {"image": json.dumps(str(image)), "arch": os.uname().machine, "cpus": 2, "memory": "1GiB", "port": port}
        template.write_text(TEMPLATE.format(**said))
        Path(folder).chmod(0o755)
        create = ["create", NAME, "--template", str(template), "--driver", "qemu"]
        start = ["start", "--timeout", str(TIMEOUT_S), NAME]
        ours = Program([interlock], create, start, {}, lambda: hypervisor.find(vms.home.directory(NAME)).pid)
        with limactl(lima, user, template, emulated=emulated) as theirs:
            pairs = []
            for number in range(1, runs + 1):
                pairs.append((first_boot(theirs), first_boot(ours)))
                took = " against ".join(f"{boot.start_s:.1f} s, {boot.pss_mib:.0f} MiB" for boot in pairs[-1])
                print(f"pair {number} of {runs}: limactl {took}", flush=True)
    print(f"\nfirst boot of {image.name}, {runs} runs each, in turn      limactl  interlock   ratio, pair by pair")
    for number, (label, unit) in enumerate(ROWS):
        columns = [[boot[number] for boot in side] for side in zip(*pairs, strict=True)]
        ratios = [b / a for a, b in zip(*columns, strict=True)]
        lima_s, ours_s = map(statistics.median, columns)
        spread = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{label:<40} {lima_s:8.1f} {unit} {ours_s:8.1f} {unit}   {spread}")
