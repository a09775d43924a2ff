"""The manager is killed at each of its effects on real hypervisors: nothing is lost, nothing is left over.

The manager is a child that gets SIGKILL before its Nth effect, with N rising until it ends by itself. Nobody keeps a
list of the effects: Python's audit events report every file that is opened for writing, made, renamed or removed, every
lock that is taken, every program that is run and every connection to a monitor. The moments after a file was written,
a program was run and a signal was sent are effects too.
"""

import itertools
import os
import platform
import signal
import struct
import subprocess
import sys
import traceback
from contextlib import suppress

import pytest
from asking import COPY, TAG, name_after, needs

from interlock import Interlock
from interlock.creation.plan import Wishes, plan
from interlock.drivers import find
from interlock.drivers.contract import KERNEL
from interlock.drivers.qemu import hypervisor
from interlock.drivers.qemu.driver import HYPERVISOR_STARTED, KERNEL_BOOTING
from interlock.errors import IllegalTransitionError, NotFoundError
from interlock.fsm.journal import Journal
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import BY_TRIGGER, Recovery, Trigger
from interlock.guest.readiness import WAITING_FOR_SSH

pytestmark = pytest.mark.vm

ARCH = platform.machine()

CREATED = (Trigger.create,)
RUNNING = (*CREATED, Trigger.start)
STOPPED = (*RUNNING, Trigger.kill)
SAVED = (*RUNNING, Trigger.suspend)
CAUGHT = (*RUNNING, Trigger.snapshot, Trigger.kill)
"""The triggers that bring a new instance into each situation."""

CASES = (
    (Trigger.create, State.absent, ()),
    (Trigger.start, State.created, CREATED),
    (Trigger.start, State.stopped, SAVED),
    (Trigger.stop, State.running, RUNNING),
    (Trigger.kill, State.running, RUNNING),
    (Trigger.suspend, State.running, RUNNING),
    (Trigger.reset, State.stopped, STOPPED),
    (Trigger.delete, State.stopped, STOPPED),
    (Trigger.clone, State.stopped, STOPPED),
    (Trigger.fork, State.running, RUNNING),
    (Trigger.rename, State.stopped, STOPPED),
    (Trigger.rename, State.stopped, SAVED),
    (Trigger.edit, State.stopped, STOPPED),
    (Trigger.edit, State.stopped, SAVED),
    (Trigger.snapshot, State.stopped, STOPPED),
    (Trigger.snapshot, State.running, RUNNING),
    (Trigger.restore, State.stopped, (*STOPPED, Trigger.snapshot)),
    (Trigger.restore, State.stopped, CAUGHT),
    (Trigger.discard, State.stopped, (*STOPPED, Trigger.snapshot)),
)

PATIENCE = {trigger: {"timeout_s": 120.0} for trigger in (Trigger.suspend, Trigger.fork, Trigger.snapshot)}
"""A busy host needs more time to save a memory than these guests get to shut down."""

_HALT = b"\xfa\xf4\xeb\xfd"
_AT, _MAGIC, _PLACED = 0x100000, 0x1BADB002, 0x10000
_HEADER = (_MAGIC, _PLACED, -(_MAGIC + _PLACED) % 2**32, _AT, _AT, 0, 0, _AT + 32)
HALTS = struct.pack("<8I4s", *_HEADER, _HALT)
"""A kernel that runs `cli; hlt` forever. Source: Multiboot Specification 0.6.96, section 3.1."""

AUDITED = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "subprocess.Popen"}
"""The effects with their own audit event. Source: Python's manual, audit events table."""


def killed_at(point: int, work) -> bool:
    """Do `work` in a child that is killed before its effect number `point`; return False if it ended by itself."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            die_at(point)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second test run
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == -signal.SIGKILL


def die_at(point: int) -> None:
    """Let this process be killed before its effect number `point`."""
    effects = itertools.count(1)

    def effect() -> None:
        if next(effects) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        speaks = event == "socket.connect" and isinstance(arguments[1], str)
        locks = event == "fcntl.flock" and not arguments[1] & 1  # a shared lock only reads
        if event in AUDITED or writes or speaks or locks:
            effect()

    def followed(function):
        def performed(*arguments, **named):
            result = function(*arguments, **named)
            effect()
            return result

        return performed

    for owner, name in ((os, "fsync"), (signal, "pidfd_send_signal"), (subprocess.Popen, "_execute_child")):
        setattr(owner, name, followed(getattr(owner, name)))
    sys.dont_write_bytecode = True
    sys.addaudithook(audited)


@pytest.fixture
def tiny(vms, request):
    """Return a plan of the smallest guest, which gets little time to shut down.

    In tests that do not wait for it, its kernel halts at once, which leaves the processors to the managers.
    """
    kernel = {KERNEL: HALTS} if "hasty" in request.fixturenames and ARCH == "x86_64" else {}

    def make(report):
        draft = plan(vms.home, "web", "tiny", find("qemu"), Wishes())(report)
        return draft._replace(spec=draft.spec._replace(stop_timeout_s=0.3), materials=draft.materials | kernel)

    return make


@pytest.fixture
def ask(vms, tiny):
    """Return a function that requests any trigger."""
    return lambda trigger: (
        vms.engine.create("web", tiny)
        if trigger is Trigger.create
        else vms.engine.fire("web", trigger, **needs(trigger), **PATIENCE.get(trigger, {}))
    )


@pytest.fixture
def bring(ask):
    """Return a function that requests one trigger after the other."""

    def bring(way):
        for trigger in way:
            ask(trigger)

    return bring


def files(home):
    """Return every file and folder of home and runtime except the images."""
    return {path for root in (home.root, home.runtime) for path in root.rglob("*") if home.images not in path.parents}


@pytest.mark.parametrize("deaths", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize(("trigger", "source", "way"), CASES)
@pytest.mark.usefixtures("hasty")
def test_manager_killed_at_any_effect_is_recovered_by_its_row(
    vms, ask, bring, processes, until, injected, trigger, source, way, deaths
):
    """After the kill, `list` shows a state of the table and the recovery that the row names; the same command again
    completes on one hypervisor, and `delete --force` leaves neither file nor process. The same holds when the second
    manager, which recovers what the first one left, is killed at as many effects.

    A saved memory stays as long as nothing runs, and the machine is never booted in its place.

    Every point is tried with one kill, and every third one with two: neighbouring points differ little for the second
    manager. The guest is not waited for, which saves a boot each time; the next test does wait.
    """
    row = BY_TRIGGER[trigger]
    dest = row.leads_to(source)
    bring(STOPPED)  # the first instance leaves keys, folders and QEMU's capabilities behind in its home
    vms.delete("web", force=True)
    empty = files(vms.home)
    recovered = 0
    for point in itertools.count(1, 3 if deaths == 2 else 1):
        bring(way)
        killed = [killed_at(point, lambda: ask_if_legal(ask, trigger)) for _ in range(deaths)]
        cut_short = is_cut_short(vms.home)

        list(vms.instances())
        name = name_of(vms.home, trigger)
        status = vms.status(name)
        alive, machine = processes(), hypervisor.settled(vms.home.directory(name))
        assert (status.state in (source, dest), status.damage) == (True, None)
        if status.operation:  # looking does not wait for a guest that is alive
            assert trigger in (Trigger.start, Trigger.stop)
            assert (trigger, True) == (status.operation.trigger, status.operation.interrupted)
            assert status.observation.alive
        elif cut_short:
            forward = row.on_crash is Recovery.redo or (row.on_crash is Recovery.let_run and not alive)
            assert status.state is (dest if forward else source)
        brings_memory = trigger is Trigger.restore and way is CAUGHT
        if not alive and not brings_memory:
            assert status.saved is (way is SAVED or trigger is Trigger.suspend)
        stood_still = status.saved  # a machine that is alive beside a saved memory never ran
        assert not (stood_still and status.state is State.running)
        recovered += cut_short

        ask_if_legal(ask, trigger)
        status = vms.status(name_after(trigger))
        assert (dest, None, None) == (status.state, status.operation, status.damage)
        assert status.saved or not brings_memory
        assert trigger not in (Trigger.snapshot, Trigger.restore) or marked(vms, name) == [TAG]
        until(lambda dest=dest: len(processes()) == (dest is State.running))  # a killed process takes a moment to end
        if dest is State.running and machine and not stood_still:
            assert hypervisor.settled(vms.home.directory(name)) == machine  # finished, not booted again

        copy = vms.status(COPY)
        assert (copy.state in AT_REST, copy.damage) == ("new" in needs(trigger), None)
        for name in ("web", COPY):
            vms.delete(name, force=True)
        until(lambda: processes() == [])
        assert empty == files(vms.home)
        for _ in range(sum(killed)):
            injected(f"manager killed at each effect of {trigger}")
        if not any(killed):
            assert recovered > 0
            return


def marked(vms, name) -> list[str]:
    """Return the snapshot that the disk of `name` comes from."""
    return [snapshot.tag for snapshot in vms.snapshots(name) if snapshot.current]


def name_of(home, trigger) -> str:
    """Return the present name of the instance that was `web` when `trigger` was requested."""
    names = [name for name in ("web", COPY) if home.exists(name)]
    assert not BY_TRIGGER[trigger].moves or len(names) == 1
    return names[0] if BY_TRIGGER[trigger].moves else "web"


def is_cut_short(home) -> bool:
    """True when something is half done that nobody has looked at yet."""
    if home.creating("web").exists() or home.deleting("web").exists():
        return True
    there = [home.directory(name) for name in ("web", COPY) if home.exists(name)]
    return any(Journal(directory).last().in_flight for directory in there)


def ask_if_legal(ask, trigger) -> None:
    """Request `trigger`, unless it was already done and cannot be done twice."""
    with suppress(IllegalTransitionError, NotFoundError):
        ask(trigger)


def test_guest_outlives_managers_that_die_while_it_boots_and_shuts_down(vms, ask, bring, processes, until):
    """One guest, whose starters are killed at each step and whose stoppers at each effect, is booted once; every `list`
    says what was cut short, and the guest shuts down by itself. Then its name is free.
    """

    def start_until(step):
        def announce(event):
            if event.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        return lambda: Interlock(on_event=announce).start("web")

    bring(CREATED)
    hypervisors = set()
    for step in (HYPERVISOR_STARTED, KERNEL_BOOTING, WAITING_FOR_SSH):
        assert killed_at(0, start_until(step)), step
        status = next(vms.instances())
        hypervisors.update(processes())
        assert (State.created, True) == (status.state, status.observation.alive)
        assert (Trigger.start, True) == (status.operation.trigger, status.operation.interrupted)
    assert State.running is ask(Trigger.start).state
    assert hypervisors == set(processes())

    for point in itertools.count(1):
        killed_at(point, lambda: vms.stop("web", timeout_s=60))
        status = next(vms.instances())
        if status.state is State.stopped:
            break
    assert status.reason == "guest shut down"
    until(lambda: processes() == [])
    vms.delete("web", force=True)
    assert list(vms.instances()) == []
