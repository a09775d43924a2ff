"""Nodes are killed in the middle of transitions; the cluster's master is killed; and all nodes are killed at once.

Whatever happens: a call returns or raises one of our errors, a listing goes on, no instance ever has two hypervisors,
and each instance can be started or deleted once its nodes are back.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster.nodes import NODES

from interlock.errors import DriverError, InterlockError, OutOfReachError
from interlock.fsm.happening import Happening
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
            began = time.monotonic()
            listed = {status.name: status for status in vms.instances()}
            took_s = time.monotonic() - began
            ended = {name: future.result(timeout=600) for name, future in begun.items()}
            print(f"listed in {took_s:.1f} s: { {name: str(status.observation) for name, status in listed.items()} }")
            for name, result in ended.items():
                print(f"{name}: {result!r}")
            assert listed.keys() >= homes.keys() - {"goes"}
            running = [name for names in hypervisors(nodes).values() for name in names]
            assert len(running) == len(set(running))
        finally:
            nodes.power_on("node3")
            nodes.readmit("node3")
    for name in homes:
        status = vms.status(name)
        print(f"{name}: {status.state} {status.observation}")
        assert status.operation is None or status.state is State.absent
        if status.state is not State.absent:
            vms.start(name)
            assert vms.run(name, ["hostname"]).text == name
    running = [name for names in hypervisors(nodes).values() for name in names]
    assert sorted(running) == sorted(status.name for status in vms.instances())


def test_master_is_killed_during_a_start_and_another_node_becomes_master(vms, create, nodes):
    """The start fails or succeeds, and afterwards the same record of the cluster reaches the new master."""
    create(vms, "web", node=SECOND)
    create(vms, "db", node=SECOND)
    vms.start("db")
    steps: list[str] = []

    def hear(event) -> None:
        if event.happening is Happening.step:
            steps.append(event.step or "")

    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(outcome, lambda: vms.start("web", on_event=hear))
        while "asking the cluster to start the machine" not in steps:
            time.sleep(0.05)
        nodes.power_off("node1")
        try:
            with pytest.raises(DriverError, match="does not answer"):
                vms.stop("db")
            nodes.sh("node2", "gnt-cluster master-failover --yes-do-it")
            print(f"start: {begun.result(timeout=600)!r}")
            assert vms.run("db", ["hostname"]).text == "db"
            vms.start("web")
            assert vms.run("web", ["hostname"]).text == "web"
            vms.stop("db")
        finally:
            nodes.power_on("node1")
            nodes.readmit("node1", master="node2")
            nodes.sh("node1", "gnt-cluster master-failover")
    assert all(node.up for node in vms.nodes("test"))
    assert vms.status("web").state is State.running


def test_all_nodes_are_killed_at_once(vms, create, nodes):
    """Nothing can be told or done until they are back; then the exits are recorded, and everything starts again."""
    names = {"web": FIRST, "db": SECOND, "cache": THIRD}
    for name, node in names.items():
        create(vms, name, node=node)
    for name in ("web", "db"):
        vms.start(name)
    for name in NODES:
        nodes.power_off(name)
    try:
        seen = {status.name: status for status in vms.instances()}
        assert all(seen[name].observation.alive is None for name in names)
        assert all("unreachable" in (seen[name].observation.condition or "") for name in names)
        with pytest.raises(DriverError, match="does not answer"):
            vms.start("cache")
        with pytest.raises((DriverError, OutOfReachError), match="does not answer"):
            vms.stop("web")
    finally:
        for name in reversed(NODES):  # the first is the master, and asks the others
            nodes.power_on(name)
    assert {name: vms.status(name).state for name in names} == {
        "web": State.stopped,
        "db": State.stopped,
        "cache": State.created,
    }
    assert [entry.trigger for entry in vms.history("web")][-1] == "exited"
    for name in names:
        vms.start(name)
        assert vms.run(name, ["hostname"]).text == name
