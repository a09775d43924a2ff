"""A model of the world around one instance: whatever happens to it, in any order, the promises hold.

Hypothesis chooses what happens next: requests, kills and failing disks in the middle of them, a second process, a dead
machine, a reboot, damage. After each step the journal is compared with the world. The choices depend only on the
imported modules, in which hypothesis finds numbers to try, so they differ after other tests.
To search further, give a number of runs: INTERLOCK_WORLD_RUNS=2000 (of 200 steps each).
"""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from asking import COPY, needs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from interlock.api import Interlock
from interlock.drivers import simulated
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import (
    BusyError,
    DamagedError,
    IllegalTransitionError,
    InterlockError,
    NotFoundError,
    ProtectedError,
)
from interlock.fsm import engine as engine_module
from interlock.fsm import entry as entry_module
from interlock.fsm import words
from interlock.fsm.engine import Engine
from interlock.fsm.journal import FILE, Line
from interlock.fsm.port import Draft
from interlock.fsm.records import is_protected
from interlock.fsm.states import State
from interlock.fsm.table import TABLE, Trigger
from interlock.host import process
from interlock.host.files import remove_tree
from interlock.host.home import Home

RUNS = int(os.environ.get("INTERLOCK_WORLD_RUNS", "0"))
STEPS = 200
REQUESTABLE = [row.trigger for row in TABLE if row.recorded]
REFUSALS = (IllegalTransitionError, NotFoundError, ProtectedError)
GARBAGE = [b"garbage\n", b"\0" * 300 + b"\n", b"\xff\xfe\n", b"{}\n"]
POINTS = st.integers(1, 60)


class PowerCut(BaseException):
    """Ends the process in which it is raised."""


class Waits(BaseException):
    """Ends a second process where it would wait for the first, which cannot continue meanwhile."""


def no_sleep(_):
    raise Waits


def world(spec, effects, injected):  # noqa: C901 - one world, many rules
    """Return the class of worlds; hypothesis makes one for each run."""

    class World(RuleBasedStateMachine):
        steps = 0

        @initialize()
        def begin(self):
            self.folder = tempfile.TemporaryDirectory()
            root = Path(self.folder.name)
            self.home = Home(root / "home", root / "run")
            self.driver = SimulatedDriver(orders={})
            self.engine = Engine(self.home, lambda _: self.driver)
            self.journal = self.home.directory("web") / FILE
            self.damaged = self.scarred = False
            self.boots = 1
            self.chain = (b"", 0, State.absent)
            self.patch = pytest.MonkeyPatch()
            for module in (process, simulated):
                self.patch.setattr(module, "boot_id", lambda: f"boot {self.boots}")
            self.patch.setattr(engine_module.time, "sleep", no_sleep)
            self.patch.setattr(os, "fsync", lambda _: None)
            self.patch.setattr(engine_module, "HANDOVER_S", 0.0)
            self.patch.setattr(engine_module, "CALL_OFF_S", 0.0)

        def ask(self, trigger):
            if trigger is Trigger.create:
                return self.engine.create("web", lambda _: Draft(spec, {"seed": b"seed"}))
            return self.engine.fire("web", trigger, **needs(trigger))

        def disturbed(self, trigger, at_point, *, dead=False):
            """Request `trigger`, and call `at_point` at each of its effects."""
            with pytest.MonkeyPatch.context() as patch:
                if dead:
                    actor = process.this_process()._replace(started_ticks=1)
                    patch.setattr(entry_module, "this_process", lambda: actor)
                effects(patch, at_point)
                with suppress(PowerCut, InterlockError):
                    self.ask(trigger)

        # What happens.

        @rule(trigger=st.sampled_from(REQUESTABLE))
        def request(self, trigger):
            try:
                self.ask(trigger)
            except REFUSALS:
                pass
            except DamagedError:
                assert self.damaged

        @rule(trigger=st.sampled_from(REQUESTABLE), last=POINTS)
        def manager_is_killed(self, trigger, last):
            def cut(point, _):
                if point >= last:
                    raise PowerCut

            self.disturbed(trigger, cut, dead=True)
            injected("a step of the world: Interlock killed at an effect")

        @rule(
            trigger=st.sampled_from(REQUESTABLE),
            first=POINTS,
            count=st.sampled_from([1, 1, 1000]),
            reason=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES]),
        )
        def disk_fails(self, trigger, first, count, reason):
            def fail(point, name):
                if first <= point < first + count and (count == 1 or name in ("write", "mkdir", "link")):
                    raise OSError(reason, os.strerror(reason))

            self.disturbed(trigger, fail)
            injected("a step of the world: the disk fails or is full")

        @rule(first=st.sampled_from(REQUESTABLE), second=st.sampled_from(REQUESTABLE), when=POINTS)
        @precondition(lambda self: not self.damaged)
        def another_asks_meanwhile(self, first, second, when):
            def meanwhile(point, _):
                if point == when and second is not first:
                    with suppress(Waits, BusyError, *REFUSALS):
                        Engine(self.home, lambda _: self.driver).fire("web", second, **needs(second))
                    assert [status.damage for status in self.engine.statuses() if status.damage] == []

            second = Trigger.stop if second is Trigger.create else second
            self.disturbed(first, meanwhile)
            injected("a step of the world: a second process asks in the middle of an operation")

        @rule(reason=st.sampled_from(["guest shut down", "guest panicked", None]))
        def machine_dies(self, reason):
            with suppress(InterlockError):
                self.driver.happen(self.engine.site("web"), alive=False, exit_reason=reason)
                injected("a step of the world: the machine dies")

        @rule()
        def host_reboots(self):
            self.boots += 1
            remove_tree(self.home.runtime)
            injected("a step of the world: the host reboots")

        @rule(garbage=st.sampled_from(GARBAGE), lost=st.integers(0, 3))
        @precondition(lambda self: self.journal.exists())
        def last_lines_are_damaged(self, garbage, lost):
            lines = self.journal.read_bytes().splitlines(keepends=True)
            kept = lines[: max(1, len(lines) - lost)]
            self.journal.write_bytes(b"".join([*kept, garbage]))
            self.damaged = self.scarred = True
            injected("a step of the world: lines of the journal are damaged")

        @rule(torn=st.sampled_from([b'{"seq": 3, "ti', b"\0" * 50, b"\xff"]))
        @precondition(lambda self: self.journal.exists())
        def a_line_is_torn(self, torn):
            with self.journal.open("ab") as file:
                file.write(torn)
            injected("a step of the world: the journal ends in a torn line")

        @rule()
        def repair(self):
            try:
                self.engine.fire("web", Trigger.repair)
                self.damaged = False
            except NotFoundError:
                assert not self.home.directory("web").exists()
            except DamagedError as error:  # the creation itself was lost, and cannot be reconstructed
                way = words.remove("web", protected=is_protected(self.home.directory("web")))
                assert (self.damaged, error.hint) == (True, way)  # noqa: PT017

        @rule(force=st.booleans())
        def delete_by_force(self, force):
            vms = Interlock(self.home)
            with suppress(NotFoundError, ProtectedError):
                if force:
                    vms.unprotect("web")
                vms.delete("web", force=True)

        # What holds, whatever happened.

        @invariant()
        def journal_and_world_agree(self):
            World.steps += 1
            copy = self.engine.status(COPY)
            assert (copy.damage, copy.operation, copy.state is State.running) == (None, None, False)
            if copy.exists and not self.home.directory("web").exists():  # it is not a copy: `web` was renamed
                self.engine.fire(COPY, Trigger.rename, new="web")
            Interlock(self.home).delete(COPY, force=True)
            there = self.home.directory("web").exists()
            listed = list(self.engine.statuses())
            status = self.engine.status("web")
            if not there:
                self.damaged = self.scarred = False
            self.damaged = self.damaged and status.damage is not None
            assert self.damaged == (status.damage is not None), status.damage
            assert [one.name for one in listed] == (["web"] if self.home.directory("web").exists() else [])
            if self.damaged:
                return
            if status.state is State.absent:
                self.scarred = False
                files = [path for path in Path(self.folder.name).rglob("*") if not path.is_dir()]
                assert (status.operation, files) == (None, [])
                return
            alive = self.driver.observe(self.engine.site("web")).alive
            if status.operation:
                assert (alive, status.operation.interrupted) == (True, True)
            else:
                assert alive == (status.state is State.running)
            if not self.scarred:
                self.check_chain()

        def check_chain(self):
            """Check the lines that are new since the last check."""
            content = self.journal.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if not whole.startswith(self.chain[0]):
                self.chain = (b"", 0, State.absent)
            known, number, state = self.chain
            for text in whole[len(known) :].splitlines():
                line = Line.parse(text)
                number += 1
                assert (number, state) == (line.seq, line.source)
                state = line.state
            self.chain = (whole, number, state)

        def teardown(self):
            """`delete --force` leads to absent."""
            if not hasattr(self, "folder"):
                return
            try:
                vms = Interlock(self.home)
                with suppress(NotFoundError):
                    vms.unprotect("web")
                vms.delete("web", force=True)
                assert [path for path in Path(self.folder.name).rglob("*") if not path.is_dir()] == []
            finally:  # whatever happened, restore the world for the tests after this one
                self.patch.undo()
                self.folder.cleanup()

    return World


@pytest.mark.slow
def test_world_whatever_happens_keeps_the_promises(spec, effects, injected):
    """After each of 10,000 random steps, the journal is a chain and agrees with the world."""
    chosen = settings(
        max_examples=RUNS or 75,
        stateful_step_count=STEPS,
        derandomize=not RUNS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine = world(spec, effects, injected)
    run_state_machine_as_test(machine, settings=chosen)
    assert machine.steps >= 10_000
