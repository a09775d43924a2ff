"""A node is killed in the middle of transitions.

Whatever happens: a call returns or raises one of our errors, a listing goes on, no instance ever has two hypervisors,
and each instance can be started or deleted once its nodes are back.
"""

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
