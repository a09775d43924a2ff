"""A node is killed in the middle of transitions.

Whatever happens: a call returns or raises one of our errors, a listing goes on, no instance ever has two hypervisors,
and each instance can be started or deleted once its nodes are back.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cluster.nodes import NODES

from interlock.errors import InterlockError
from interlock.fsm.states import State

FIRST, SECOND, THIRD = (f"{name}.example.test" for name in NODES)


def hypervisors(nodes) -> dict[str, list[str]]:
    """Return the names of the instances whose hypervisors run on each node that is up."""
    script = "pgrep -a qemu-system | sed -n 's/.* -name \\([^ ,]*\\).*/\\1/p'"
    return {name: nodes.sh(name, script).split() for name in nodes.up_nodes()}


def outcome(action: Callable[[], object]) -> object:
    """Return what `action` returns, or the error of ours that it raises; any other error is a defect."""
    try:
        return action()
    except InterlockError as error:
        return error


def test_node_is_killed_in_the_middle_of_every_transition(vms, create, nodes):
    """A start, stop, delete and two migrations are under way when their node dies; all end, and nothing is lost."""
    homes = {"starts": THIRD, "stops": THIRD, "goes": THIRD, "leaves": THIRD, "comes": FIRST}
    with ThreadPoolExecutor(len(homes)) as threads:
        list(threads.map(lambda name: create(vms, name, node=homes[name]), homes))
        list(threads.map(vms.start, ("stops", "leaves", "comes")))
        actions = {
            "starts": lambda: vms.start("starts"),
            "stops": lambda: vms.stop("stops"),
            "goes": lambda: vms.delete("goes"),
            "leaves": lambda: vms.migrate("leaves", SECOND),
            "comes": lambda: vms.migrate("comes", THIRD),
        }
        begun = {name: threads.submit(outcome, action) for name, action in actions.items()}
        time.sleep(2)
        nodes.power_off("node3")
        try:
            listed = {status.name: status for status in vms.instances()}
            for future in begun.values():
                future.result(timeout=600)
            assert listed.keys() >= homes.keys() - {"goes"}
            running = [name for names in hypervisors(nodes).values() for name in names]
            assert len(running) == len(set(running))
        finally:
            nodes.power_on("node3")
            nodes.readmit("node3")
    for name in homes:
        status = vms.status(name)
        assert status.operation is None or status.state is State.absent
        if status.state is not State.absent:
            vms.start(name)
            assert vms.run(name, ["hostname"]).text == name
    running = [name for names in hypervisors(nodes).values() for name in names]
    assert sorted(running) == sorted(status.name for status in vms.instances())


def test_master_is_killed_while_a_start_waits_for_its_guest(vms, create, nodes):
    """The start ends as if nothing had happened; another node becomes the master, and carries out the next jobs."""
    create(vms, "web", node=SECOND)
    waits = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(vms.start, "web", on_event=lambda event: "the guest" in event.message and waits.set())
        assert waits.wait(300)
        nodes.power_off("node1")
        try:
            nodes.sh("node2", "gnt-cluster master-failover")
            begun.result(timeout=600)
            assert nodes.sh("node2", "gnt-cluster getmaster").strip() == SECOND
            vms.stop("web")
            vms.start("web")
            assert vms.run("web", ["hostname"]).text == "web"
        finally:
            nodes.power_on("node1")
            nodes.readmit("node1", master="node2")
            nodes.sh("node1", "gnt-cluster master-failover")
    assert vms.status("web").state is State.running
    assert all(node.up for node in vms.nodes("test"))


def test_all_nodes_are_killed_at_once_and_brought_back(vms, create, nodes):
    """Meanwhile nobody can tell what runs; afterwards the listing says what went down, and it starts again."""
    for name, node in (("web", SECOND), ("db", THIRD), ("cache", FIRST)):
        create(vms, name, node=node)
    vms.start("web")
    vms.start("db")
    for name in NODES:
        nodes.power_off(name)
    try:
        for status in vms.instances():
            assert 'cluster "test" does not answer' in str(status.observation.condition)
    finally:
        for name in reversed(NODES):
            nodes.power_on(name)
    assert all(node.up for node in vms.nodes("test"))
    assert {status.name: str(status.state) for status in vms.instances()} == {
        "web": "stopped",
        "db": "stopped",
        "cache": "created",
    }
    assert [*vms.history("web")][-1].trigger == "exited"
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(vms.start, ("web", "db")))
    assert [vms.run(name, ["hostname"]).text for name in ("web", "db")] == ["web", "db"]
