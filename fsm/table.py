"""The transition table: the whole lifecycle of an instance, one row for each thing that can happen to it.

A row is the one place. Legality, `interlock can`, every message, recovery after a crash, deadlines, the calls to the
driver, the diagrams, the reference page and the exhaustive tests are derived from its columns. To change the lifecycle,
change a row and read the diff of the golden files.

    trigger     what happens
    sources     the states in which it is legal
    dest        the state that it leads to; None for a row that does not change the state, and is not drawn
    why         why the row exists, for people
    by          who does the work; see `By`
    doing,      the verbs of every message about it
    done
    on_crash    what recovery does when a crash cut it short; see `Recovery`
    holds       the states in which what it asks for is already so. Asking then succeeds, says so and does nothing: a
                script that says `stop` wants the machine down, no matter who stopped it. `create` holds nowhere,
                because an existing instance need not be the one that was asked for
    holds_unless  the fact of an `Observation` without which what it asks for is already so in its sources: a guest that
                is not paused cannot be resumed
    yields_to   the triggers that call it off while it runs: `stop` must not wait for a guest that will not boot. Work
                that was called off fails as cancelled and is undone by its crash rule
    guarded     it destroys what a guest wrote, so it is refused while the instance is protected, with --force too
    unsaved     it changes or shares the disk, so it is refused while the guest's memory is saved, which fits only the
                disk as it is
    timeout     the spec's field that limits its work, in seconds; None for work that waits for no guest
    at_once     a caller who asks for it does not wait for a guest: what a dead process left is ended, not awaited
    by_place    its work needs the instance's directory alone, and is done even if the spec cannot be read
    unseen      the option with which it is done even if nobody can tell whether the machine is alive, because it leads
                out of that: a node of a cluster that is down says nothing of its machines
    command     what is typed for it; empty where that is the trigger
    needs       what it cannot be asked for without; `change` makes another spec of the one that is; `new` is a name at
                which an instance is to appear, which the engine hands to the work locked and absent; for `fork`, a
                tuple of such names
    moves       the instance's directory goes to the name `new` with it, by one rename: cut short before that, it is
                given up; after that, it is finished under the new name
    options     what it can be asked for with besides. `cold`: without the memory that is saved, or in the snapshot;
                `node`: where to; `failover`: from a node that is down, so the guest boots.
                Beside these, a row that boots can be asked for with `keep_on_failure` and `restart` (`Engine.fire`)
    example     what is typed after its command, as a hint shows it; NAME stands for the instance
    on_damage   what it does to an instance whose files cannot be understood; None where it is refused then

Only `create` leaves `absent`, and it is the only row that needs a plan: a template about to become a spec, or another
instance about to be copied. So `clone` is a row of the instance that is copied, and what it does is the `create` of the
other: the journal of the copy begins as every journal does, and no template is in sight. `fork` does so for each copy
of a running one. `start` has no row from `absent`, so "start that creates" is not forbidden: there is nowhere to write
it down.

There are no wildcards and no priorities. Two rows may not share a (trigger, source) pair; a test checks this.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from .states import AT_REST, EXISTING, State

if TYPE_CHECKING:
    from .records import Observation

absent, created, running, stopped = State


class Trigger(StrEnum):
    """What can happen to an instance: imperatives are asked for, past tenses are observed."""

    create = "create"
    start = "start"
    stop = "stop"
    kill = "kill"
    suspend = "suspend"
    exited = "exited"
    found = "found"
    reset = "reset"
    delete = "delete"
    resume = "resume"
    provision = "provision"
    migrate = "migrate"
    protect = "protect"
    unprotect = "unprotect"
    clone = "clone"
    fork = "fork"
    rename = "rename"
    edit = "edit"
    snapshot = "snapshot"
    restore = "restore"
    discard = "discard"
    shell = "shell"
    copy = "copy"
    repair = "repair"


class By(StrEnum):
    """Who does the work of a row."""

    driver = "driver"
    """The driver, in its method of the trigger's name."""
    engine = "engine"
    """The engine, in its own files."""
    caller = "caller"
    """The caller. The engine only decides whether it is legal: it may last for days and many may do it at once, so it
    takes no lock and leaves no line in the journal."""
    nobody = "nobody"
    """It is observed after the fact and takes no time."""


class Recovery(StrEnum):
    """What is done about an operation whose process died before it wrote an outcome."""

    roll_back = "roll back"
    probe = "probe"
    redo = "redo"
    abandon = "abandon"
    let_run = "let run"


RULE = {
    Recovery.roll_back: "What it left behind is removed; the instance is in the state it came from.",
    Recovery.probe: "If the guest is up, it is finished; else it is undone, and the state is the one it came from.",
    Recovery.redo: "It is done again from the beginning: every step of it is safe to repeat.",
    Recovery.abandon: "It is given up: what it did stays done, the state is the same, and it can be asked for again.",
    Recovery.let_run: "If the memory is saved, it is finished. If not, a machine that is alive is let run again, and "
    "the state is the one it came from; for one that ran and is down, its exit is recorded.",
}
"""What each recovery does, in words."""


class Row(NamedTuple):
    """One thing that can happen; the module's docstring explains the columns."""

    trigger: Trigger
    sources: tuple[State, ...]
    dest: State | None
    why: str
    by: By = By.driver
    doing: str | None = None
    done: str = ""
    on_crash: Recovery | None = None
    holds: tuple[State, ...] = ()
    holds_unless: str | None = None
    yields_to: tuple[Trigger, ...] = ()
    guarded: bool = False
    unsaved: bool = False
    timeout: str | None = None
    at_once: bool = False
    by_place: bool = False
    unseen: str = ""
    needs: tuple[str, ...] = ()
    moves: bool = False
    options: tuple[str, ...] = ()
    command: str = ""
    example: str = "NAME"
    on_damage: str | None = None

    def leads_to(self, source: State) -> State:
        """Return the state after it, which for a row without a `dest` is the one before it."""
        return source if self.dest is None else self.dest

    @property
    def observed(self) -> bool:
        """True when nobody asks for it: it is noticed after the fact."""
        return self.by is By.nobody

    @property
    def recorded(self) -> bool:
        """True when it takes the lock and writes to the journal: it is carried out by the driver or the engine."""
        return bool(self.sources) and self.by in (By.driver, By.engine)

    @property
    def takes(self) -> tuple[str, ...]:
        """The arguments that it can be asked for with, each a keyword of `Engine.fire`."""
        waits = ("timeout_s",) if self.timeout else ()
        boots = ("keep_on_failure", "restart") if self.on_crash is Recovery.probe else ()
        return (*self.needs, *self.options, *waits, *boots)

    @property
    def appears(self) -> bool:
        """True when the instance's directory appears with it."""
        return State.absent in self.sources

    @property
    def vanishes(self) -> bool:
        """True when the instance's directory vanishes with it."""
        return self.dest is State.absent


# fmt: off
(create, start, stop, kill, suspend, exited, found, reset, delete, resume, provision, migrate, protect,
 unprotect, clone, fork, rename, edit, snapshot, restore, discard, shell, copy, repair) = Trigger
roll_back, probe, redo, abandon, let_run = Recovery

TABLE = (
    Row(create, (absent,),  created, doing="creating",  done="created", on_crash=roll_back,
        yields_to=(delete,), needs=("plan",), example="NAME --template debian",
        why="Turns a template into a spec and a disk. The only row that can see a template."),
    Row(start,  AT_REST,    running, doing="starting",  done="started", on_crash=probe,     holds=(running,),
        yields_to=(stop, kill), timeout="start_timeout_s", options=("cold",),
        why="Boots what create made, from the instance's own directory, and ends when the guest answers."),
    Row(stop,   (running,), stopped, doing="stopping",  done="stopped", on_crash=redo,      holds=AT_REST,
        yields_to=(kill,), timeout="stop_timeout_s", by_place=True,
        why="Asks the guest to shut down, and after a deadline ends it, saying that it did."),
    Row(kill,   (running,), stopped, doing="killing",   done="killed",  on_crash=redo,      holds=AT_REST,
        at_once=True, by_place=True,
        why="Ends the hypervisor at once: the way out when a guest no longer listens."),
    Row(suspend, (running,), stopped, doing="suspending", done="suspended", on_crash=let_run, holds=AT_REST,
        yields_to=(kill,), timeout="stop_timeout_s",
        why="Saves the guest's memory beside its disk and ends the hypervisor: the next start continues where it was."),
    Row(exited, (running,), stopped, by=By.nobody,      done="exited",
        why="The guest, the hypervisor or the host went down without being asked; the reason is recorded."),
    Row(found,  AT_REST,    running, by=By.nobody,      done="found running",
        why="Another program started the machine, as limactl can one of the driver lima."),
    Row(reset,  AT_REST,    created, doing="resetting", done="reset",   on_crash=redo,
        guarded=True,
        why="Replaces the disk by a fresh one of the same image and spec: the next start is a first boot again."),
    Row(delete, AT_REST,    absent,  doing="deleting",  done="deleted", on_crash=redo,      holds=(absent,),
        guarded=True,
        on_damage="With --force, every driver that could have made it ends what it finds, and the files are removed.",
        why="Removes all that the instance had. A running one must be stopped first, because its disk is in use."),
    Row(resume, (running,), None,   doing="resuming",  done="resumed", on_crash=abandon,
        holds_unless="resumable",
        why="Lets a paused guest continue. A full disk of the host's pauses it (make room first), or a signal does."),
    Row(provision, (running,), None, doing="provisioning", done="provisioned", on_crash=abandon,
        yields_to=(stop, kill), timeout="start_timeout_s",
        why="Re-runs the scripts of the first boot: after one has failed, or to repeat them."),
    Row(migrate, EXISTING, None, doing="migrating", done="migrated", on_crash=abandon,
        yields_to=(stop, kill), timeout="start_timeout_s", unseen="failover", options=("node", "failover"),
        why="Moves the instance to another node of its cluster. A guest that runs is moved as it runs."),
    Row(protect,   EXISTING, None, by=By.engine, doing="protecting",   done="protected",   on_crash=redo,
        why="Makes reset and delete impossible, with --force too, until unprotect."),
    Row(unprotect, EXISTING, None, by=By.engine, doing="unprotecting", done="unprotected", on_crash=redo,
        on_damage="The protection is removed, so that the instance can be deleted.",
        why="Removes the protection set by protect."),
    Row(clone, AT_REST, None, by=By.engine, doing="cloning", done="cloned", on_crash=abandon,
        unsaved=True, needs=("new",), options=("full",), example="NAME copy",
        why="Makes another instance with a copy of the disk and an identity of its own, by a create of that one."),
    Row(fork, (running,), None, by=By.engine, doing="forking", done="forked", on_crash=let_run,
        yields_to=(kill,), timeout="stop_timeout_s", needs=("new",), example="NAME copy",
        why="Makes copies of a running instance, each with an identity of its own: their start continues where it is."),
    Row(rename, AT_REST, None, by=By.engine, doing="renaming", done="renamed", on_crash=abandon,
        needs=("new",), moves=True, example="NAME new-name",
        why="Gives the instance another name. While it runs, its hypervisor is called by the old one."),
    Row(edit, EXISTING, None, by=By.engine, doing="editing", done="edited", on_crash=abandon,
        needs=("change",), example="NAME --cpus 4",
        why="Gives the instance other port forwards or a larger disk, at once if it runs, or other sizes later."),
    Row(snapshot, EXISTING, None, by=By.engine, doing="taking a snapshot of", done="took a snapshot of",
        on_crash=let_run, yields_to=(kill,), unsaved=True, timeout="stop_timeout_s", needs=("tag",),
        command="snapshot create", example="NAME before-upgrade",
        why="Keeps the disk as it is, and the memory of a guest that runs, to be restored later. The guest runs on."),
    Row(restore, AT_REST, None, by=By.engine, doing="restoring", done="restored", on_crash=redo,
        guarded=True, unsaved=True, needs=("tag",), options=("cold",),
        command="snapshot restore", example="NAME before-upgrade",
        why="Gives the instance the disk of a snapshot, and its memory if it has any. What was done since is gone."),
    Row(discard, AT_REST, None, by=By.engine, doing="discarding a snapshot of", done="discarded a snapshot of",
        on_crash=abandon, guarded=True, needs=("tag",), command="snapshot delete", example="NAME before-upgrade",
        why="Removes a snapshot. Those that came from it stay whole."),
    Row(shell, (running,), None, by=By.caller,
        why="Runs a command or a login shell in the guest."),
    Row(copy, (running,), None, by=By.caller, example="NAME:/etc/hostname .",
        why="Copies files between the host and the guest."),
    Row(repair, (), None, by=By.engine, doing="repairing", done="repaired", holds=EXISTING,
        on_damage="What can be read is kept, the rest is set aside, and the state is that of the last whole line.",
        why="Mends the instance's own files. An instance in one of the four states has nothing to repair."),
)
# fmt: on

BY_TRIGGER = {row.trigger: row for row in TABLE}
BY_PAIR = {(row.trigger, source): row for row in TABLE for source in row.sources}

BOOTS = next(row for row in TABLE if row.on_crash is probe)
"""The row by which a machine that is found alive becomes running."""


class Decision(StrEnum):
    """What is decided about a request."""

    legal = "legal"
    holds = "holds"
    """What it asks for is already so: it succeeds and does nothing."""
    illegal = "illegal"
    protected = "protected"
    memory_saved = "memory-saved"
    """Its disk may not be touched before the guest has continued from its saved memory."""
    out_of_reach = "out-of-reach"
    """The machine is alive where its process cannot be seen from here: nothing can be done to it."""


def gives_up(row: Row, state: State, *, alive: bool, saved: bool, protected: bool) -> bool:
    """Return whether `row`, cut short in `state`, is given up, so that the state stays: RULE, for the world as it is.

    `alive`: the machine runs; `saved`: its memory is saved; `protected`: it has been protected, which nobody could do
    before the operation was settled. That, or a machine at rest that is alive, tells of lines that were lost.
    """
    if alive and state is not State.running and row.on_crash is not Recovery.probe:
        return True
    match row.on_crash:
        case Recovery.roll_back | Recovery.abandon:
            return True
        case Recovery.probe:
            return not alive
        case Recovery.let_run:
            return not saved and (alive or state is not State.running)
        case Recovery.redo:
            return row.guarded and protected
    return False


def decide(
    row: Row, state: State, *, protected: bool = False, saved: bool = False, seen: "Observation | None" = None
) -> Decision:
    """Decide about a request for `row` of an instance in `state`; `seen` is what its driver sees, where it was asked.

    `saved`: its memory is saved.

    The one decision: the state machine's conditions, `interlock can`, `inspect` and the reference page ask it.
    """
    if seen is not None and seen.hidden and row.by in (By.driver, By.engine):
        return Decision.out_of_reach
    if state in row.holds:
        return Decision.holds
    if state not in row.sources:
        return Decision.illegal
    if row.holds_unless and seen is not None and not getattr(seen, row.holds_unless):
        return Decision.holds
    if row.guarded and protected:
        return Decision.protected
    return Decision.memory_saved if row.unsaved and saved else Decision.legal


def unasked(state: State) -> Row:
    """Return the row that is observed in `state` when the machine turns out to be otherwise: down, or alive."""
    return next(row for row in TABLE if row.observed and state in row.sources)


def legal(state: State) -> tuple[Row, ...]:
    """Return the rows that can be asked for in `state`, in the table's order."""
    return tuple(row for row in TABLE if state in row.sources and not row.observed)


def path(state: State, trigger: Trigger) -> tuple[Trigger, ...] | None:
    """Return the shortest sequence of requests after which `trigger` has been carried out, starting in `state`.

    The sequence ends with `trigger`; None when no sequence of requests leads to it. Where two are equally short,
    the one whose rows come first in the table wins, so a graceful `stop` is proposed before a `kill`. This is where
    the hints of refused transitions come from.
    """
    frontier: list[tuple[State, tuple[Trigger, ...]]] = [(state, ())]
    seen = {state}
    while frontier:
        reached: list[tuple[State, tuple[Trigger, ...]]] = []
        for here, taken in frontier:
            if (trigger, here) in BY_PAIR and not BY_TRIGGER[trigger].observed:
                return (*taken, trigger)
            for row in legal(here):
                if row.dest is not None and row.dest not in seen:
                    seen.add(row.dest)
                    reached.append((row.dest, (*taken, row.trigger)))
        frontier = reached
    return None
