"""The contract between the engine and what acts on machines.

A driver knows no state and sees no template. Each call gets a `Site`, does one thing there, and may be repeated,
because recovery after a crash repeats it. What is true after each:

    create     the machine can be started; the directory held its spec and its materials before
    copy       likewise, with the disk of another machine, which is down, and an identity of its own; the directory held
               its spec alone. The other one is as it was, whatever becomes of either
    grow       the disk of the machine is at least as large as the spec says; what is on it stays. The guest of one that
               is alive sees it at once, or it is refused
    catch      one moment of the machine, its memory and its disk, lies in FORKED; it runs on and keeps its connections
    adopt      as after copy, but from what `catch` left of the other one, which runs: start continues from there
    remount    the next start lets the guest have the mounts of the spec, and no longer those that it was made with
    forward    the machine, which is alive, has the port forwards of its spec, and no longer those that it had before
    listening  returns on which TCP sockets programs in the guest listen, once they are others than those known
    load       returns how busy the guest is, if it says so
    carry      the forwards given, and no other of those that an earlier call gave, lead from the host into the guest
    move       the machine, which is down, is known by another name wherever its directory does not say its name
    warm       the folder given holds what machines of the same kind, put into WARM of their directories, begin from
    start      the guest has answered; a machine that was alive already is kept. What failed in a guest that answers is
               returned: it runs all the same; else how it came up, in words, if it did not simply boot
    stop       nothing runs; returns how it ended
    kill       nothing runs, at once; no error if nothing did
    suspend    nothing runs, and the machine's memory is in the directory, in SAVED: the next start continues from it
    keep       the folder given holds what `put_back` needs to bring the disk back, whatever becomes of the machine; of
               one that is alive, the memory too: it stands still for a moment, runs on and keeps its connections
    examine    nothing has changed; what `put_back` cannot bring back is an error
    put_back   the disk is as `keep` found it, or still as it was before; the memory, if there is one, is in SAVED
    reset      the disk is as `create` made it, and CURRENT is gone
    delete     nothing is left outside the directory, which the engine removes
    resume     a paused machine runs again, unless what paused it still does; one that runs is left alone
    provision  the scripts of the first boot have run again; returns what failed
    migrate    another node of the cluster has the machine; one that was alive is the same machine still, unless its
               node was down
    observe    returns what is so: quickly, without network, waiting or changing anything
    foresee    likewise, what one of the others would do: a dry run asks

A driver that can suspend keeps one promise about SAVED, whatever crashes: while it is there, no processor of the
machine runs. It appears by one rename once the processors have stopped, and is gone before they continue, also when
`resume` lets them. A memory that is incomplete, of another machine or older than a disk is never used: `start` boots,
and says why.

Creation puts these files beside spec.json before `create` is called, for a driver whose abilities say `images`:

    BASE, CD, KERNEL, INITRD the image: shared with other instances, so read-only
    SEED                     what the guest is to do at its first boot; where it is missing, INITRD holds it
    SSH_KEY, KNOWN_HOSTS     how to log in to the guest, and how to know that it is the right one
    disk_file(NAME)          for each of the spec's disks; it outlives the instance and is the one file to write to

For a driver whose abilities say `kept_by` it puts TEMPLATE there: the whole template as text, which `create`, and no
other call, hands to the program that makes the machine.

The fields of the spec that `DEMANDS` names are honoured or refused, never ignored: a driver lists in its abilities
those that it honours, and `Driver.check` refuses the others before an image is obtained.

A spec that cannot be read is `UNREADABLE`: stop, kill, delete and observe are called with it all the same, and go by
the site's directory and runtime directory alone. The other calls are made with a spec that was read.

A machine that is alive and cannot be reached is `hidden` to observe, an OutOfReachError to the others, and left as it
is. What cannot be read is an error: a machine counts as dead only where that is known.

docs/drivers.md leads through the writing of a driver. A third-party driver subclasses `Driver`, registers in the
entry-point group `interlock.drivers`, and proves itself with `interlock.drivers.conformance`.
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
"""The image's disk, in qcow2 format, complete in itself; missing where the image is a kernel and an initrd alone."""

CD = "cd.iso"
"""The image of a CD from which the machine boots, whatever is on its disk; then there is no BASE."""

KERNEL = "kernel"
"""A Linux kernel, to be booted with `spec.kernel_arguments`; there when `spec.boot` is `kernel`."""

INITRD = "initrd"
"""The initrd of that kernel. It may be the instance's own, with the seed appended and secrets in it."""

SEED = "seed.iso"
"""A disk labelled `cidata` for cloud-init, to be attached read-only; missing where INITRD carries the seed."""

SSH_KEY = "ssh.key"
"""The private key that logs in as `spec.user`. OpenSSH's format, mode 0600."""

KNOWN_HOSTS = "known_hosts"
"""The guest's public host key, under the name `guest.ssh.HOST_KEY_ALIAS`. Source: sshd(8), SSH_KNOWN_HOSTS."""

TEMPLATE = "lima.yaml"
"""The template as text in Lima's format, complete in itself: bases merged, sizes and login as in the spec."""


CLUSTERED = frozenset({"cluster", "node", "group"})
"""The fields of the spec that only a driver whose machines a cluster runs can honour."""


def disk_file(name: str) -> str:
    """Return what the file of the disk called `name` is called in an instance's directory: a hard link to it."""
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
"""Fields of the spec that a driver honours or refuses → what people know them by: the key of a template, an option.

Each has a default that asks for nothing. Of the other fields, `cpus`, `memory_bytes` and `disk_bytes` are the size of
the machine, where it has one; `boot`, `kernel_arguments` and the files above say what to boot; the rest is for the
engine, for the guest's seed, or for people.
"""


class Abilities(NamedTuple):
    """What a driver can do, for `doctor`, for `create`, and for the conformance suite."""

    arches: tuple[str, ...]
    images: bool
    """True when creation must obtain an image: a disk or a kernel."""
    shell: bool
    """True when `shell` leads into a real guest."""
    honours: frozenset[str] = frozenset()
    """Those of `DEMANDS` that it meets exactly as the spec says; `Driver.check` refuses a spec with any other."""
    suspends: bool = False
    """True when it can save a machine's memory."""
    forks: bool = False
    """True when it can copy a machine that runs."""
    kept_by: str = ""
    """The program that makes the machines from TEMPLATE and keeps them. Anyone may start, stop and delete them by it,
    so they are observed at rest too."""
    warms: bool = False
    """True when a machine can begin from a warm image."""
    follows_ports: bool = False
    """True when creation adds Lima's rule for ports that open in the guest: from its loopback to the host's. Without
    it, `port_rules` has what a template asks for in words."""


class Found(NamedTuple):
    """A machine that the program of `Abilities.kept_by` keeps, and that is no site's yet."""

    name: str
    spec: Spec | None
    """None where it cannot be adopted."""
    materials: Mapping[str, bytes]
    """The files to lie in its site's directory when `create` is called, which finds the machine by them."""
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
    """How many machines it has, anyone's."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock cluster nodes --format json`."""
        return self._asdict()


class Driver(ABC):
    """One way to run machines. An object of this class holds no facts about machines: those lie in the site."""

    name: ClassVar[str]
    abilities: ClassVar[Abilities]

    def check(self, spec: Spec) -> None:
        """Raise HostError where this driver on this host could never run what `spec` describes.

        Asked before an image is obtained or a file is made. This refuses what the driver does not honour; an override
        calls it first.
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
        in the directory. With `full` the two share no disk, else what neither writes to. Raises HostError where this
        driver cannot.
        """
        raise HostError(f'driver "{self.name}" cannot copy machines')

    def grow(self, site: Site, report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Make the disk of the machine at least as large as `site.spec` says; what is on it stays.

        A disk that is larger is left alone. A guest that runs sees it at once. Raises HostError where this driver
        cannot, DriverError where it cannot while the machine is alive.
        """
        raise HostError(f'driver "{self.name}" cannot grow disks')

    def remount(self, site: Site) -> None:  # noqa: ARG002 - the default refuses
        """Note that the mounts of `site.spec` are others than the guest knows of: the next start lets it know.

        The spec on disk follows, or stays as it was. Raises HostError where this driver cannot.
        """
        raise HostError(f'driver "{self.name}" cannot change mounts')

    def catch(self, site: Site, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default refuses
        """Catch one moment of the machine, which is alive, in FORKED, for `adopt`; it runs on.

        Raises DeadlineError, or DriverError where that cannot be done: before it stands still, if that can be known.
        `resume` lets it run then. The engine removes FORKED.
        """
        raise HostError(f'driver "{self.name}" cannot copy running machines', hint=f"interlock stop {site.name}")

    def adopt(self, site: Site, original: Site, report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Make the machine that `site.spec` describes from FORKED of `original`, which runs; its memory is in SAVED.

        `start` lets it continue, and gives the guest its identity before it returns: what `copy` says, and machine id,
        clock and random numbers of its own. A guest that could not take it makes `start` fail.
        """
        raise HostError(f'driver "{self.name}" cannot copy running machines')

    def warm(self, site: Site, place: Path, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default refuses
        """Put what machines like this one begin from into the empty folder `place`, which is renamed later.

        The machine is alive, and was started for this alone: its guest is nobody's, and it is deleted afterwards.
        Raises DeadlineError, or DriverError where that cannot be done.
        """
        raise HostError(f'driver "{self.name}" has no warm images')

    def forward(self, site: Site, former: Sequence[Forward], report: Report) -> None:  # noqa: ARG002 - the default refuses
        """Give the machine, which is alive, the port forwards of `site.spec` in the place of `former`.

        Some of either may be open or closed already. When this raises, the machine has those that it had, as far as
        possible. Raises HostError where this driver cannot.
        """
        raise HostError(
            f'driver "{self.name}" cannot change the port forwards of a running machine',
            hint=f"interlock stop {site.name}",
        )

    def listening(self, site: Site, known: Sockets | None, deadline: Deadline) -> Sockets:  # noqa: ARG002 - the default cannot
        """Return the TCP sockets of the guest that wait for connections, as soon as they are not those `known`.

        At the deadline, returns those known, if any are. Raises DriverError for a machine that is not alive or does
        not say it, and DeadlineError.
        """
        raise HostError(f'driver "{self.name}" does not see the ports of its guests')

    def load(self, site: Site) -> "Load | None":  # noqa: ARG002 - the default cannot
        """Return how busy the guest is, as it says itself within two seconds; None where it does not."""
        return None

    def carry(self, site: Site, wanted: Sequence[Forward]) -> tuple[OpenPort, ...]:  # noqa: ARG002 - the default cannot
        """Let each of `wanted`, which are of TCP ports, lead into the guest, and none that an earlier call gave.

        Returns all of them; one whose port on the host is taken has a problem, and is tried again by the next call.
        Until the machine ends, `observe` says the same. A call may be cut short anywhere: the next one does the rest.
        Raises DriverError where the machine is not alive or cannot be reached.
        """
        raise HostError(f'driver "{self.name}" does not forward ports that open in its guests')

    def move(self, site: Site, new: Site, report: Report) -> None:  # noqa: B027 - the default has nothing of that kind
        """Let the machine, which is down, be known outside its directory by the name of `new`.

        Afterwards the directory moves from `site` to `new` by one rename: nothing in it may depend on its path. Where
        the move fails, both names are `site`'s to use again, and this may be called for another `new`.
        """

    @abstractmethod
    def start(
        self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True, cold: bool = False
    ) -> DegradedError | str | None:
        """Boot the machine and return once its guest answers; returns what failed in the guest, or how it came up if it
        did not simply boot, or None.

        Where SAVED is there, the machine continues from it instead; with `cold`, SAVED is set aside. Where WARM is
        there and nothing was written to the disk yet, the machine begins from that, unless `cold`; its guest then has
        the identity of its seed, and does what it does at a first boot, before it counts as ready. `cold` is passed
        only where either is there: a driver that knows neither has no such parameter.
        Without `boot` nothing is started: a machine that is alive is waited for, one that is down is a DriverError.

        Raises DeadlineError when the guest does not answer in time (the engine decides whether the machine is left
        alive), DriverError with the cause when it cannot start.
        """

    @abstractmethod
    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        """Ask the guest to shut down; at the deadline end it. Returns how it ended: `guest shut down`.

        The site's spec may be UNREADABLE; so for the calls below, but for `reset`.
        Raises OutOfReachError for a machine that is alive and cannot be reached from here; so do the next three.
        """

    @abstractmethod
    def kill(self, site: Site, report: Report) -> None:
        """End the machine at once, if it is alive and provably this site's; return when it is gone."""

    def suspend(self, site: Site, report: Report, deadline: Deadline) -> None:  # noqa: ARG002 - the default cannot
        """Save the memory of the machine in SAVED and end it. Where SAVED is there already, only the end is left to do.

        Raises DeadlineError, or DriverError where that cannot be done; the machine is alive then, and `resume` lets it
        run. What can be known before is refused before it stands still.
        """
        raise HostError(f'driver "{self.name}" cannot save a machine\'s memory', hint=f"interlock stop {site.name}")

    def keep(self, site: Site, place: Path, report: Report, deadline: Deadline) -> int:  # noqa: ARG002 - the default cannot
        """Put what `put_back` needs into the empty folder `place`, which is renamed later.

        Return how many bytes the memory of a machine that is alive takes up there; 0 for one that is down.
        Raises DeadlineError, or DriverError where that cannot be done: before a machine that is alive stands still, if
        that can be known. `resume` lets it run then.
        """
        raise HostError(f'driver "{self.name}" takes no snapshots')

    def examine(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:  # noqa: B027 - nothing is known
        """Raise DriverError if `put_back` could not do its work, or SAVED would not fit: it is asked first.

        The machine may be alive. Nothing is changed.
        """

    def put_back(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:  # noqa: ARG002 - the default cannot
        """Give the machine, which is down, the disk that `keep` put into `place`, which stays as it is.

        The memory in `place`, if there is one, comes into SAVED, the last thing that appears; with `cold` it does not.
        SAVED may be there from an earlier call that was cut short, and is gone before the disk changes.
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
        """Return what is so. A machine in a bad way is an observation, not an error.

        Raises OSError or DriverError where it is unknown whether the machine is alive.
        """

    def foresee(self, site: Site, trigger: Trigger, arguments: Mapping[str, Any]) -> Effects:  # noqa: ARG002 - the default knows nothing
        """Return what the work of `trigger` would do to the files of `site` and which hypervisor it would run.

        Nothing is touched or waited for. Raises what the work would raise, as far as that is known before it begins:
        the same errors, from the same code. `arguments` are those of the request; of `create`, whose directory is not
        there yet, `materials`: the names of the files that it would hold. By default a driver has nothing to say.
        """
        return Effects()

    def resume(self, site: Site, report: Report) -> None:  # noqa: B027 - the default's machines are never paused
        """Let the machine run again, if it was paused."""

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:  # noqa: ARG002 - the default's guests have no scripts
        """Run the scripts of the first boot again, in a guest that answers; return what failed, or None."""
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

        One that is alive continues there, and its guest notices no more than a pause. One that is there already stays.
        With `failover` its node need not answer: the machine boots on the other one if it was meant to run, and its
        guest is waited for; what failed in that is returned. Nobody can tell then whether the former node still runs
        it: the caller vouches that it does not. Raises HostError where this driver has no nodes.
        """
        raise HostError(f'driver "{self.name}" runs machines on this host alone')

    def nodes(self, root: Path, cluster: str) -> "list[Node]":  # noqa: ARG002 - the default has no clusters
        """Return the nodes of `cluster`, whose record is in the home `root`.

        Raises HostError where this driver has no clusters, DriverError where this one does not answer.
        """
        raise HostError(f'driver "{self.name}" has no clusters')

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        """Return the host's command line that runs `command` (empty: a login shell) in the guest."""
        raise NotImplementedError

    def run(
        self, site: Site, command: Sequence[str], *, stdin: bytes | int = b"", timeout_s: float | None = None
    ) -> "Completed":
        """Run `command` in the guest to its end, and return how it ended and what it said.

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

    def found(self, sites: Iterable[Site]) -> "list[Found]":  # noqa: ARG002 - the default's machines are all made here
        """Return the machines that can be adopted, or why one cannot; those of `sites` are adopted already.

        `create` of a site with the materials of one changes nothing in it, and `delete` leaves it to that program.
        """
        return []

    def check_shell(self) -> None:
        """Raise UsageError where this driver's machines have no guest to log in to."""
        if not self.abilities.shell:
            raise UsageError(f'driver "{self.name}" has no shell')

    def ssh_config(self, site: Site) -> Path:
        """Return the file of an ssh_config(5) by which ssh and scp reach the guest under the site's name."""
        raise NotImplementedError

    def logs(self, site: Site) -> dict[str, Path]:  # noqa: ARG002 - the default knows of none
        """Return the machine's log files by name (`serial`, `qemu`), the most useful first. They need not exist."""
        return {}

    def checks(self, runtime: Path) -> list[Check]:  # noqa: ARG002 - the default needs nothing
        """Return what this driver needs of the host and whether it is there; findings may be cached in `runtime`."""
        return []
