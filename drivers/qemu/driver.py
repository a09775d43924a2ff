"""The driver that runs real machines: one QEMU process each, and nothing of ours beside it.

    directory/                  written by
    ├── qemu.json               create: the versioned board, kept whatever becomes of the host's QEMU
    ├── disk.qcow2              create: what the guest wrote, over base.qcow2
    ├── layer-*.qcow2           copy: what it wrote before, which its copies share; hard links, read-only
    ├── remount                 remount: the guest must still be given its changed mounts
    ├── grown                   grow: the guest's file system must still be grown to the size of the disk
    ├── firmware.*.fd           create: UEFI and its variables, for a machine that boots from its disk
    ├── network.json            first start: the local port that leads to the guest's sshd
    ├── ssh.config              start: `ssh -F ssh.config NAME`
    ├── hypervisor.id           the shell that becomes QEMU: its pid, start time and boot
    ├── events.log             QEMU: what happened to the machine, asked for by events.in
    ├── forked/                fork: one moment of the machine, which copies continue from (`forking`)
    ├── fork.json              fork: the identity that the guest of a copy has to take
    ├── snapshots/TAG/          snapshot: the disk as it was (`snapshots`)
    ├── warm/                  creation: the warm image that a first start can begin from (`warming`)
    ├── saved/                 suspend: the guest's memory and devices (`saved`)
    ├── copies.json            start: files fetched from the guest that are removed when it stops
    ├── vncdisplay, vncpassword    start: where the guest's screen is shown, and to whom (`vnc`)
    ├── tpm/                    swtpm, a child of QEMU that dies with it: what a TPM keeps
    ├── degraded.txt            start, provision: what failed in the running guest, if anything
    ├── serial.log              QEMU: the guest's serial port (serial.old.log: the previous run)
    ├── qemu.log                QEMU: its stderr
    └── *.pipe, events.out      start: FIFOs from which copiers fill these logs (`logs`)
    runtime/
    ├── instance                start: a link to the directory, made by `home.make_runtime`
    ├── qmp.sock                QEMU: its monitor
    ├── mountN.sock             virtiofsd, a child of QEMU that dies with it: a mounted folder
    ├── agent.sock             QEMU: the port on which the agent in the guest answers
    ├── ssh.sock, ssh.calls     the connection that sessions share, a child of QEMU; asked for by ssh.calls
    ├── ssh.shared              a link to its socket, if the guest's server can serve shared sessions
    ├── forwards.json           which process of that connection has the port forwards open
    ├── ../net-KEY/             the network of the instances of a home, each with a switch beside QEMU (`lan`)
    └── ports.json              the ports that opened in the guest, and their ways through that connection

It also reads spec.json and the files that creation puts there (`contract`), and writes to disk-NAME, a hard link to a
disk that outlives the instance.
Modules are imported where they are used: `list` observes a thousand machines and starts none of them.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DriverError
from ...fsm.records import is_saved
from ...guest import ssh
from ...host import cancellation
from ...host import process as host
from .. import degraded
from ..contract import (
    CLUSTERED,
    CURRENT,
    DEMANDS,
    FORKED,
    HIDDEN,
    INITRD,
    KERNEL,
    Abilities,
    Check,
    Deadline,
    DegradedError,
    Driver,
    Effects,
    Observation,
    Report,
    Site,
)
from . import ended, events, hypervisor, logs, mounts, port_record, ssh_control, ssh_forwards, ssh_port

if TYPE_CHECKING:
    from ...fsm.records import OpenPort, Screen
    from ...fsm.spec import Forward, Spec
    from ...fsm.table import Trigger
    from ...guest.agent import Load
    from ...guest.report import Failure
    from ...guest.session import Endpoint
    from ...host.process import Actor
    from ..contract import Sockets
    from .boot import Progress

HYPERVISOR_STARTED = "hypervisor started"
KERNEL_BOOTING = "kernel booting"
FORWARDING = "forwarding ports"
COPYING = "copying files from the guest"

_GRACE_S = 3.0
"""How long a hypervisor may take to flush its disks and end, after its guest did not shut down."""

_FIRST_PRESS_S, _LAST_PRESS_S = 1.0, 8.0
"""Between two presses of the power button. A guest may be up and not listen yet: sshd can start before acpid."""

_POWER_OFF = ("sh", "-c", "sudo -n poweroff || poweroff")

_GRACE_OF_KEPT_S = 30.0
"""The least time for the rest of a start in a guest that is kept although something failed in it."""

_FORWARDS_S = 30.0
"""How long it may take to open the port forwards again into a guest that has answered before."""


class QemuDriver(Driver):
    """Runs machines under QEMU, with KVM where KVM is proved to work and by emulation elsewhere."""

    name = "qemu"
    abilities = Abilities(  # noqa: S604 - no shell
        ("x86_64", "aarch64"),
        images=True,
        shell=True,
        honours=frozenset(DEMANDS) - CLUSTERED,
        suspends=True,
        forks=True,
        warms=True,
        follows_ports=True,
    )

    def check(self, spec: "Spec") -> None:
        from . import limits

        super().check(spec)
        limits.check(spec)

    def create(self, site: Site, report: Report) -> None:
        from . import disk, firmware
        from .capabilities import capabilities
        from .command import Board

        spec, directory = site.spec, site.directory
        board = Board.newest(capabilities(site.runtime.parent, spec.arch))
        if spec.boot == "kernel":
            for material in (KERNEL, INITRD):
                if not (directory / material).exists():
                    raise DriverError(f"the instance boots a kernel, but its file {material} is missing")
        elif spec.boot == "bios" and spec.arch != "x86_64":
            raise DriverError(f"a machine of architecture {spec.arch} has no BIOS, only firmware (UEFI)")
        elif spec.boot == "firmware":
            report("copying the firmware")
            firmware.install(directory, firmware.find(spec.arch, board.machine))
        report("making the disk")
        disk.make(directory, spec.disk_bytes)
        board.write(directory)

    def copy(self, site: Site, original: Site, report: Report, *, full: bool) -> None:
        from . import cloning

        _refuse_alive(original)
        cloning.make(site, original, report, full=full)

    def grow(self, site: Site, report: Report) -> None:
        from . import disk
        from .boot import Progress, watched

        report("growing the disk")
        if process := hypervisor.settled(site.directory):
            disk.grow_in_use(site)
            with watched(site, process, Progress(report)) as (endpoint, pidfd):
                _grow_file_system(site, endpoint, Deadline(math.inf), pidfd, report)
        else:
            disk.grow(site.directory, site.spec.disk_bytes)

    def remount(self, site: Site) -> None:
        from ...host.files import write_whole

        write_whole(site.directory / mounts.CHANGED, b"")

    def catch(self, site: Site, report: Report, deadline: Deadline) -> None:
        self._catch(site, report, deadline, nobodys=False)

    def _catch(self, site: Site, report: Report, deadline: Deadline, *, nobodys: bool) -> None:
        from . import forking
        from .boot import Progress, refuse_to_save, watched

        process = hypervisor.settled(site.directory)
        if process is None:
            raise DriverError(f"there is nothing to fork: {ended.reason(site.directory)}")
        refuse_to_save(site, process)
        forking.refuse(site)
        progress = Progress(report)
        with watched(site, process, progress) as (endpoint, pidfd):
            announced = forking.announce(site, endpoint, deadline, pidfd, progress, nobodys=nobodys)
            forking.catch(site, process, announced, progress, deadline)

    def adopt(self, site: Site, original: Site, report: Report) -> None:
        from . import forking

        forking.make(site, original, report)

    def forward(self, site: Site, former: "Sequence[Forward]", report: Report) -> None:
        from ...guest.session import GuestGoneError
        from . import hostfwd

        report(FORWARDING)
        wanted = site.spec.forwards
        gone, come = [it for it in former if it not in wanted], [it for it in wanted if it not in former]

        def change(site: Site, gone: "Sequence[Forward]", come: "Sequence[Forward]", pidfd: int) -> None:
            hostfwd.change(site, gone, come)
            ssh_forwards.change(site, gone, come, Deadline(_FORWARDS_S), pidfd)

        with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
            if pidfd is None:
                raise DriverError(f"there is nothing to forward to: {ended.reason(site.directory)}")
            try:
                change(site, gone, come, pidfd)
            except BaseException as err:
                before = site._replace(spec=site.spec._replace(forwards=tuple(former)))
                with cancellation.shielded(), suppress(DriverError, GuestGoneError):
                    change(before, come, gone, pidfd)
                if isinstance(err, GuestGoneError):
                    raise ended.death(site.directory) from None
                raise

    def listening(self, site: Site, known: "Sockets | None", deadline: Deadline) -> "Sockets":
        from . import open_ports

        return open_ports.listening(site, known, deadline)

    def load(self, site: Site) -> "Load | None":
        from ...guest import agent as answers
        from . import agent

        with suppress(answers.AgentError):
            return answers.load(agent.ask(site.runtime, "load")) if agent.listens(site.directory) else None
        return None

    def carry(self, site: Site, wanted: "Sequence[Forward]") -> "tuple[OpenPort, ...]":
        from . import open_ports

        return open_ports.carry(site, wanted)

    def move(self, site: Site, new: Site, report: Report) -> None:  # noqa: ARG002 - it has nothing by name
        _refuse_alive(site)
        ended.clear(site, report)

    def keep(self, site: Site, place: Path, report: Report, deadline: Deadline) -> int:
        from . import snapshots

        if process := hypervisor.settled(site.directory):
            return snapshots.catch(site, process, place, report, deadline)
        snapshots.take(site, place, report)
        return 0

    def examine(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:
        from . import snapshots

        snapshots.examine(site, place, report, cold=cold)

    def put_back(self, site: Site, place: Path, report: Report, *, cold: bool) -> None:
        from . import snapshots

        _refuse_alive(site)
        snapshots.bring_back(site, place, report, cold=cold)

    def warm(self, site: Site, place: Path, report: Report, deadline: Deadline) -> None:
        from . import warming

        self._catch(site, report, deadline, nobodys=True)
        report("keeping the memory and the disk")
        warming.keep(site, place)

    def start(
        self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True, cold: bool = False
    ) -> DegradedError | str | None:
        from . import adopted
        from .boot import Progress, cold_boot, suspended_again, up

        progress = Progress(report)
        if (site.directory / mounts.CHANGED).exists() and hypervisor.settled(site.directory) is None:
            mounts.reseed(site)
        process = up(site, progress, deadline, boot=boot, cold=cold)
        try:
            with suspended_again(site, process):
                failures = self._await(site, process, progress, deadline)
        except DriverError as err:
            if not (boot and adopted.is_nobodys(site.directory)):
                raise
            # Nothing of the instance is on its disk yet, so it can boot from a fresh one.
            hypervisor.kill(site.directory, progress)
            progress.came_up(f"booting cold, the guest of the warm image did not take on this identity: {err.message}")
            process = cold_boot(site, progress, deadline)
            failures = self._await(site, process, progress, deadline)
        return degraded.record(site, failures) or progress.how

    def _await(
        self, site: Site, process: "Actor | None", progress: "Progress", deadline: Deadline
    ) -> "tuple[Failure, ...]":
        """Return what failed in the guest of the hypervisor `process`, once it is ready."""
        from ...guest import probes, readiness, remount
        from ...guest.session import Wait
        from . import adopted, agent
        from .boot import watched
        from .saved import waits
        from .serial import Watch

        directory = site.directory
        resumed = process is not None and waits(process)
        copied = adopted.is_undecided(directory) and not (site.spec.lan or adopted.is_nobodys(directory))
        if not resumed:
            progress(HYPERVISOR_STARTED)
        watch = Watch(directory, lambda: progress(KERNEL_BOOTING, after=HYPERVISOR_STARTED))

        def look() -> bool:
            watch.look()
            return resumed or events.uses_network(directory)

        with watched(site, process, progress) as (endpoint, pidfd):
            failures: tuple[Failure, ...] = ()
            if not (resumed and adopted.continued(site, endpoint, deadline, pidfd, progress)):
                failures = readiness.wait_until_ready(
                    endpoint,
                    deadline,
                    pidfd,
                    progress,
                    look,
                    agent=lambda: agent.readiness(site, resumed=resumed),
                    resumed=resumed,
                )
            if failures:
                deadline = deadline.at_least(_GRACE_OF_KEPT_S)
            if (directory / mounts.CHANGED).exists():
                failures = remount.run(endpoint, mounts.points(site.spec), deadline, pidfd, progress)
                (directory / mounts.CHANGED).unlink()
            if site.spec.probes or site.spec.copies:
                ssh_control.opened(site.runtime, Wait(deadline, pidfd).pause)
            elif not copied:  # one of many copies may never be spoken to, and a login costs its guest much
                ssh_control.call(site.runtime)
            failures = probes.run(endpoint, site.spec.probes, deadline, pidfd, progress, failures=failures)
            if ssh_forwards.missing(site):
                progress(FORWARDING)
                ssh_forwards.establish(site, deadline, pidfd)
            failures += _copies(site, progress, deadline, pidfd)
            _grow_file_system(site, endpoint, deadline, pidfd, progress)
        if site.spec.lan:
            from . import lan

            lan.introduce(site, progress)
        return failures

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:
        from ...guest import probes, provision
        from .boot import Progress, watched

        progress = Progress(report)
        with watched(site, hypervisor.settled(site.directory), progress) as (endpoint, pidfd):
            failures = provision.run(endpoint, deadline, pidfd, progress)
            try:
                failures = probes.run(endpoint, site.spec.probes, deadline, pidfd, progress, failures=failures)
            except probes.ProbeError as err:
                failures = (err.failure,)
            failures += _copies(site, progress, deadline, pidfd)
        return degraded.record(site, failures)

    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        how = self._shut_down(site, report, deadline)
        ended.clear(site, report)
        return how

    def kill(self, site: Site, report: Report) -> None:
        hypervisor.kill(site.directory, report)
        ended.clear(site, report)

    def suspend(self, site: Site, report: Report, deadline: Deadline) -> None:
        from . import saved
        from .boot import refuse_to_save

        with hypervisor.held(process := hypervisor.settled(site.directory)) as pidfd:
            if process and pidfd is not None:
                if not is_saved(site.directory):
                    refuse_to_save(site, process)
                    saved.save(site, process, report, deadline)
                report("ending the hypervisor")
                hypervisor.end(pidfd, grace_s=_GRACE_S)
            elif not is_saved(site.directory):
                raise DriverError(f"there is nothing to suspend: {ended.reason(site.directory)}")
        ended.clear(site, report)

    def reset(self, site: Site, report: Report) -> None:
        from ...host.files import remove_tree
        from . import adopted, disk, firmware, saved, tpm

        _refuse_alive(site)
        ended.clear(site, report)
        saved.forget(site.directory)
        report("making a fresh disk")
        disk.make(site.directory, site.spec.disk_bytes)
        if site.spec.boot == "firmware":
            firmware.renew(site.directory)
        # Once these are removed, `observe` reports no earlier run: the machine is as it was created.
        adopted.settle(site.directory)
        for trace in (hypervisor.RECORD, logs.EVENTS.file, saved.OLD, CURRENT, tpm.STATE):
            remove_tree(site.directory / trace)

    def delete(self, site: Site, report: Report) -> None:
        from ...host.files import remove_tree

        _refuse_alive(site)
        ended.clear(site, report)
        remove_tree(site.runtime)

    def resume(self, site: Site, report: Report) -> None:
        from ...guest.session import GuestGoneError
        from ...host.files import sweep_beside
        from . import forking, saved

        report("resuming the guest")
        with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
            if pidfd is None:
                raise DriverError(f"there is nothing to resume: {ended.reason(site.directory)}")
            hypervisor.wake(pidfd)
            saved.call_off(site)
            forking.finish(site)
            sweep_beside(site.directory / FORKED)
            saved.release(site)
            if ssh_forwards.condition(site.runtime):
                report(FORWARDING)
                try:
                    ssh_forwards.establish(site, Deadline(_FORWARDS_S), pidfd)
                except GuestGoneError:
                    raise ended.death(site.directory) from None

    def observe(self, site: Site) -> Observation:
        directory = site.directory
        life = hypervisor.look(directory)
        if not life.alive:
            why = ended.reason(directory)
            return Observation(alive=False, exit_reason=why, failed=why in events.FAILURES)
        if (process := life.process) is None:
            return Observation(alive=True, hidden=life.hidden, condition=HIDDEN if life.hidden else None)
        stopped = "paused: the hypervisor was stopped by a signal" if host.suspended(process) else None
        paused = stopped or events.condition(events.read(directory))
        failed = degraded.seen(site) or mounts.cut_off(site)
        cut_off = ssh_forwards.condition(site.runtime) if site.spec.forwards else None
        return Observation(
            alive=True,
            pid=process.pid,
            ssh_port=ssh_port.recorded(directory),
            condition=paused or (f"degraded: {failed.message}" if failed else cut_off),
            degraded=failed,
            resumable=bool(paused or cut_off),
            accelerator=hypervisor.accelerator(process),
            usage=host.usage(process),
            ports=port_record.seen(site.runtime) if site.spec.port_rules else (),
            vnc=_screen(site),
        )

    def foresee(self, site: Site, trigger: "Trigger", arguments: "Mapping[str, Any]") -> Effects:
        from . import foresight

        return foresight.foresee(site, trigger, arguments)

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        ssh_control.call(site.runtime)
        return ssh.command_line(site.directory / ssh.CONFIG, site.name, command, terminal=terminal)

    def ssh_config(self, site: Site) -> Path:
        ssh_control.call(site.runtime)
        return site.directory / ssh.CONFIG

    def logs(self, site: Site) -> dict[str, Path]:
        return {
            "serial": site.directory / logs.SERIAL.file,
            "qemu": site.directory / logs.QEMU.file,
            "events": site.directory / logs.EVENTS.file,
            "serial.old": site.directory / logs.BEFORE,
        }

    def checks(self, runtime: Path) -> list[Check]:
        from .checks import checks

        return checks(runtime, self.abilities.arches)

    def command(self, site: Site, timeout_s: float = math.inf) -> list[str]:
        """Return the command line that the next `start` of `site` would run, unless it has to move to another port.

        Raises DeadlineError when QEMU has not said within `timeout_s` what it can do.
        """
        from .boot import described

        return described(site, timeout_s)[1]

    def _shut_down(self, site: Site, report: Report, deadline: Deadline) -> str:
        from .monitor import TIMEOUT_S, MonitorError, execute

        with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
            if pidfd is None:
                return ended.reason(site.directory) or "was not running"
            report("asking the guest to shut down")
            again_s, trouble = _FIRST_PRESS_S, ""
            while not deadline.passed:
                turn = Deadline(min(again_s, deadline.remaining_s))
                try:
                    execute(site.runtime, "system_powerdown", min(TIMEOUT_S, deadline.remaining_s))
                    trouble = ""
                except MonitorError as err:
                    trouble = err.message
                if again_s > _FIRST_PRESS_S:
                    # Not every guest reacts to its power button: that of an aarch64 machine without firmware needs a
                    # driver which few guests load.
                    ssh.attempt(site.directory / ssh.CONFIG, site.name, _POWER_OFF, turn.remaining_s)
                if hypervisor.wait(pidfd, turn.remaining_s):
                    return ended.reason(site.directory) or events.VANISHED
                again_s = min(_LAST_PRESS_S, 2 * again_s)
            report("ending the hypervisor by force")
            hypervisor.end(pidfd, grace_s=_GRACE_S)
        return f"ended by force: {trouble or f'the guest did not shut down in {deadline.seconds:g} s'}"


def _grow_file_system(site: Site, endpoint: "Endpoint", deadline: Deadline, pidfd: int, report: Report) -> None:
    """Grow the guest's file system to the size of its disk, if the disk has grown since this was last done."""
    from .disk import GROWN

    if (site.directory / GROWN).exists():
        from ...guest import growing

        if growing.run(endpoint, deadline, pidfd, report):
            (site.directory / GROWN).unlink()


def _screen(site: Site) -> "Screen | None":
    """Return where the screen of `site` is shown, if it has one."""
    if not site.spec.vnc:
        return None
    from . import vnc

    return vnc.screen(site.directory)


def _copies(site: Site, report: Report, deadline: Deadline, pidfd: int) -> "tuple[Failure, ...]":
    """Fetch the copies of `site`, if it has any, and return those that failed."""
    if not site.spec.copies:
        return ()
    from . import copies

    report(COPYING)
    return copies.fetch(site, deadline, pidfd)


def _refuse_alive(site: Site) -> None:
    """Raise DriverError when the machine is alive: nothing may take its disk away."""
    if hypervisor.settled(site.directory):
        raise DriverError(f'the hypervisor of "{site.name}" is running; its files were not touched')
