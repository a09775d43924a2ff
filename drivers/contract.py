"""The contract between the engine and the drivers, which act on machines.

A driver knows no state and sees no template. Each call gets a `Site`, does one thing there, and may be repeated,
because recovery after a crash repeats it. What is true after each call:

    create     the machine can be started; the directory held its spec and its materials before the call
    copy       likewise, with the disk of another machine, which is down and is left as it was, and with an identity of
               its own; the directory held only its spec. Neither machine depends on what becomes of the other
    grow       the disk is at least as large as the spec says and keeps its content. The guest of a live machine sees
               the new size at once, or the call is refused
    catch      FORKED holds one moment of the machine: memory and disk; the machine runs on and keeps its connections
    adopt      as after copy, but made of what `catch` left of the other machine, which runs: start continues from there
    remount    the next start gives the guest the mounts of the spec instead of those that it was made with
    forward    the machine, which is alive, has the port forwards of its spec instead of those that it had before
    listening  returns the TCP sockets on which programs in the guest listen, once they differ from those known
    load       returns how busy the guest is, if the guest reports that
    carry      the given forwards lead from the host into the guest; any others that an earlier call opened are closed
    move       outside its directory, the machine, which is down, is known by its new name
    warm       the given folder holds a warm image: machines of the same kind begin from it if it is their WARM
    start      the guest has answered; a machine that was alive already is kept. Returns what failed in a guest that
               runs all the same, else how the machine came up, in words, if it did not simply boot
    stop       nothing runs; returns how it ended
    kill       nothing runs, at once; no error if nothing ran
    suspend    nothing runs, and SAVED in the directory holds the machine's memory: the next start continues from it
    keep       the given folder holds what `put_back` needs to restore the disk, whatever becomes of the machine, and
               the memory of a live machine, which stands still for a moment, runs on and keeps its connections
    examine    nothing has changed; raises if `put_back` could not restore what was kept
    put_back   the disk is as `keep` found it, or still as it was before; the memory, if there is one, is in SAVED
    reset      the disk is as `create` made it, and CURRENT is gone
    delete     nothing is left outside the directory, which the engine removes
    resume     a paused machine runs again, unless the cause of the pause persists; one that runs is left alone
    provision  the scripts of the first boot have run again; returns what failed
    migrate    another node of the cluster has the machine; a live machine continues there, unless its node was down
    observe    returns the machine's condition, quickly: without network, waiting or changing anything
    foresee    likewise, returns what one of the other calls would do, for a dry run

A driver that can suspend guarantees, whatever crashes: while SAVED exists, no processor of the machine runs. SAVED
appears by one rename once the processors have stopped, and is removed before they continue, also when `resume` lets
them continue. A memory that is incomplete, of another machine or older than a disk is never used: `start` boots, and
says why.

For a driver whose abilities say `images`, creation puts these files beside spec.json before `create` is called:

    BASE, CD, KERNEL, INITRD the image: shared with other instances, so read-only
    SEED                     instructions for the guest's first boot; if it is missing, INITRD holds them
    SSH_KEY, KNOWN_HOSTS     the key to log in to the guest, and the guest's pinned host key
    disk_file(NAME)          for each of the spec's disks, which outlive the instance; the only file to write to

For a driver whose abilities say `kept_by`, creation puts TEMPLATE there: the whole template as text. Only `create`
reads it, and hands it to the program that makes the machine.

The fields of the spec that `DEMANDS` names are honoured or refused, never ignored: a driver's abilities list the fields
that it honours, and `Driver.check` refuses the others before an image is obtained.

If the spec cannot be read, it is `UNREADABLE`: stop, kill, delete and observe are called all the same, and use only the
site's directory and runtime directory. The other calls always get a spec that was read.

If a machine is alive but cannot be reached, observe reports it as `hidden`, the other calls raise OutOfReachError, and
the machine is left as it is. A failure to read is an error: a machine counts as dead only if it is known to be dead.

docs/drivers.md explains how to write a driver. A third-party driver subclasses `Driver`, registers in the entry-point
group `interlock.drivers`, and proves itself with `interlock.drivers.conformance`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..errors import DegradedError, HostError, UsageError
from ..fsm.port import Deadline, Site
from ..fsm.records import FORKED, HIDDEN, SAVED, WARM, Check, Effects, Observation, OpenPort
from ..fsm.snapshots import CURRENT
from ..fsm.spec import UNREADABLE, Forward, Spec
from ..fsm.table import Trigger
from ..host.process import Usage
from ..host.progress import Report

if TYPE_CHECKING:
    from ..guest.agent import Load
    from ..guest.command import Completed

__all__ = [
    "BASE",
    "CD",
    "CLUSTERED",
    "CURRENT",
    "DEMANDS",
    "FORKED",
    "HIDDEN",
    "INITRD",
    "KERNEL",
    "KNOWN_HOSTS",
    "SAVED",
    "SEED",
    "SSH_KEY",
    "TEMPLATE",
    "UNREADABLE",
    "WARM",
    "Abilities",
    "Check",
    "Deadline",
    "DegradedError",
    "Driver",
    "Effects",
    "Found",
    "Node",
    "Observation",
    "OpenPort",
    "Report",
    "Site",
    "Sockets",
    "Spec",
    "Usage",
    "disk_file",
]

Sockets = frozenset[tuple[str, int]]
"""Addresses and ports in a guest."""

BASE = "base.qcow2"
"""The image's disk: qcow2, self-contained; missing if the image consists of a kernel and an initrd only."""

CD = "cd.iso"
"""The image of a CD. If it exists, the machine boots from it, whatever is on its disk, and there is no BASE."""

KERNEL = "kernel"
"""A Linux kernel, to be booted with `spec.kernel_arguments`; exists if `spec.boot` is `kernel`."""

INITRD = "initrd"
"""The initrd for KERNEL. It may be the instance's own, with the seed, and so with secrets, appended."""

SEED = "seed.iso"
"""A disk labelled `cidata` for cloud-init, to be attached read-only; missing if INITRD carries the seed."""

SSH_KEY = "ssh.key"
"""The private key that logs in as `spec.user`. OpenSSH's format, mode 0600."""

KNOWN_HOSTS = "known_hosts"
"""The guest's public host key, under the name `guest.ssh.HOST_KEY_ALIAS`. Source: sshd(8), SSH_KNOWN_HOSTS."""

TEMPLATE = "lima.yaml"
"""The template as text in Lima's format, self-contained: bases merged, sizes and login as in the spec."""


CLUSTERED = frozenset({"cluster", "node", "group"})
"""The fields of the spec that only a driver for clusters can honour."""


def disk_file(name: str) -> str:
    """Return the name, in an instance's directory, of the hard link to the disk called `name`."""
    return f"disk-{name}"


DEMANDS = {
    "accelerator": "accelerator",
    "cluster": "--cluster",
    "copies": "copyToHost",
    "cpu_model": "cpuType",
    "disks": "additionalDisks",
    "forward_agent": "ssh.forwardAgent",
    "forward_x11": "ssh.forwardX11",
    "forward_x11_trusted": "ssh.forwardX11Trusted",
    "forwards": "portForwards",
    "group": "--group",
    "lan": "networks",
    "mounts": "mounts",
    "nested": "nestedVirtualization",
    "network_host": "network.host",
    "network_internet": "network.internet",
    "node": "--node",
    "port_rules": "portForwards",
    "probes": "probes",
    "restart": "restart",
    "ssh_port": "ssh.localPort",
    "tpm": "tpm",
    "vnc": "video.display",
}
"""Fields of the spec that a driver honours or refuses → their names for people: a template's key, or an option.

Each has a default that demands nothing. Of the other fields, `cpus`, `memory_bytes` and `disk_bytes` are the size of
the machine, if it has one; `boot`, `kernel_arguments` and the files above say what to boot; the rest is for the engine,
for the guest's seed, or for people.
"""


class Abilities(NamedTuple):
    """What a driver can do, for `doctor`, for `create`, and for the conformance suite."""

    arches: tuple[str, ...]
    images: bool
    """True when creation must obtain an image: a disk or a kernel."""
    shell: bool
    """True when `shell` leads into a real guest."""
    honours: frozenset[str] = frozenset()
    """The fields of `DEMANDS` that it honours exactly; `Driver.check` refuses a spec that uses any other."""
    suspends: bool = False
    """True when it can save a machine's memory."""
    forks: bool = False
    """True when it can copy a running machine."""
    kept_by: str = ""
    """The program that makes the machines from TEMPLATE and keeps them. Users may also start, stop and delete machines
    with it directly, so machines that are down are observed too."""
    warms: bool = False
    """True when a machine can begin from a warm image."""
    follows_ports: bool = False
    """True when creation adds Lima's default rule for ports that open in the guest: from its loopback to the host's.
    Otherwise `port_rules` holds only the rules that a template states."""


class Found(NamedTuple):
    """A machine of another program, or of another home, that no site has adopted yet."""

    name: str
    spec: Spec | None
    """None if it cannot be adopted."""
    materials: Mapping[str, bytes]
    """Files to put into its site's directory before `create` is called, which finds the machine by them."""
    why_not: str = ""
    hint: str | None = None


class Node(NamedTuple):
    """A node of a cluster."""

    cluster: str
    name: str
    group: str
    up: bool
    """Whether it answers."""
    condition: str | None
    """Why no machine is placed on it, in a word."""
    memory_bytes: int | None
    free_bytes: int | None
    instances: int
    """How many machines it has, no matter whose."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock cluster nodes --format json`."""
        return self._asdict()


class Driver(ABC):
    """One way to run machines. An object of this class holds no facts about machines: those are in the site."""

    name: ClassVar[str]
    abilities: ClassVar[Abilities]

    def check(self, spec: Spec) -> None:
        """Raise HostError if this driver on this host could never run the machine that `spec` describes.

        Called before an image is obtained or a file is made. This method refuses what the driver does not honour; an
        override must call it first.
        """
        asked = {name for name in DEMANDS if getattr(spec, name) != Spec._field_defaults[name]}
        if refused := sorted(DEMANDS[name] for name in asked - self.abilities.honours):
            raise HostError(
                f'driver "{self.name}" does not support {", ".join(refused)}; leave that out, or use another driver'
            )

    @abstractmethod
    def create(self, site: Site, report: Report) -> None:
        """Make the machine that `site.spec` describes from the materials in `site.directory`."""

    def copy(self, site: Site, original: Site, report: Report, *, full: bool) -> None:  # noqa: ARG002 - the default refuses
        """Make the machine that `site.spec` describes, with what the guest of `original`, which is down, wrote.

        Before its guest counts as running, it has the spec's hostname and instance id, and host keys of its own, pinned
        in the directory. With `full`, the two machines share no disk file; otherwise they share files that neither
        writes to. Raises HostError if this driver cannot copy machines.
        """
        raise HostError(f'driver "{self.name}" cannot copy machines')

    def grow(self, site: Site, report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Make the disk of the machine at least as large as `site.spec` says, and keep its content.

        A larger disk is left alone. A running guest sees the new size at once. Raises HostError if this driver cannot
        grow disks, DriverError if it cannot grow them while the machine is alive.
        """
        raise HostError(f'driver "{self.name}" cannot grow disks')

    def remount(self, site: Site) -> None:  # noqa: ARG002 - the default refuses
        """Record that the mounts of `site.spec` differ from those that the guest knows: the next start updates it.

        The spec on disk is replaced after this call, or, if something fails, stays as it was. Raises HostError if this
        driver cannot change mounts.
        """
        raise HostError(f'driver "{self.name}" cannot change mounts')

    def catch(self, site: Site, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default refuses
        """Capture one moment of the machine, which is alive, in FORKED, for `adopt`; the machine runs on.

        Raises DeadlineError, or DriverError if that is not possible: before the machine stands still, if that can be
        known. After an error, `resume` lets the machine run. The engine removes FORKED.
        """
        raise HostError(f'driver "{self.name}" cannot copy running machines', hint=f"interlock stop {site.name}")

    def adopt(self, site: Site, original: Site, report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Make the machine that `site.spec` describes from FORKED of `original`, which runs; its memory is in SAVED.

        `start` lets the machine continue, and gives the guest its identity before it returns: what `copy` lists, and
        machine id, clock and random numbers of its own. If the guest cannot take that identity, `start` fails.
        """
        raise HostError(f'driver "{self.name}" cannot copy running machines')

    def warm(self, site: Site, place: Path, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default refuses
        """Put a warm image, from which machines like this one begin, into the empty folder `place`, renamed later.

        The machine is alive and was started only for this: its guest belongs to no instance, and it is deleted
        afterwards. Raises DeadlineError, or DriverError if that is not possible.
        """
        raise HostError(f'driver "{self.name}" has no warm images')

    def forward(self, site: Site, former: Sequence[Forward], report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Give the machine, which is alive, the port forwards of `site.spec` in place of `former`.

        Some of either may be open or closed already. If this raises, the machine has the forwards that it had before,
        as far as possible. Raises HostError if this driver cannot change the forwards of a running machine.
        """
        raise HostError(
            f'driver "{self.name}" cannot change the port forwards of a running machine',
            hint=f"interlock stop {site.name}",
        )

    def listening(self, site: Site, known: Sockets | None, deadline: Deadline) -> Sockets:  # noqa: ARG002 - the default cannot
        """Return the TCP sockets on which the guest listens, as soon as they differ from `known`.

        At the deadline, returns `known`, or raises DeadlineError if that is None. Raises DriverError if the machine is
        not alive or does not report its sockets.
        """
        raise HostError(f'driver "{self.name}" does not see the ports of its guests')

    def load(self, site: Site) -> "Load | None":  # noqa: ARG002 - the default cannot
        """Return how busy the guest is, by its own report; None if it does not report within two seconds."""
        return None

    def carry(self, site: Site, wanted: Sequence[Forward]) -> tuple[OpenPort, ...]:  # noqa: ARG002 - the default cannot
        """Open the forwards `wanted`, of TCP ports, into the guest; close any others that an earlier call opened.

        Returns all of them; one whose port on the host is taken has a problem, and the next call tries it again. Until
        the machine ends, `observe` returns the same. A call may be cut short at any point: the next one does the rest.
        Raises DriverError if the machine is not alive or cannot be reached.
        """
        raise HostError(f'driver "{self.name}" does not forward ports that open in its guests')

    def move(self, site: Site, new: Site, report: Report) -> None:  # noqa: B027 - the default has nothing of that kind
        """Rename the machine, which is down, to the name of `new` wherever it is known outside its directory.

        Afterwards the engine renames the directory from `site` to `new`: nothing in it may depend on its path. If the
        move fails, the machine still works as `site`, and this may be called again with another `new`.
        """

    @abstractmethod
    def start(
        self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True, cold: bool = False
    ) -> DegradedError | str | None:
        """Boot the machine and return once its guest answers: what failed in the guest, or how it came up if it did not
        simply boot, or None.

        If SAVED exists, the machine continues from it instead; with `cold`, SAVED is set aside. If WARM exists and
        nothing was written to the disk yet, the machine begins from WARM, unless `cold`; before its guest counts as
        ready, it takes the identity of its seed and does what it does at a first boot. `cold` is passed only if SAVED
        or WARM exists: a driver that supports neither has no such parameter.
        Without `boot` nothing is started: this waits for a live machine, and raises DriverError for one that is down.

        Raises DeadlineError when the guest does not answer in time (the engine decides whether the machine is left
        alive), DriverError with the cause when it cannot start.
        """

    @abstractmethod
    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        """Ask the guest to shut down; at the deadline, end the machine. Returns how it ended: `guest shut down`.

        The site's spec may be UNREADABLE, here and in `kill`, `delete` and `observe`.
        Raises OutOfReachError for a machine that is alive and cannot be reached from here; so do the next three.
        """

    @abstractmethod
    def kill(self, site: Site, report: Report) -> None:
        """End the machine at once, if it is alive and provably this site's; return when it is gone."""

    def suspend(self, site: Site, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default cannot
        """Save the memory of the machine in SAVED and end the machine. If SAVED exists already, only end the machine.

        Raises DeadlineError, or DriverError if that is not possible; the machine is still alive then, and `resume` lets
        it run. What can be known in advance is refused before the machine stands still.
        """
        raise HostError(f'driver "{self.name}" cannot save a machine\'s memory', hint=f"interlock stop {site.name}")

    def keep(self, site: Site, place: Path, report: Report, deadline: Deadline) -> int:  # noqa: ARG002 - the default cannot
        """Put what `put_back` needs into the empty folder `place`, which is renamed later.

        Return how many bytes the memory of a live machine takes up there; 0 for one that is down.
        Raises DeadlineError, or DriverError if that is not possible: before a live machine stands still, if that can be
        known. After an error, `resume` lets the machine run.
        """
        raise HostError(f'driver "{self.name}" takes no snapshots')

    def examine(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:  # noqa: B027 - nothing is known
        """Raise DriverError if `put_back` would fail, or SAVED would not fit; called before `put_back`.

        The machine may be alive. Nothing is changed.
        """

    def put_back(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:  # noqa: ARG002 - the default cannot
        """Give the machine, which is down, the disk that `keep` put into `place`, which stays as it is.

        The memory in `place`, if there is one, is put into SAVED as the last step; with `cold` it is not.
        SAVED may be left from an earlier call that was cut short; it is removed before the disk changes.
        """
        raise HostError(f'driver "{self.name}" takes no snapshots')

    @abstractmethod
    def reset(self, site: Site, report: Report) -> None:
        """Give the machine, which is down, a fresh disk."""

    @abstractmethod
    def delete(self, site: Site, report: Report) -> None:
        """Remove what the machine, which is down, has outside `site.directory`."""

    @abstractmethod
    def observe(self, site: Site) -> Observation:
        """Return the machine's condition. A machine in trouble is an observation, not an error.

        Raises OSError or DriverError if it is unknown whether the machine is alive.
        """

    def foresee(self, site: Site, trigger: Trigger, arguments: Mapping[str, Any]) -> Effects:  # noqa: ARG002 - the default knows nothing
        """Return what the work of `trigger` would do to the files of `site` and which hypervisor it would run.

        Changes nothing and does not wait. Raises what the work would raise, as far as that is known before it begins:
        the same errors, from the same code. `arguments` are those of the request; for `create`, whose directory does
        not exist yet, `materials`: the names of the files that it would hold. By default, no effects are known.
        """
        return Effects()

    def resume(self, site: Site, report: Report) -> None:  # noqa: B027 - the default's machines are never paused
        """Let the machine run again, if it was paused."""

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:  # noqa: ARG002 - the default's guests have no scripts
        """Run the scripts of the first boot again in a guest that answers; return what failed, or None."""
        return None

    def migrate(
        self,
        site: Site,  # noqa: ARG002 - the default has no other node
        report: Report,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
        *,
        node: str | None = None,  # noqa: ARG002
        failover: bool = False,  # noqa: ARG002
    ) -> DegradedError | str | None:
        """Move the machine to `node` of its cluster, by default to one that the cluster chooses; return where it is.

        A live machine continues there, and its guest notices no more than a pause. One that is there already stays.
        With `failover` its node need not answer: the machine boots on the other node if it was meant to run, and the
        call waits for its guest and returns what failed in it. Interlock cannot know whether the former node still runs
        the machine: the caller must make sure that it does not. Raises HostError if this driver has no nodes.
        """
        raise HostError(f'driver "{self.name}" runs machines on this host alone')

    def nodes(self, root: Path, cluster: str) -> "list[Node]":  # noqa: ARG002 - the default has no clusters
        """Return the nodes of `cluster`, whose record is in the home `root`.

        Raises HostError if this driver has no clusters, DriverError if `cluster` does not answer.
        """
        raise HostError(f'driver "{self.name}" has no clusters')

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        """Return the host's command line that runs `command` (empty: a login shell) in the guest."""
        raise NotImplementedError

    def run(
        self, site: Site, command: Sequence[str], *, stdin: bytes | int = b"", timeout_s: float | None = None
    ) -> "Completed":
        """Run `command` in the guest to its end, and return how it ended and what it printed.

        `stdin` is its input, or a descriptor to read it from. The default runs what `shell` returns. Raises
        DeadlineError after `timeout_s` seconds.
        """
        from ..guest.command import completed

        self.check_shell()
        return completed(
            self.shell(site, command, terminal=False),
            f'{command[0]} in "{site.name}"',
            stdin=stdin,
            timeout_s=timeout_s,
        )

    def found(self, root: Path, sites: Iterable[Site], cluster: str = "") -> "list[Found]":  # noqa: ARG002 - the default's machines are all made here
        """Return the machines that are not adopted yet, and why one cannot be; those of `sites` are adopted already.

        They are the machines of the program that `Abilities.kept_by` names, or those that other homes have in
        `cluster`, by the record in the home `root`. `create` of a site with the materials of such a machine does not
        change the machine. While that is not complete, `delete` leaves the machine to whom it belonged.
        """
        return []

    def check_shell(self) -> None:
        """Raise UsageError if this driver's machines have no guest to log in to."""
        if not self.abilities.shell:
            raise UsageError(f'driver "{self.name}" has no shell')

    def ssh_config(self, site: Site) -> Path:
        """Return the path of an ssh_config(5) with which ssh and scp reach the guest by the site's name."""
        raise NotImplementedError

    def logs(self, site: Site) -> dict[str, Path]:  # noqa: ARG002 - the default knows of none
        """Return the machine's log files by name (`serial`, `qemu`), the most useful first. They need not exist."""
        return {}

    def checks(self, runtime: Path) -> list[Check]:  # noqa: ARG002 - the default needs nothing
        """Return what this driver needs of the host and whether it is there; findings may be cached in `runtime`."""
        return []
