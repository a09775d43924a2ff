"""The way from a machine that is down to a guest that answers: launch the hypervisor, then watch its guest."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from ...errors import DeadlineError, DriverError, HostError
from ...fsm.records import is_saved, is_warm
from ...guest import ssh
from ...guest.session import Endpoint, GuestGoneError
from ...host import cancellation
from ...host.files import write_whole
from ...host.home import make_runtime
from ...host.process import Actor
from ...host.progress import unheard
from ..contract import KNOWN_HOSTS, SSH_KEY, Deadline, Report, Site
from . import (
    adopted,
    disk_lock,
    ended,
    events,
    hostfwd,
    hypervisor,
    lan,
    limits,
    mounts,
    saved,
    serial,
    ssh_control,
    ssh_port,
    tpm,
    vnc,
)
from .capabilities import Acceleration, acceleration, capabilities
from .command import Board, build
from .monitor import LateError, MonitorError, execute

_PORT_ATTEMPTS = 5

_TAKEN = (ssh_port.REFUSED, vnc.REFUSED)
"""What QEMU says if another program took a port first: other ports are tried then."""

_POLL_S = 0.005
"""Between two looks at a starting hypervisor; a start takes about 30 ms."""

_SAVING_S = 30.0
"""How long saving the memory again may take after a failed start."""

_HANGING_UP_S = 1.0
"""The longest that a process takes to end once it has closed its sockets."""

RESUMING = "resuming from the saved memory"
BEGINNING = "starting from the warm image"
_WITHOUT_WARM_IMAGE = "booting cold, without the warm image"


def up(site: Site, progress: "Progress", deadline: Deadline, *, boot: bool, cold: bool) -> Actor | None:
    """Return the hypervisor of `site`, whose processors run; without `boot` none is started, and None if none is alive.

    It continues from the saved memory, if there is one that fits, or begins from a warm image; with `cold` neither.
    """
    directory = site.directory
    if is_saved(directory):  # a live hypervisor's processors are stopped, so killing it loses nothing
        hypervisor.kill(directory, progress)
    process = hypervisor.settled(directory)
    if process and saved.waits(process):  # the process that started it died before it could let it run
        _let_run(site, deadline)
    if process or not boot:
        return process
    if is_warm(directory) and not is_saved(directory):
        _begin_warm(site, progress, deadline, cold=cold)
    elif cold:
        _leave_memory(site, progress, "as asked")
    if is_saved(directory) and (process := _resume(site, progress, deadline)):
        return process
    return cold_boot(site, progress, deadline)


def cold_boot(site: Site, progress: Report, deadline: Deadline) -> Actor:
    """Boot `site`, which is down, and return its hypervisor; a disk that holds only a warm image's content is replaced
    by a fresh one."""
    if adopted.is_nobodys(site.directory):
        from . import disk

        saved.forget(site.directory)
        disk.make(site.directory, site.spec.disk_bytes)
    adopted.settle(site.directory)
    return launch(site, progress, deadline)


def _begin_warm(site: Site, progress: "Progress", deadline: Deadline, *, cold: bool) -> None:
    """Let `site` continue from its warm image, unless something was written to its disk already.

    If the image does not fit, or with `cold`, report the reason; the machine then boots.
    """
    from . import warming

    if not warming.applies(site):
        return
    why = "as asked" if cold else warming.begin(site, *described(site, deadline.remaining_s))
    if why:
        progress.came_up(f"{_WITHOUT_WARM_IMAGE}: {why}")


def _leave_memory(site: Site, progress: "Progress", why: str) -> None:
    """Let `site` boot, although its memory is saved, and say `why`."""
    if adopted.is_nobodys(site.directory):
        progress.came_up(f"{_WITHOUT_WARM_IMAGE}: {why}")
        saved.forget(site.directory)
    else:
        saved.set_aside(site.directory)
        progress.came_up(f"booting cold, the saved memory was set aside: {why}")


def _resume(site: Site, progress: "Progress", deadline: Deadline) -> Actor | None:
    """Return the hypervisor of `site`, which has continued from its saved memory; None if the machine has to boot.

    Memory that does not fit, or that QEMU refuses, is set aside, and the reason is reported. If this raises, the memory
    is kept for the next start, unless the guest has run with it.
    """
    directory = site.directory
    why = saved.misfit(site, *described(site, deadline.remaining_s))
    if why is None:
        progress.came_up(BEGINNING if adopted.is_nobodys(directory) else RESUMING)
        process = launch(site, progress, deadline, saved.incoming)
        try:
            saved.load(site, process, deadline)
            _let_run(site, deadline)
        except BaseException as err:
            with cancellation.shielded():
                died = _ended(process)
                hypervisor.kill(directory, unheard)
                last = hypervisor.words(directory) if died else []
                saved.take_back(directory)
            if not isinstance(err, DriverError) or isinstance(err, LateError):
                raise
            why = (last or [err.message])[-1]
            if not is_saved(directory):
                raise DriverError(f"the guest did not continue: {why}") from err
        else:
            return process
    _leave_memory(site, progress, why)
    return None


def _ended(process: Actor) -> bool:
    """Return whether the hypervisor `process` has ended by itself; one that just hung up is about to."""
    with hypervisor.held(process) as pidfd:
        return pidfd is None or hypervisor.wait(pidfd, _HANGING_UP_S)


def _let_run(site: Site, deadline: Deadline) -> None:
    """Continue the machine of `site`, whose memory is loaded; unplugged while its guest may have another's identity."""
    lan.plug(site, plugged=not adopted.is_undecided(site.directory))
    saved.release(site, deadline)


def launch(
    site: Site,
    report: Report,
    deadline: Deadline,
    adapt: Callable[[Site, Sequence[str]], Sequence[str]] = lambda _, machine: machine,
) -> Actor:
    """Run the hypervisor and return its process once it has started; raise DriverError with its words if it fails.

    `adapt` turns the machine's command line into the one that is run.
    """
    directory = site.directory
    daemons = check(site)
    chosen = _chosen(site)
    if chosen.name != "kvm":
        report(f"using TCG emulation: {chosen.reason}")
    make_runtime(site.runtime, directory)
    ended.clear(site, report)
    for _ in range(_PORT_ATTEMPTS):
        hostfwd.check(site.spec.forwards)
        vnc.prepare(site)
        lan.prepare(site)
        port = ssh_port.choose(site, report)
        write_whole(directory / ssh.CONFIG, _ssh_config(site, port))
        events.prepare(directory)
        machine = adapt(site, described(site, deadline.remaining_s)[1])
        launched = hypervisor.launch(machine, directory, daemons, ssh_control.on_call(site), lan.beside(site))
        with hypervisor.held(launched) as pidfd:
            while launched and pidfd is not None and not hypervisor.wait(pidfd, _POLL_S):
                if events.greeted(directory) or deadline.passed:
                    return launched
        if not any(refused in line for line in hypervisor.words(directory) for refused in _TAKEN):
            break
    if any(disk_lock.REFUSED in line for line in hypervisor.words(directory)):
        disk_lock.check(site)
    raise ended.death(directory)


def check(site: Site) -> list[hypervisor.Daemon]:
    """Return the programs that the hypervisor of `site` needs beside it; raise what keeps it from being run here."""
    limits.check(site.spec)
    if site.spec.nested:
        limits.check_nested(site.spec, _chosen(site, remember=False).name)
    mounts.check(site.spec)
    disk_lock.check(site)
    return [*mounts.daemons(site), *tpm.daemons(site)]


def described(site: Site, timeout_s: float = math.inf, *, remember: bool = True) -> tuple[str, list[str]]:
    """Return the version of QEMU, and the hypervisor's command line with the port for ssh that is recorded.

    With `remember`, findings about this host are cached. Raises DeadlineError if QEMU does not say in time what it can
    do.
    """
    able = capabilities(site.runtime.parent, site.spec.arch, timeout_s, remember=remember)
    board = Board.read(site.directory)
    board.check(able)
    accelerator = _chosen(site, remember=remember).name
    return able.version, build(site, board, able, accelerator, ssh_port.recorded(site.directory) or 0)


def refuse_to_save(site: Site, process: Actor) -> None:
    """Raise DriverError where the memory of `process`, the hypervisor of `site`, cannot be saved for the next start."""
    saved.refuse(site, process)
    saved.refuse_changed(site, process, *described(site, remember=False))


def foreseen(site: Site, *, materials: Collection[str] | None = None) -> tuple[str, list[str]]:
    """Return the version of QEMU and the command line by which `site`, which is down, would start; nothing is touched.

    `materials` is given for a machine that is not made yet: the files that creation would put into its directory.
    """
    able = capabilities(site.runtime.parent, site.spec.arch, remember=False)
    board = Board.read(site.directory) if materials is None else Board.newest(able)
    board.check(able)
    accelerator = _chosen(site, remember=False).name
    return able.version, build(site, board, able, accelerator, ssh_port.chosen(site), materials=materials)


@contextmanager
def suspended_again(site: Site, process: Actor | None) -> Iterator[None]:
    """Save the memory of `site` again if the block raises and `process` had continued from the machine's own memory, so
    that nothing is lost."""
    try:
        yield
    except BaseException:
        if process and saved.waits(process) and not adopted.is_nobodys(site.directory):
            with cancellation.shielded(), suppress(DriverError, DeadlineError):
                saved.save(site, process, unheard, Deadline(_SAVING_S))
        raise


@contextmanager
def watched(site: Site, process: Actor | None, progress: "Progress") -> Iterator[tuple[Endpoint, int]]:
    """Yield the endpoint to the guest of the hypervisor `process`, and the pidfd to watch it by.

    An error inside the block gets its cause: why the machine died, or the last step and the guest's last words.
    """
    directory = site.directory
    port, instance_id = ssh_port.recorded(directory) or 0, site.spec.instance_id
    with hypervisor.held(process) as pidfd:
        if pidfd is None:
            raise ended.death(directory)
        try:
            yield Endpoint(site.name, directory / ssh.CONFIG, port, instance_id), pidfd
        except GuestGoneError:
            raise ended.death(directory) from None
        except (DeadlineError, DriverError) as err:
            mute = _mute(site) if isinstance(err, DeadlineError) else ""
            message = f"{err.message}; last step: {progress.step}{mute}"
            said = serial.tail(directory) or ["the guest wrote nothing to its serial port"]
            raise type(err)(message, hint=err.hint, details=[*err.details, *said]) from err


def _mute(site: Site) -> str:
    """Return that the hypervisor of `site` does not answer, to add to an error; empty if it answers."""
    try:
        execute(site.runtime, "query-status")
    except MonitorError as error:
        return f"; its hypervisor hangs: {error.message}"
    return ""


class Progress:
    """A report that says each step once, and remembers the last step and how the machine came up."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.step = ""
        self.how: str | None = None

    def __call__(self, step: str, *, after: str | None = None) -> None:
        """Say `step`, unless it was the last one; with `after`, only if that was the last one."""
        if step != self.step and after in (None, self.step):
            self.step = step
            self._report(step)

    def came_up(self, how: str) -> None:
        """Report `how` as a step, and keep it for the history."""
        self(how)
        self.how = how


def _ssh_config(site: Site, port: int) -> bytes:
    """Return the ssh_config(5) that leads to the guest of `site` behind local TCP `port`."""
    spec = site.spec
    return ssh.config(
        site.name,
        spec.user,
        port,
        site.directory / SSH_KEY,
        site.directory / KNOWN_HOSTS,
        control=ssh_control.shared(site),
        forward_agent=spec.forward_agent,
        forward_x11=spec.forward_x11,
        forward_x11_trusted=spec.forward_x11_trusted,
    ).encode()


def _chosen(site: Site, *, remember: bool = True) -> Acceleration:
    """Return how to run `site` on this host now; raise HostError when its spec requires what does not work."""
    wanted = site.spec.accelerator
    if wanted == "tcg":
        return Acceleration("tcg", "the instance asks for it")
    found = acceleration(site.runtime.parent, site.spec.arch, remember=remember)
    if wanted == "kvm" and found.name != "kvm":
        raise HostError(f"the instance requires KVM, which does not work here: {found.reason}")
    return found
