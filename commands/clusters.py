"""The commands about clusters, and `migrate`, which moves an instance from node to node."""

from typing import Unpack

import click

from ..errors import InterlockError, UsageError
from ..fsm.table import Trigger
from .many import Which, each, names_argument
from .options import Group, format_option, outcome_options, pass_session, timeout_option
from .session import Session
from .stdout import Format, print_records, size

node_option = click.option("--node", metavar="NODE", help="The node to move to; by default, the cluster chooses one.")
give_up_option = timeout_option("How long the move may take, with the wait for a guest that boots.")


@click.command("migrate")
@names_argument
@node_option
@give_up_option
@outcome_options
@pass_session
def migrate_command(session: Session, /, node: str | None, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Move instances to another node of their cluster.

    A running guest is moved while it runs, and keeps its connections. The nodes must share its disk. If the present
    node is down, use `interlock cluster failover`.

    \b
    interlock migrate web
    interlock migrate web --node node2.example.org
    """
    each(session, Trigger.migrate, lambda vms, name: vms.migrate(name, node, timeout_s=timeout_s), **which)


@click.group("cluster", cls=Group)
def cluster_command() -> None:
    """List nodes of clusters, evacuate a node, and leave one that is down.

    Interlock knows the clusters that have a record in its home: clusters/NAME.yaml.

    \b
    interlock cluster nodes
    interlock cluster evacuate west node2.example.org
    """


@cluster_command.command("nodes")
@click.argument("clusters", nargs=-1, metavar="[CLUSTER]...")
@format_option
@pass_session
def nodes_command(session: Session, clusters: tuple[str, ...], output_format: Format) -> None:
    """List the nodes of each CLUSTER, by default of all, with their status and free memory.

    \b
    interlock cluster nodes
    interlock cluster nodes west
    """
    named = clusters or session.interlock.clusters()
    if not named:
        session.report("this home has no record of a cluster")
    nodes, silent = [], []
    for cluster in named:
        try:
            nodes += session.interlock.nodes(cluster)
        except InterlockError as error:
            silent.append(error)
    print_records(
        (node.to_json() for node in nodes),
        output_format,
        (
            ("CLUSTER", lambda record: record["cluster"]),
            ("NODE", lambda record: record["name"]),
            ("GROUP", lambda record: record["group"]),
            ("STATUS", lambda record: record["condition"] or ("up" if record["up"] else "does not answer")),
            ("MEMORY", lambda record: size(record["memory_bytes"])),
            ("FREE", lambda record: size(record["free_bytes"])),
            ("INSTANCES", lambda record: str(record["instances"])),
        ),
    )
    for problem in silent[:-1]:
        session.complain(problem)
    if silent:
        raise silent[-1]


@cluster_command.command("failover")
@names_argument
@node_option
@give_up_option
@outcome_options
@pass_session
def failover_command(session: Session, /, node: str | None, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Boot instances on another node, because their own is down.

    You vouch that their node no longer runs them: two nodes that write to one disk destroy it. Whatever a guest had
    only in memory is lost. If the node does answer, the instance is moved as by `interlock migrate`.

    \b
    interlock cluster failover web
    """
    each(
        session, Trigger.migrate, lambda vms, name: vms.migrate(name, node, failover=True, timeout_s=timeout_s), **which
    )


@cluster_command.command("evacuate")
@click.argument("cluster")
@click.argument("node")
@click.option("--failover", is_flag=True, help="Even if the node is down: then boot its instances elsewhere.")
@give_up_option
@outcome_options
@pass_session
def evacuate_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, /, cluster: str, node: str, failover: bool, timeout_s: float | None, output_format: Format
) -> None:
    """Move all instances on NODE of CLUSTER to other nodes, as `interlock migrate` does.

    Only instances of this home are moved. The node may have instances of other homes and other people, too, which
    `interlock cluster nodes` counts; Ganeti's own `gnt-node evacuate` moves all of them.

    \b
    interlock cluster evacuate west node2.example.org
    """
    known = [one.name for one in session.interlock.nodes(cluster)]
    if node not in known:
        raise UsageError(f'cluster "{cluster}" has no node "{node}"; it has {", ".join(known)}')
    names = tuple(session.interlock.on_node(cluster, node))
    if not names:
        session.report(f"{node} has no instance of this home")
        return
    which = Which(names=names, everything=False, filters=(), output_format=output_format)
    each(session, Trigger.migrate, lambda vms, name: vms.migrate(name, failover=failover, timeout_s=timeout_s), **which)
