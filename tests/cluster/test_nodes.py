"""An instance can move between nodes while it runs, and can leave a node that was killed."""

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster.nodes import NODES

from interlock.drivers.ganeti.rapi import Rapi
from interlock.errors import OutOfReachError
from interlock.fsm.port import Deadline

COUNT = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done"


def test_live_migration_misses_nothing(vms, create, nodes):
    """A guest that counts into an open session keeps counting while it moves to another node; no number is lost."""
    create(vms, "web", node="node1.example.test")
    vms.start("web")
    with subprocess.Popen(vms.shell("web", ["sh", "-c", COUNT]), stdout=subprocess.PIPE, text=True) as counting:
        assert counting.stdout is not None
        heard = []
        reader = threading.Thread(target=lambda: heard.extend(map(int, counting.stdout)), daemon=True)
        reader.start()
        deadline = Deadline(300)
        wait(lambda: len(heard) > 5, deadline)
        outcome = vms.migrate("web", "node2.example.test")
        moved = len(heard)
        wait(lambda: len(heard) > moved + 5, deadline)
        counting.kill()
        reader.join()
    assert outcome.detail == "to node2.example.test"
    assert heard == list(range(1, len(heard) + 1))
    assert vms.status("web").observation.node == "node2.example.test"
    assert nodes.sh("node1", "gnt-instance list --no-headers -o pnode web").strip() == "node2.example.test"


def test_instance_leaves_a_node_that_was_killed(vms, create, nodes):
    """A listing shows the instance as unreachable, and the others as usual; a failover boots it on another node."""
    create(vms, "web", node="node3.example.test")
    create(vms, "db", node="node1.example.test")
    vms.start("web")
    nodes.power_off("node3")
    try:
        seen = {status.name: status for status in vms.instances()}
        assert "unreachable: its node node3.example.test does not answer" in seen["web"].observation.condition
        assert seen["db"].observation.alive is False
        with pytest.raises(OutOfReachError, match=r"node3\.example\.test") as caught:
            vms.stop("web")
        assert caught.value.hint == "interlock cluster failover web"
        up = {node.name: node.up for node in vms.nodes("test")}
        assert up == {"node1.example.test": True, "node2.example.test": True, "node3.example.test": False}
        assert vms.on_node("test", "node3.example.test") == ["web"]
        vms.migrate("web", failover=True)
        assert vms.run("web", ["hostname"]).text == "web"
        assert {node.name: node.condition for node in vms.nodes("test")}["node3.example.test"] == "offline"
    finally:
        nodes.power_on("node3")
        nodes.readmit("node3")
    assert all(node.up for node in vms.nodes("test"))


def test_two_homes_race_for_one_name(vms, create, other_home):
    """The cluster's queue decides: one home gets the instance, and the other gets an error that the name is taken."""
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(create, home, "web") for home in (vms, other_home)]
    (failed,) = filter(None, (one.exception() for one in asked))
    assert 'the cluster has an instance "web" already' in str(failed)
    winner, loser = (vms, other_home) if asked[0].exception() is None else (other_home, vms)
    winner.start("web")
    assert winner.run("web", ["hostname"]).text == "web"
    assert list(loser.instances()) == []


def test_hundred_instances_are_listed_by_one_request(vms, create, monkeypatch):
    """A listing asks the cluster once, however many instances there are."""
    names = [f"n{number}" for number in range(100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: create(vms, name), names))
    asked, ask = [], Rapi.ask
    monkeypatch.setattr(
        Rapi, "ask", lambda rapi, method, path, *rest: asked.append(path) or ask(rapi, method, path, *rest)
    )
    listed = {status.name: status for status in vms.instances()}
    assert asked == ["/2/instances"]
    assert sorted(listed) == sorted(names)
    assert {str(status.state) for status in listed.values()} == {"created"}
    assert {status.observation.node for status in listed.values()} == {f"{name}.example.test" for name in NODES}


def wait(condition, deadline):
    """Return once `condition` holds."""
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.05)
