"""The commands about clusters, and the one that moves an instance from node to node."""

from typing import Unpack

import click

from ..errors import InterlockError, UsageError
from ..fsm.table import Trigger
from .many import Which, each, names_argument
from .options import Group, format_option, outcome_options, pass_session, timeout_option
from .session import Session
from .stdout import Format, print_records, size

node_option = click.option("--node", metavar="NODE", help="Where to; default: the cluster chooses.")
give_up_option = timeout_option("Give up when it is not there, or its guest has not answered, by then.")


@click.command("migrate")
@names_argument
@node_option
@give_up_option
@outcome_options
@pass_session
def migrate_command(session: Session, /, node: str | None, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Move instances to another node of their cluster.

    A guest that runs is moved as it runs, and keeps its connections; that takes a kind of disk that the nodes share.
    From a node that is down, `interlock cluster failover` leads.

    \b
    interlock migrate web
    interlock migrate web --node node2.example.org
    """
    each(session, Trigger.migrate, lambda vms, name: vms.migrate(name, node, timeout_s=timeout_s), **which)


@click.group("cluster", cls=Group)
def cluster_command() -> None:
    """Look at clusters' nodes, empty one, leave one that is down.

    A cluster is known by a record in Interlock's home, clusters/NAME.yaml.
    """


@cluster_command.command("nodes")
@click.argument("clusters", nargs=-1, metavar="[CLUSTER]...")
@format_option
@pass_session
def nodes_command(session: Session, clusters: tuple[str, ...], output_format: Format) -> None:
    """List the nodes of CLUSTERS, or of all that have a record, and what room they have.

    \b
    interlock cluster nodes
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
    """Boot instances on another node, because theirs is down.

    You vouch that the node does not run them any more: two nodes that write to one disk destroy it. What a guest had
    only in its memory is gone. An instance whose node answers after all is moved as by `interlock migrate`.

    \b
    interlock cluster failover web
    """
    each(
        session, Trigger.migrate, lambda vms, name: vms.migrate(name, node, failover=True, timeout_s=timeout_s), **which
    )


@cluster_command.command("evacuate")
@click.argument("cluster")
@click.argument("node")
@click.option("--failover", is_flag=True, help="The node is down: boot its instances elsewhere.")
@give_up_option
@outcome_options
@pass_session
def evacuate_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, /, cluster: str, node: str, failover: bool, timeout_s: float | None, output_format: Format
) -> None:
    """Move each instance that NODE of CLUSTER has to another node, as `interlock migrate` does.

    Only those of this home: what other homes and other people have there stays, and `interlock cluster nodes` counts
    it. The cluster's own `gnt-node evacuate` moves all.

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
