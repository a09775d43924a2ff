"""Makes every request of the driver on a real cluster, and writes the answers to tests/ganeti/recorded.json.

    nodes.py up DIRECTORY
    nodes.py run DIRECTORY python tests/cluster/record.py DIRECTORY

The stand-in in tests/ganeti replies with these answers. This program kills a node of the cluster and brings it back.
"""

import json
import sys
import time
from pathlib import Path

from nodes import NODES, Nodes

from interlock.drivers.ganeti import cluster as clusters
from interlock.drivers.ganeti.rapi import Rapi

RECORDED = Path(__file__).parents[1] / "ganeti" / "recorded.json"
NAME, OTHER = "recorded", "renamed"
UNFINISHED = ("queued", "waiting", "running", "canceling")


def main() -> None:
    """Record all answers."""
    nodes = Nodes(Path(sys.argv[1]).absolute())
    root = nodes.record.parents[1]
    cluster = clusters.read(root, "test")
    answers: dict = {"jobs": {}, "errors": {}}
    with Rapi(cluster, root) as rapi:
        record(nodes, rapi, answers)
    with Rapi(cluster._replace(user="nobody"), root) as rapi:
        answers["denied"] = plain(rapi, "/2/instances")
    RECORDED.write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n")


def record(nodes: Nodes, rapi: Rapi, answers: dict) -> None:
    """Record the answers for an instance from its creation to its removal, into `answers`."""
    node = f"{list(NODES)[2]}.example.test"
    create = {
        "__version__": 1,
        "mode": "create",
        "instance_name": NAME,
        "hypervisor": "kvm",
        "os_type": "interlock-os",
        "osparams": {"store": "/srv/interlock", "image": "", "sha256": ""},
        "hvparams": {"kernel_path": "", "initrd_path": ""},
        "beparams": {"maxmem": 256, "minmem": 256, "vcpus": 1},
        "disks": [{"size": 1024}],
        "nics": [{"network": "guests", "ip": "pool"}],
        "start": False,
        "ip_check": False,
        "name_check": False,
        "tags": ["interlock:home:0123456789abcdef", "interlock:instance:i-1"],
        "pnode": node,
    }

    def done(method: str, path: str, body: dict | str | None = None, query: dict | None = None) -> dict:
        number = rapi.ask(method, path, body, query)
        while (job := rapi.get(f"/2/jobs/{number}"))["status"] in UNFINISHED:
            time.sleep(0.3)
        return job

    def kept(method: str, path: str, body: dict | str | None = None, query: dict | None = None) -> None:
        job = done(method, path, body, query)
        assert job["status"] == "success", job
        answers["jobs"][job["ops"][-1]["OP_ID"]] = job

    def failed(key: str, method: str, path: str, body: dict | None = None, query: dict | None = None) -> None:
        job = done(method, path, body, query)
        assert job["status"] == "error", job
        answers["errors"][key] = job["opresult"][job["opstatus"].index("error")]

    at = f"/2/instances/{NAME}"
    answers["missing"] = plain(rapi, at)
    answers["network"] = rapi.get("/2/networks/guests")
    answers["nodes"] = rapi.get("/2/nodes", bulk=1)
    answers["groups"] = rapi.get("/2/groups", bulk=1)
    failed("missing", "PUT", f"{at}/startup")
    large = create | {"beparams": {"maxmem": 30000, "minmem": 30000, "vcpus": 1}}
    failed("no_room", "POST", "/2/instances", {key: value for key, value in large.items() if key != "pnode"})
    kept("POST", "/2/instances", create)
    answers["instance"] = rapi.get(at)
    failed("exists", "POST", "/2/instances", create)
    kept("PUT", f"{at}/tags", query={"tag": ["one", "two"]})
    failed("no_tag", "DELETE", f"{at}/tags", query={"tag": ["one", "three"]})
    kept("DELETE", f"{at}/tags", query={"tag": ["one", "two"]})
    kept("PUT", f"{at}/modify", {"beparams": {"maxmem": 128, "minmem": 128}})
    kept("POST", f"{at}/disk/0/grow", {"amount": 1100, "absolute": True})
    kept("PUT", f"{at}/startup")
    answers["running"] = rapi.get(at)
    kept("PUT", f"{at}/migrate", {"mode": "live"})
    kept("PUT", f"{at}/migrate", {"mode": "live", "target_node": node})
    kept("PUT", f"{at}/shutdown", {"timeout": 0})
    kept("POST", f"{at}/reinstall", {"os": "interlock-os", "start": False})
    kept("PUT", f"{at}/rename", {"new_name": OTHER, "ip_check": False, "name_check": False})
    at = f"/2/instances/{OTHER}"
    nodes.power_off("node3")
    answers["nodedown"] = rapi.get(at)
    answers["nodes_down"] = rapi.get("/2/nodes", bulk=1)
    failed("node_down", "PUT", f"{at}/startup")
    kept("PUT", f"/2/nodes/{node}/role", "offline")
    answers["nodeoffline"] = rapi.get(at)
    kept("PUT", f"{at}/failover", {"ignore_consistency": True})
    nodes.power_on("node3")
    nodes.readmit("node3")
    kept("DELETE", at)


def plain(rapi: Rapi, path: str) -> object:
    """Return the answer to a request that RAPI refuses."""
    return rapi._client.get(path).json()


if __name__ == "__main__":
    main()
