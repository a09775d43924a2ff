"""The driver whose machines a Ganeti cluster runs: each call asks the cluster, and little is recorded here.

    directory/          written by
    ├── ganeti.json     create, and before each job: which instance it is, and the job under way (`record`)
    ├── ssh.config      start, a session: `ssh -F ssh.config NAME`
    └── degraded.txt    start, provision: what failed in the running guest, if anything

The files that the machine boots from are in the cluster's store (`store`); its data is on the cluster's disks. Anyone
who may use the cluster may start, stop and move the instance, so it is observed at rest, too. Modules are imported
where they are used: httpx takes longer to load than `list` takes without a cluster.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DriverError, HostError, InterlockError, NotFoundError, UsageError
from ...fsm import looks
from ...fsm.table import Trigger
from ...guest import ssh
from ...host.files import remove_tree
from ...host.home import is_unfinished, root_of
from .. import degraded
from ..contract import (
    CLUSTERED,
    INITRD,
    KERNEL,
    Abilities,
    Deadline,
    DegradedError,
    Driver,
    Found,
    Node,
    Observation,
    Report,
    Site,
)
from . import record as records
from .record import Record

if TYPE_CHECKING:
    from ..contract import Effects, Spec
    from .machine import Machine
    from .seen import Seen

_MIB = 1 << 20

_LONGEST_S = 86400
"""Ganeti requires a number, so a shutdown without a limit gets a day."""

_GRACE_S = 10
"""How much longer a shutdown job may take than the guest, because Ganeti ends the hypervisor after the guest's time."""


class GanetiDriver(Driver):
    """Runs each machine on the cluster that its spec names."""

    name = "ganeti"
    abilities = Abilities(  # noqa: S604 - no shell
        arches=("x86_64",),
        images=True,
        shell=True,
        honours=CLUSTERED | {"cpu_model", "forward_agent", "forward_x11", "forward_x11_trusted", "probes"},
    )

    def check(self, spec: "Spec") -> None:
        super().check(spec)
        if not spec.cluster:
            raise UsageError(f'driver "{self.name}" runs machines of a cluster; name it with --cluster')
        if spec.node and spec.group:
            raise UsageError("--node and --group exclude each other: name a node, or a group to choose a node from")

    def create(self, site: Site, report: Report) -> None:
        from . import cluster as clusters
        from . import guest, store
        from .machine import Machine
        from .seen import OF_HOME, OF_INSTANCE

        spec = site.spec
        if adopted := records.adoption(site):
            from . import adoption

            adoption.take(site, adopted, report)
            return
        _check_boot(site)
        with Machine(site, spec.cluster) as machine:
            name = _name(site.name, machine.cluster.domain)
            if records.read(site) is None:
                inode = site.directory.stat().st_ino
                records.write(site, Record(spec.cluster, name, spec.instance_id, inode))
            machine.settle(report)
            if seen := machine.look():
                if machine.record.made:
                    return
                _remove(machine, seen, report)  # a job that was cut short or failed may leave an incomplete instance
            handed = store.hand_over(site, machine.cluster, report)
            kernel = {"kernel_args": spec.kernel_arguments} if spec.boot == "kernel" else {}
            model = {"cpu_type": spec.cpu_model} if spec.cpu_model else {}
            report("asking the cluster for the machine")
            try:
                machine.submit("POST", "/2/instances", {
                    "__version__": 1,
                    "mode": "create",
                    "instance_name": name,
                    "hypervisor": "kvm",
                    "os_type": machine.cluster.os,
                    "osparams": handed.os,
                    "hvparams": {**handed.hypervisor, **kernel, **model},
                    "beparams": _sizes(spec),
                    "disks": [{"size": _mib(spec.disk_bytes)}],
                    "nics": [{"network": machine.cluster.network, "ip": "pool"} if machine.cluster.network else {}],
                    "start": False,
                    "ip_check": False,
                    "name_check": False,
                    "tags": [f"{OF_HOME}{clusters.home_mark(machine.root)}", f"{OF_INSTANCE}{spec.instance_id}"],
                    **({"disk_template": machine.cluster.disk_template} if machine.cluster.disk_template else {}),
                    **({"pnode": spec.node} if spec.node else {}),
                    **({"group_name": spec.group} if spec.group else {}),
                }, report)  # fmt: skip
            except DriverError as error:
                raise _explained(error, site, name) from error
            address = machine.reached().address
            if spec.boot == "kernel":
                arguments = guest.kernel_arguments(machine, address)
                machine.act("PUT", "modify", {"hvparams": {"kernel_args": arguments}})
            store.keep_for_adoption(site, machine.cluster, report)
            machine.note(made=True, address=address)

    def start(self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True) -> DegradedError | None:  # type: ignore[override] # this driver saves no memory, so nobody requests a cold start
        from . import store

        with _machine(site) as machine:
            machine.settle(report, deadline=deadline)
            seen = machine.owned(machine.reached())
            store.keep_for_adoption(site, machine.cluster, report)
            if not seen.alive:
                if not boot:
                    raise DriverError(f"the machine is down: {_reason(machine.record, seen) or 'it never ran'}")
                wanted = _sizes(site.spec)
                if (seen.memory_mib, seen.cpus) != (wanted["maxmem"], wanted["vcpus"]):
                    report("giving the machine its new sizes")
                    machine.act("PUT", "modify", {"beparams": wanted}, deadline=deadline)
                degraded.forget(site.directory)
                machine.note(ran=True, ended="")
                report("asking the cluster to start the machine")
                machine.act("PUT", "startup", None, report, deadline)
            return _answered(machine, report, deadline)

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:
        from ...guest import probes, provision
        from . import guest

        with _machine(site) as machine:
            machine.owned(machine.reached())
            report = guest.changes(report)
            with guest.watched(machine) as (endpoint, gone):
                failures = provision.run(endpoint, deadline, gone, report)
                try:
                    failures = probes.run(endpoint, site.spec.probes, deadline, gone, report, failures=failures)
                except probes.ProbeError as error:
                    failures = (error.failure,)
        return degraded.record(site, failures)

    def migrate(
        self, site: Site, report: Report, deadline: Deadline, *, node: str | None = None, failover: bool = False
    ) -> DegradedError | str | None:
        with _machine(site) as machine:
            machine.settle(report, deadline=deadline)
            seen = machine.owned(machine.found() if failover else machine.reached())
            lost = seen.alive is None
            if node == seen.node:
                if lost:
                    raise machine.unreachable(seen)
                return f"on {node} already"
            report("starting the machine on another node" if lost else "moving the machine to another node")
            if seen.silent:  # the cluster treats an offline node as down and no longer asks it
                machine.submit("PUT", f"/2/nodes/{seen.node}/role", "offline", report, deadline)
            how, wishes = ("migrate", {"mode": "live"}) if seen.alive else ("failover", {"ignore_consistency": lost})
            target = {"target_node": node} if node else {}
            try:
                machine.act("PUT", how, {**wishes, **target}, report, deadline)
            except DriverError as error:
                raise _explained(error, site, seen.name) from error
            now = machine.reached()
            if lost and now.alive and (failed := _answered(machine, report, deadline)):
                return failed
        return f"to {now.node}"

    def nodes(self, root: Path, cluster: str) -> list[Node]:
        from . import cluster as clusters
        from .rapi import Rapi

        with Rapi(clusters.read(root, cluster), root) as rapi:
            groups = {group["uuid"]: str(group["name"]) for group in rapi.get("/2/groups", bulk=1)}
            return [_node(cluster, groups, data) for data in rapi.get("/2/nodes", bulk=1)]

    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        if records.read(site) is None:
            return "was not running"
        with _machine(site) as machine:
            machine.settle(report, deadline=deadline)
            seen = machine.owned(machine.reached())
            if not seen.alive:
                return _reason(machine.record, seen) or "was not running"
            limit_s = math.ceil(min(deadline.remaining_s, _LONGEST_S))
            report("asking the guest to shut down")
            job = machine.act("PUT", "shutdown", {"timeout": limit_s}, report, Deadline(limit_s + _GRACE_S))
            how = "guest shut down"
            if _lasted_s(job) >= limit_s:  # Ganeti does not report whether it ended the machine at the limit
                how = f"ended by force: the guest did not shut down in {limit_s} s"
            self._ended(machine, how)
        return how

    def kill(self, site: Site, report: Report) -> None:
        if records.read(site) is None:
            return
        with _machine(site) as machine:
            machine.settle(report, at_once=True)
            seen = machine.look()
            if seen is None or not machine.owns(seen) or machine.refuse_unreachable(seen).alive is False:
                return
            report("ending the machine by force")
            machine.act("PUT", "shutdown", {"timeout": 0}, report)
            self._ended(machine, "killed")

    def reset(self, site: Site, report: Report) -> None:
        with _machine(site) as machine:
            machine.settle(report)
            _refuse_alive(site, machine.owned(machine.reached()))
            report("asking the cluster for a fresh disk")
            machine.act("POST", "reinstall", {"os": machine.cluster.os, "start": False}, report)
            degraded.forget(site.directory)
            machine.note(ran=False, ended="")

    def grow(self, site: Site, report: Report) -> None:
        with _machine(site) as machine:
            machine.settle(report)
            if machine.owned(machine.reached()).alive:
                raise _grows_at_rest(site)
            described = machine.rapi.get(f"/2/instances/{machine.record.instance}")
            wanted, (size, *_) = _mib(site.spec.disk_bytes), described["disk.sizes"]
            if size < wanted:
                report("growing the disk")
                machine.act("POST", "disk/0/grow", {"amount": wanted, "absolute": True}, report)

    def move(self, site: Site, new: Site, report: Report) -> None:
        with _machine(site) as machine:
            machine.settle(report)
            _refuse_alive(site, machine.owned(machine.reached()))
            name = _name(new.name, machine.cluster.domain)
            if name != machine.record.instance:
                report("telling the cluster the new name")
                body = {"new_name": name, "ip_check": False, "name_check": False}
                try:
                    machine.act("PUT", "rename", body, report)
                except DriverError as error:
                    raise _explained(error, new, name) from error
            machine.note(instance=name)

    def delete(self, site: Site, report: Report) -> None:
        from . import ownership, store

        found = records.read(site)
        if found is not None:
            with _machine(site) as machine:
                machine.settle(report, at_once=True)
                seen = machine.look()
                if found.former is not None and is_unfinished(site.directory):
                    ownership.give_back(machine, found.former, report)
                elif seen and not machine.owns(seen):
                    report("leaving the machine to the home that it belongs to now")
                else:
                    if seen:
                        machine.refuse_unreachable(seen)
                        _refuse_alive(site, seen)
                        _remove(machine, seen, report)
                    store.take_back(found.instance_id, machine.cluster)
        remove_tree(site.runtime)

    def found(self, root: Path, sites: Iterable[Site], cluster: str = "") -> list[Found]:
        from . import adoption

        return adoption.found(root, cluster, [site.spec.instance_id for site in sites])

    def foresee(self, site: Site, trigger: Trigger, arguments: "Mapping[str, Any]") -> "Effects":
        if trigger is Trigger.edit and arguments["change"](site.spec).disk_bytes > site.spec.disk_bytes:
            seen = _looked(site)
            if seen and seen.alive:
                raise _grows_at_rest(site)
        return super().foresee(site, trigger, arguments)

    def observe(self, site: Site) -> Observation:
        from . import cluster as clusters

        found = records.read(site)
        if found is None:
            return Observation(alive=False)
        if found.job and looks.in_a_hurry():  # an undo is left to a caller that can wait for the job
            with _machine(site) as machine:
                machine.settle()
        seen = _glanced(site, found) if looks.sharing() else _looked(site)
        if seen is None:
            return Observation(
                alive=False,
                condition=f"`interlock delete {site.name}` removes what is left of it here",
                exit_reason=f'the cluster "{found.cluster}" no longer has it' if found.made else None,
            )
        if not clusters.owns(root_of(site.directory), seen):  # whether it runs is that home's business
            return Observation(
                alive=False,
                condition=f"it belongs to another home; `interlock delete {site.name}` removes what is left of it here",
                exit_reason="another home has taken it over",
                node=seen.node,
            )
        if seen.alive is None:
            return Observation(alive=None, condition=f"unreachable: {seen.unknown}", node=seen.node)
        if not seen.alive:
            return Observation(alive=False, exit_reason=_reason(found, seen), node=seen.node)
        failed = degraded.seen(site)
        condition = seen.condition or (f"degraded: {failed.message}" if failed else None)
        return Observation(alive=True, condition=condition, degraded=failed, node=seen.node)

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        return ssh.command_line(self.ssh_config(site), site.name, command, terminal=terminal)

    def ssh_config(self, site: Site) -> Path:
        from . import guest

        record = _recorded(site)
        if not record.instance:
            with _machine(site) as machine:
                machine.reached()
                record = machine.record
        return guest.ssh_config(site, record)

    def _ended(self, machine: "Machine", how: str) -> None:
        degraded.forget(machine.site.directory)
        seen = None
        with suppress(DriverError):  # the machine is down, even if the cluster does not answer now
            seen = machine.look()
        machine.note(ended=how, ended_at=seen.serial if seen else 0)


@contextmanager
def _machine(site: Site) -> "Iterator[Machine]":
    """Yield the machine of `site`, which has a record; raises HostError if its cluster no longer has a record."""
    from .machine import Machine

    cluster = _recorded(site).cluster
    try:
        machine = Machine(site, cluster)
    except NotFoundError as error:
        raise HostError(
            f'"{site.name}" runs on the cluster "{cluster}", but {error.message}: restore its record to reach the '
            "machine, or forget the machine, which then stays in the cluster",
            hint=records.forget(site),
        ) from error
    with machine:
        yield machine


def _answered(machine: "Machine", report: Report, deadline: Deadline) -> DegradedError | None:
    """Return what failed in the guest of the running machine, once the guest has answered."""
    from ...guest import probes, readiness
    from . import guest

    report = guest.changes(report)
    report("waiting for the guest")
    probed = machine.site.spec.probes
    with guest.watched(machine) as (endpoint, gone):
        failures = readiness.wait_until_ready(endpoint, deadline, gone, report)
        failures = probes.run(endpoint, probed, deadline, gone, report, failures=failures)
    return degraded.record(machine.site, failures)


def _node(cluster: str, groups: "Mapping[str, str]", data: "Mapping[str, Any]") -> Node:
    """Return the node that RAPI's record `data` describes; `groups` maps the ids of groups to their names."""
    total, free = data.get("mtotal"), data.get("mfree")
    offline, drained = bool(data.get("offline")), bool(data.get("drained"))
    return Node(
        cluster,
        str(data["name"]),
        groups.get(str(data.get("group.uuid")), ""),
        up=total is not None,
        condition="offline" if offline else "drained" if drained else None,
        memory_bytes=None if total is None else int(total) * _MIB,
        free_bytes=None if free is None else int(free) * _MIB,
        instances=int(data.get("pinst_cnt") or 0),
    )


def _looked(site: Site) -> "Seen | None":
    with _machine(site) as machine:
        return machine.look()


def _glanced(site: Site, found: Record) -> "Seen | None":
    """Return the instance of `site`, found in one look at all instances of the cluster."""

    def look() -> "dict[str, Seen]":
        with _machine(site) as machine:
            return {instance_id: seen for seen in machine.rapi.instances() for instance_id in seen.instance_ids}

    seen: Seen | None = looks.once(("ganeti", root_of(site.directory), found.cluster), look).get(found.instance_id)
    return seen


def _recorded(site: Site) -> Record:
    found = records.read(site)
    if found is None:
        raise DriverError(f'no cluster has a machine for "{site.name}"', hint=f"interlock delete {site.name}")
    return found


def _name(name: str, domain: str) -> str:
    """Return the name in the cluster of an instance called `name`: clusters allow only lowercase letters."""
    return f"{name.lower()}.{domain.strip('.')}" if domain else name.lower()


def _mib(size: int) -> int:
    return -(-size // _MIB)


def _sizes(spec: "Spec") -> dict[str, int]:
    memory = _mib(spec.memory_bytes)
    return {"maxmem": memory, "minmem": memory, "vcpus": spec.cpus}


def _check_boot(site: Site) -> None:
    if site.spec.boot == "firmware":
        raise HostError(
            "Ganeti's machines have no UEFI: use an image that boots by kernel, or by BIOS (firmware.legacyBIOS: true)"
        )
    if site.spec.boot == "kernel":
        for material in (KERNEL, INITRD):
            if not (site.directory / material).exists():
                raise DriverError(f"the instance boots a kernel, but its file {material} is missing")


def _explained(error: DriverError, site: Site, name: str) -> InterlockError:
    """Return `error`, from a job that names or places a machine, with advice if its cause is known."""
    match getattr(error, "code", ""):
        case "already_exists" | "resource_not_unique":
            return DriverError(f'the cluster has an instance "{name}" already; choose another name than "{site.name}"')
        case "insufficient_resources" | "temp_insufficient_resources":
            return HostError(
                f"no node has room for the machine: {error.message}",
                hint=f"interlock cluster nodes {site.spec.cluster}",
            )
    return error


def _remove(machine: "Machine", seen: "Seen", report: Report) -> None:
    report("asking the cluster to remove the machine")
    if seen.alive:
        machine.act("PUT", "shutdown", {"timeout": 0})
    machine.act("DELETE", "", None, report)


def _refuse_alive(site: Site, seen: "Seen") -> None:
    if seen.alive:
        raise DriverError(f'the machine of "{site.name}" is running; nothing was touched')


def _grows_at_rest(site: Site) -> DriverError:
    return DriverError(
        f'"{site.name}" is running, and a cluster can grow only the disk of a stopped machine; nothing was touched',
        hint=f"interlock stop {site.name}",
    )


def _reason(found: Record, seen: "Seen") -> str | None:
    """Return why the machine is down; None if it never ran."""
    if not found.ran:
        return None
    return found.ended if found.ended and found.ended_at == seen.serial else seen.exit_reason


def _lasted_s(job: Any) -> float:
    """Return how long a job ran, in seconds, by the cluster's clock."""
    begin, end = (seconds + microseconds / 1e6 for seconds, microseconds in (job["start_ts"], job["end_ts"]))
    return float(end - begin)
