"""Instances that other homes have in a cluster, and what this home needs to adopt them.

A home that creates an instance leaves its spec and the keys of its guest in the store (`store`). A home that can read
them there can adopt the instance: `found` lists it, and `take` takes it over (`ownership`).
"""

import json
from collections.abc import Collection
from pathlib import Path

from ...errors import DriverError, InterlockError
from ...fsm.spec import SPEC_FILE, Spec
from ...host.progress import Report
from ..contract import Found, Site
from . import cluster as clusters
from . import ownership, store
from . import record as records
from .cluster import Cluster
from .machine import Machine
from .rapi import Rapi
from .record import Record
from .seen import Seen


def found(root: Path, name: str, known: Collection[str]) -> list[Found]:
    """Return the instances that homes made in the cluster `name`, except those with an instance id in `known`."""
    cluster = clusters.read(root, name)
    with Rapi(cluster, root) as rapi:
        seen = rapi.instances()
    return [_found(cluster, one) for one in seen if one.instance_ids and not set(one.instance_ids) & set(known)]


def take(site: Site, record: Record, report: Report) -> None:
    """Make the instance of `record`, which another home had, this home's: it is the machine of `site`."""
    records.write(site, record._replace(inode=site.directory.stat().st_ino))
    with Machine(site, record.cluster) as machine:
        machine.settle(report)
        ownership.take_over(machine, record.former or "", report)


def _found(cluster: Cluster, seen: Seen) -> Found:
    name, (instance_id, *_) = _short(seen.name, cluster.domain), seen.instance_ids
    record = Record(
        cluster.name,
        seen.name,
        instance_id,
        inode=0,
        made=True,
        address=seen.address,
        ran=seen.alive is not False,
        former=seen.home,
    )
    try:
        kept = store.kept(instance_id, cluster)
        spec = Spec.from_json(json.loads(kept.pop(SPEC_FILE)), SPEC_FILE)
        if spec.instance_id != instance_id:
            raise DriverError(f"it is that of {spec.instance_id!r}")
    except OSError as error:
        return Found(name, None, {}, _unkept(cluster, name, error))
    except (InterlockError, ValueError, RecursionError) as error:
        return Found(name, None, {}, f'the copy of the spec of "{name}" in the store cannot be used: {error}')
    return Found(name, spec._replace(cluster=cluster.name), {**kept, records.RECORD: records.written(record)})


def _unkept(cluster: Cluster, name: str, error: OSError) -> str:
    """Return why "name" cannot be adopted if `error` was raised by reading what its home left in the store."""
    if not isinstance(error, FileNotFoundError):
        return f'this user cannot read what the home of "{name}" left in the store: {error.filename}: {error.strerror}'
    return (
        f'the home of "{name}" has left no keys in the store {cluster.store}: either that home uses another store, or '
        "it runs an older version or has not finished; a start there with this version leaves them"
    )


def _short(name: str, domain: str) -> str:
    """Return the name here of an instance that is called `name` in the cluster."""
    return name.removesuffix(f".{domain.strip('.')}") if domain else name
