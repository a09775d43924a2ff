"""The driver that runs real machines: one QEMU process each, and nothing of ours beside it.

    directory/                  written by
    ├── qemu.json               create: the versioned board, kept whatever becomes of the host's QEMU
    ├── disk.qcow2              create: what the guest wrote, over base.qcow2
    ├── firmware.*.fd           create: UEFI and its variables, for a machine that boots from its disk
    ├── network.json            first start: the local port that leads to the guest's sshd
    ├── ssh.config              start: `ssh -F ssh.config NAME`
    ├── hypervisor.id           the process about itself, before it becomes QEMU
    ├── events.log             QEMU: what happened to the machine, asked for by events.in
    ├── copies.json            start: what it fetched from the guest and is to go with it
    ├── degraded.txt            start, provision: what failed in the guest that runs, if anything did
    ├── serial.log              QEMU: what the guest said (serial.old.log: at the run before)
    ├── qemu.log                QEMU: what it complained of
    └── *.pipe, events.out      start: FIFOs, by which copiers keep these logs (`logs`)
    runtime/
    ├── qmp.sock                QEMU: its monitor
    ├── mountN.sock             virtiofsd, a child of QEMU's that dies with it: a folder of the host's
    └── forwards.sock, .json    the ssh that holds the port forwards open, as long as QEMU runs

It reads beside them spec.json, kernel, initrd, base.qcow2, seed.iso, ssh.key and known_hosts, which creation put there,
and reads and writes disk-NAME, the second name of a disk that outlives the instance.
A module is imported where it is used: `list` observes a thousand machines, and starts none.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DeadlineError, DriverError, HostError
from ...guest import ssh
from ...host import process as host
from ..contract import HIDDEN, Abilities, Check, Deadline, DegradedError, Driver, Observation, Report, Site
from . import events, forwards, logs, mounts, network, process, shortfall

if TYPE_CHECKING:
    from ...fsm.spec import Spec
    from ...guest.report import Failure
    from ...guest.session import Door
    from ...host.process import Actor
    from .probe import Acceleration

HYPERVISOR_STARTED = "hypervisor started"
KERNEL_BOOTING = "kernel booting"
FORWARDING = "forwarding ports"
COPYING = "copying files from the guest"

_GRACE_S = 3.0
"""For a hypervisor to write what it holds and end by itself, when its guest would not."""

_FIRST_PRESS_S, _LAST_PRESS_S = 1.0, 8.0
"""Between two presses of the power button. A guest may be up and not listen yet: sshd starts before acpid, say."""

_POWER_OFF = ("sh", "-c", "sudo -n poweroff || poweroff")

_PORT_ATTEMPTS = 5

_FORWARDS_S = 30.0
"""How long a guest that has answered before may take to let the port forwards in again."""

_POLL_S = 0.005
"""Between two looks at a hypervisor that is about to speak, which takes it some 30 ms."""


class QemuDriver(Driver):
    """Runs machines under QEMU, with KVM where KVM is proved to work and by emulation elsewhere."""

    name = "qemu"
    abilities = Abilities(arches=("x86_64", "aarch64"), images=True, shell=True)  # noqa: S604 - no subprocess

    def check(self, spec: "Spec") -> None:
        from . import memory

        memory.check(spec.memory_bytes)
        network.check(spec)

    def create(self, site: Site, report: Report) -> None:
        from . import disk, firmware
        from .command import Board
        from .probe import capabilities

        spec, directory = site.spec, site.directory
        board = Board.newest(capabilities(site.runtime.parent, spec.arch))
        if spec.boot == "kernel":
            for material in ("kernel", "initrd"):
                if not (directory / material).exists():
                    raise DriverError(f"the instance is to boot a kernel, but has no file {material}")
        elif spec.boot == "bios" and spec.arch != "x86_64":
            raise DriverError(f"a machine of architecture {spec.arch} has no BIOS, only firmware (UEFI)")
        elif spec.boot == "firmware":
            report("copying the firmware")
            firmware.install(directory, firmware.find(spec.arch, board.machine))
        report("making the disk")
        disk.make(directory, spec.disk_bytes)
        board.write(directory)

    def start(self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True) -> DegradedError | None:
        from ...guest import probes, readiness
        from .serial import Watch

        progress = _Progress(report)
        directory = site.directory
        hypervisor = process.settled(directory)
        if hypervisor is None and boot:
            hypervisor = self._launch(site, progress, deadline)
        progress(HYPERVISOR_STARTED)
        watch = Watch(directory, lambda: progress(KERNEL_BOOTING, after=HYPERVISOR_STARTED))

        def look() -> bool:
            watch.look()
            return events.uses_network(directory)

        with _watched(site, hypervisor, progress) as (door, pidfd):
            failures = readiness.wait(door, deadline, pidfd, progress, look)
            for failure in failures:
                progress(str(failure))
            failures = probes.run(door, site.spec.probes, deadline, pidfd, progress, failures=failures)
            if forwards.missing(site):
                progress(FORWARDING)
                forwards.establish(site, deadline, pidfd)
            failures += _copies(site, progress, deadline, pidfd)
        return shortfall.record(site, failures)

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:
        from ...guest import probes, provision

        progress = _Progress(report)
        with _watched(site, process.settled(site.directory), progress) as (door, pidfd):
            failures = provision.run(door, deadline, pidfd, progress)
            try:
                failures = probes.run(door, site.spec.probes, deadline, pidfd, progress, failures=failures)
            except probes.ProbeError as err:
                failures = (err.failure,)
            failures += _copies(site, progress, deadline, pidfd)
        return shortfall.record(site, failures)

    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        how = self._shut_down(site, report, deadline)
        _clear(site, report)
        return how

    def kill(self, site: Site, report: Report) -> None:
        while hypervisor := process.settled(site.directory):
            with process.held(hypervisor) as pidfd:
                if pidfd is not None:
                    report("ending the hypervisor by force")
                    process.end(pidfd, grace_s=0)
        _clear(site, report)

    def reset(self, site: Site, report: Report) -> None:
        from ...host.files import remove_tree
        from . import disk, firmware

        _refuse_alive(site)
        report("making a fresh disk")
        disk.make(site.directory, site.spec.disk_bytes)
        if site.spec.boot == "firmware":
            firmware.renew(site.directory)
        # With them goes the memory of the last run: nothing has happened to this machine yet.
        for trace in (process.RECORD, logs.EVENTS.file):
            remove_tree(site.directory / trace)

    def delete(self, site: Site, report: Report) -> None:
        from ...host.files import remove_tree

        _refuse_alive(site)
        _clear(site, report)
        remove_tree(site.runtime)

    def resume(self, site: Site, report: Report) -> None:
        from ...guest.session import GuestGoneError
        from .monitor import execute

        report("letting the guest go on")
        with process.held(process.settled(site.directory)) as pidfd:
            if pidfd is None:
                raise DriverError(f"there is nothing to resume: {exit_reason(site.directory)}")
            process.wake(pidfd)
            execute(site.runtime, "cont")
            if forwards.condition(site.runtime):
                report(FORWARDING)
                try:
                    forwards.establish(site, Deadline(_FORWARDS_S), pidfd)
                except GuestGoneError:
                    raise _death(site.directory) from None

    def observe(self, site: Site) -> Observation:
        directory = site.directory
        life = process.look(directory)
        if not life.alive:
            return Observation(alive=False, exit_reason=exit_reason(directory))
        if (hypervisor := life.process) is None:
            return Observation(alive=True, hidden=life.hidden, condition=HIDDEN if life.hidden else None)
        stopped = "paused: the hypervisor was stopped by a signal" if host.suspended(hypervisor) else None
        paused = stopped or events.condition(events.read(directory))
        failed = shortfall.seen(site) or mounts.shortfall(site)
        cut_off = forwards.condition(site.runtime) if site.spec.forwards else None
        return Observation(
            alive=True,
            pid=hypervisor.pid,
            ssh_port=network.recorded(directory),
            condition=paused or (f"degraded: {failed.message}" if failed else cut_off),
            shortfall=failed,
            resumable=bool(paused or cut_off),
            accelerator=process.accelerator(hypervisor),
        )

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        return ssh.command_line(site.directory / ssh.CONFIG, site.name, command, terminal=terminal)

    def logs(self, site: Site) -> dict[str, Path]:
        return {
            "serial": site.directory / logs.SERIAL.file,
            "qemu": site.directory / logs.QEMU.file,
            "events": site.directory / logs.EVENTS.file,
        }

    def checks(self, runtime: Path) -> list[Check]:
        from .checks import checks

        return checks(runtime, self.abilities.arches)

    def command(self, site: Site, timeout_s: float = math.inf) -> list[str]:
        """Return the command line that the next `start` of `site` would run, unless it has to move to another port.

        Raises DeadlineError when QEMU has not said within `timeout_s` what it can do.
        """
        from .command import Board, build
        from .probe import capabilities

        able = capabilities(site.runtime.parent, site.spec.arch, timeout_s)
        board = Board.read(site.directory)
        board.check(able)
        return build(site, board, able, _acceleration(site).name, network.recorded(site.directory) or 0)

    def _shut_down(self, site: Site, report: Report, deadline: Deadline) -> str:
        from .monitor import TIMEOUT_S, MonitorError, execute

        with process.held(process.settled(site.directory)) as pidfd:
            if pidfd is None:
                return exit_reason(site.directory) or "was not running"
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
                    # Not every guest minds its power button: the one of an aarch64 machine without firmware needs a
                    # driver that not every guest loads.
                    ssh.attempt(site.directory / ssh.CONFIG, site.name, _POWER_OFF, turn.remaining_s)
                if process.wait(pidfd, turn.remaining_s):
                    return exit_reason(site.directory) or events.VANISHED
                again_s = min(_LAST_PRESS_S, 2 * again_s)
            report("ending the hypervisor by force")
            process.end(pidfd, grace_s=_GRACE_S)
        return f"ended by force: {trouble or f'the guest did not shut down in {deadline.seconds:g} s'}"

    def _launch(self, site: Site, report: Report, deadline: Deadline) -> "Actor | None":
        """Run the hypervisor and return its process once it speaks; raise DriverError in its words when it will not."""
        from ...host.files import make_private_directory, write_whole
        from . import lease, ports

        directory = site.directory
        self.check(site.spec)
        mounts.check(site.spec)
        lease.check(site)
        daemons = mounts.daemons(site)
        chosen = _acceleration(site)
        if chosen.name != "kvm":
            report(f"using TCG emulation: {chosen.reason}")
        make_private_directory(site.runtime)
        _clear(site, report)
        for _ in range(_PORT_ATTEMPTS):
            ports.check(site.spec.forwards)
            port = network.choose(site, report)
            write_whole(directory / ssh.CONFIG, _ssh_config(site, port))
            events.prepare(directory)
            hypervisor = process.launch(self.command(site, deadline.remaining_s), directory, daemons)
            with process.held(hypervisor) as pidfd:
                while pidfd is not None and not process.wait(pidfd, _POLL_S):
                    if events.greeted(directory) or deadline.passed:
                        return hypervisor
            if not any(network.REFUSED in line for line in process.words(directory)):
                break
        if any(lease.REFUSED in line for line in process.words(directory)):
            lease.check(site)
        raise _death(directory)


@contextmanager
def _watched(site: Site, hypervisor: "Actor | None", progress: "_Progress") -> "Iterator[tuple[Door, int]]":
    """Yield the door to the guest of `hypervisor` and the pidfd to watch it by.

    What goes wrong meanwhile is told with its cause: why the machine died, or how far its guest came and said.
    """
    from ...guest.session import Door, GuestGoneError
    from .serial import tail

    directory = site.directory
    port, instance_id = network.recorded(directory) or 0, site.spec.instance_id
    with process.held(hypervisor) as pidfd:
        if pidfd is None:
            raise _death(directory)
        try:
            yield Door(site.name, directory / ssh.CONFIG, port, instance_id), pidfd
        except GuestGoneError:
            raise _death(directory) from None
        except (DeadlineError, DriverError) as err:
            message = f"{err.message}; it came as far as: {progress.step}"
            said = tail(directory) or ["the guest has said nothing on its serial port"]
            raise type(err)(message, hint=err.hint, details=[*err.details, *said]) from err


class _Progress:
    """A report that says each step once, and remembers the last."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.step = ""

    def __call__(self, step: str, *, after: str | None = None) -> None:
        """Say `step`, unless it was said last, or something else than `after` was."""
        if step != self.step and after in (None, self.step):
            self.step = step
            self._report(step)


def _ssh_config(site: Site, port: int) -> bytes:
    """Return the ssh_config(5) that leads to the guest of `site` behind local TCP `port`."""
    spec = site.spec
    return ssh.config(
        site.name,
        spec.user,
        port,
        site.directory,
        forward_agent=spec.forward_agent,
        forward_x11=spec.forward_x11,
        forward_x11_trusted=spec.forward_x11_trusted,
    ).encode()


def _copies(site: Site, report: Report, deadline: Deadline, lifeline: int) -> "tuple[Failure, ...]":
    """Fetch the copies of `site`, if it has any, and return which of them could not be had."""
    if not site.spec.copies:
        return ()
    from . import copies

    report(COPYING)
    return copies.fetch(site, deadline, lifeline)


def _clear(site: Site, report: Report) -> None:
    """Leave nothing of a run that is over: no process that served it, no file that was to go with it."""
    from . import copies

    shortfall.forget(site.directory)
    forwards.end(site.runtime)
    copies.forget(site.directory, report)


def _refuse_alive(site: Site) -> None:
    """Raise DriverError when the machine lives: its disk is not taken from under it, whoever asks for that."""
    if process.settled(site.directory):
        raise DriverError(f'the hypervisor of "{site.name}" runs: its files are left alone')


def exit_reason(directory: Path) -> str | None:
    """Return why the machine in `directory`, which is down, went down; None when it never ran."""
    last = process.last(directory)
    if last is None:
        return None
    logs.complete(directory)
    if told := events.shutdown_reason(events.read(directory)):
        return told
    if last.boot_id != host.boot_id():
        return events.HOST_DOWN
    if not events.greeted(directory) and (words := process.words(directory)):
        return f"hypervisor did not start: {words[-1]}"
    return events.VANISHED


def _death(directory: Path) -> DriverError:
    """Return the error for a machine that died while it was being started."""
    from . import serial

    words = process.words(directory)
    reason = exit_reason(directory) or (f"hypervisor did not start: {words[-1]}" if words else events.VANISHED)
    if reason == events.VANISHED and words:
        reason = words[-1]
    return DriverError(f"the machine did not come up: {reason}", details=[*words, *serial.tail(directory)])


def _acceleration(site: Site) -> "Acceleration":
    """Return how to run `site` on this host now; raise HostError when its spec insists on what does not work."""
    from .probe import Acceleration, acceleration

    wanted = site.spec.accelerator
    if wanted == "tcg":
        return Acceleration("tcg", "the instance asks for it")
    found = acceleration(site.runtime.parent, site.spec.arch)
    if wanted == "kvm" and found.name != "kvm":
        raise HostError(f"the instance insists on KVM, which is of no use here: {found.reason}")
    return found
