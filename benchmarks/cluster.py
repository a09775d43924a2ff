"""What Interlock costs on a cluster, compared with bare requests to the cluster's REST API.

    python benchmarks/cluster.py CLUSTER [--runs 9] [--template tiny]

CLUSTER is the name of its record in this home. An instance is created there and deleted at the end. In each turn it is
started twice: once by Interlock, once by a bare request, whose job is polled as often as Interlock polls it, and then
by ssh until the guest answers. Then all instances are listed, five times each: by Interlock, which compares what the
cluster says with the journals, and by the one bare request.

Everything runs in this process, so that loading Python counts on neither side; each side opens its own connections.
"""

import argparse
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from measure import QUIET, machine, median_ms, ratio

from interlock import Interlock, Wishes
from interlock.drivers.ganeti import cluster as clusters
from interlock.drivers.ganeti.rapi import Rapi

NAME = "benchmark-cluster"
START, BARE_START, LIST, BARE_LIST = "start", "start, bare", "list", "list, bare"
LISTINGS = 5
POLL_S = 0.3
UNFINISHED = ("queued", "waiting", "running")


def main() -> None:
    """Print the medians, and their ratios to bare requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cluster")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--template", default="tiny")
    given = parser.parse_args()
    vms = Interlock()
    wishes = Wishes(memory_bytes=256 << 20, disk_bytes=1 << 30, cluster=given.cluster)
    vms.create(NAME, given.template, wishes, driver="ganeti")
    took: dict[str, list[float]] = {START: [], BARE_START: [], LIST: [], BARE_LIST: []}
    try:
        vms.start(NAME)  # the first boot does more than the others
        config = vms.ssh_config(NAME)
        vms.stop(NAME)
        listings: list[tuple[str, Callable[[], object]]] = [
            (LIST, lambda: list(vms.instances())),
            (BARE_LIST, lambda: bare_list(vms, given.cluster)),
        ]
        for _ in range(given.runs):
            took[START].append(seconds(lambda: vms.start(NAME)))
            listings.reverse()  # the first one after a start finds the cluster busy
            for name, listing in listings * LISTINGS:
                took[name].append(seconds(listing))
            vms.stop(NAME)
            took[BARE_START].append(seconds(lambda: bare_start(vms, given.cluster, config)))
            vms.stop(NAME)
        instances = bare_list(vms, given.cluster)
    finally:
        with suppress(Exception):
            vms.kill(NAME)
        vms.delete(NAME)
    print(f"{machine()}; {given.runs} turns; {instances} instances in the cluster")
    for ours, bare in ((START, BARE_START), (LIST, BARE_LIST)):
        print(f"{bare:<12} {median_ms(took[bare])}")
        print(f"{ours:<12} {median_ms(took[ours])}  {ratio(took[ours], took[bare]):5.2f} of bare")


def seconds(action: Callable[[], object]) -> float:
    """Return how long `action` took, wall clock."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def bare_start(vms: Interlock, cluster: str, config: Path) -> None:
    """Start the instance by the REST API alone, and return once its guest runs a command by ssh."""
    root = vms.home.root
    with Rapi(clusters.read(root, cluster), root) as rapi:
        number = rapi.submit("PUT", f"/2/instances/{NAME}/startup")
        while (status := rapi.get(f"/2/jobs/{number}")["status"]) in UNFINISHED:
            time.sleep(POLL_S)
    if status != "success":
        raise SystemExit(f"job {number}: {status}")
    command = ["ssh", "-F", str(config), "-o", "ConnectTimeout=1", NAME, "true"]
    while subprocess.run(command, check=False, **QUIET).returncode:  # type: ignore[call-overload]
        time.sleep(POLL_S)


def bare_list(vms: Interlock, cluster: str) -> int:
    """Return how many instances the cluster lists."""
    root = vms.home.root
    with Rapi(clusters.read(root, cluster), root) as rapi:
        return len(rapi.get("/2/instances", bulk=1))


if __name__ == "__main__":
    main()
