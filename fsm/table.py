"""The transition table: the whole lifecycle of an instance, one row for each thing that can happen to it.

A row is the only place that defines a transition. Legality, `interlock can`, every message, recovery after a crash,
deadlines, the calls to the driver, the diagrams, the reference page and the exhaustive tests are derived from its
columns. To change the lifecycle, change a row and read the diff of the golden files.

    trigger     what happens
    sources     the states in which it is legal
    dest        the state that it leads to; None for a row that does not change the state, and is not drawn
    why         why the row exists, for people
    by          who does the work; see `By`
    doing,      the verbs of every message about it
    done
    on_crash    what recovery does if a crash cut it short; see `Recovery`
    holds       the states in which its goal is already met. A request then succeeds, says so and does nothing: a
                script that calls `stop` wants the machine down, no matter who stopped it. `create` holds nowhere,
                because an existing instance may differ from the requested one
    holds_unless  a field of `Observation`; if it is false in one of the sources, the goal is already met: a guest that
                is not paused need not be resumed
    yields_to   the triggers that call it off while it runs: `stop` must not wait for a guest that will not boot. Work
                that was called off fails as cancelled and is undone by its crash rule
    guarded     it destroys data of the guest, so it is refused while the instance is protected, even with --force
    unsaved     it changes or shares the disk, so it is refused while the guest's memory is saved, because that memory
                fits only the unchanged disk
    timeout     the spec's field that limits its work, in seconds; None for work that does not wait for a guest
    at_once     its caller does not wait for a guest: work that a dead process left is ended, not awaited
    by_place    its work needs only the instance's directory, and is done even if the spec cannot be read
    unseen      the option with which it is done even if nobody can tell whether the machine is alive, because it is
                the remedy for that: a cluster's node that is down does not say whether its machines run
    command     the command to type for it; empty if that is the trigger
    needs       the arguments that a request must have. `change` makes a new spec from the present one. `new` is the
                name of an instance that will appear; the engine passes it to the work locked and absent. For `fork`,
                `new` is a tuple of such names
    moves       it renames the instance's directory to the name `new`, by one rename: cut short before that, it is
                given up; after that, it is finished under the new name
    options     the optional arguments of a request. `cold`: ignore the saved memory, or that of the snapshot; `node`:
                the target; `failover`: leave a node that is down, so the guest boots.
                Besides these, a row that boots takes `keep_on_failure` and `restart` (`Engine.fire`)
    example     what to type after its command, as a hint shows it; NAME stands for the instance
    on_damage   what it does to an instance whose files cannot be understood; None if it is refused then

Only `create` leaves `absent`, and it is the only row that needs a plan: a template about to become a spec, or another
instance about to be copied. So `clone` is a row of the instance that is copied, and its work is the `create` of the
copy: the journal of the copy begins as every journal does, and no template is involved. `fork` does the same for each
copy of a running instance. `start` has no row from `absent`, so "a start that creates" need not be forbidden: the table
has no place for it.

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
    """Nobody: it is observed after the fact and takes no time."""


class Recovery(StrEnum):
    """What recovery does with an operation whose process died before it recorded an outcome."""

    roll_back = "roll back"
    probe = "probe"
    redo = "redo"
    abandon = "abandon"
    let_run = "let run"


RULE = {
    Recovery.roll_back: "What it left behind is removed; the state stays as it was.",
    Recovery.probe: "If the guest is up, the work is finished; if not, it is undone, and the state stays as it was.",
    Recovery.redo: "It is repeated from the beginning: each of its steps is safe to repeat.",
    Recovery.abandon: "It is given up: what it did stays done, the state stays as it was, and it can be tried again.",
    Recovery.let_run: "If the memory is saved, the work is finished. If not, a machine that is alive runs on, and "
    "the state stays as it was; if the instance ran and its machine is down, the exit is recorded.",
}
"""What each recovery does, for people."""


class Row(NamedTuple):
    """One transition, or other action, of an instance; the module's docstring explains the columns."""

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
        """Return the state after it; a row without a `dest` leaves the state as it is."""
        return source if self.dest is None else self.dest

    @property
    def observed(self) -> bool:
        """True for a row that nobody asks for: it is noticed after the fact."""
        return self.by is By.nobody

    @property
    def recorded(self) -> bool:
        """True if it takes the lock and writes to the journal, because the driver or the engine carries it out."""
        return bool(self.sources) and self.by in (By.driver, By.engine)

    @property
    def takes(self) -> tuple[str, ...]:
        """The arguments that a request for it may have, each a keyword of `Engine.fire`."""
        waits = ("timeout_s",) if self.timeout else ()
        boots = ("keep_on_failure", "restart") if self.on_crash is Recovery.probe else ()
        return (*self.needs, *self.options, *waits, *boots)

    @property
    def appears(self) -> bool:
        """True if it creates the instance's directory."""
        return State.absent in self.sources

    @property
    def vanishes(self) -> bool:
        """True if it removes the instance's directory."""
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
        why="Asks the guest to shut down. After a deadline it ends the guest by force, and says so."),
    Row(kill,   (running,), stopped, doing="killing",   done="killed",  on_crash=redo,      holds=AT_REST,
        at_once=True, by_place=True,
        why="Ends the hypervisor at once: the way out when a guest no longer listens."),
    Row(suspend, (running,), stopped, doing="suspending", done="suspended", on_crash=let_run, holds=AT_REST,
        yields_to=(kill,), timeout="stop_timeout_s",
        why="Saves the guest's memory beside its disk and ends the hypervisor: the next start continues from there."),
    Row(exited, (running,), stopped, by=By.nobody,      done="exited",
        why="The guest, the hypervisor or the host went down without a request; the reason is recorded."),
    Row(found,  AT_REST,    running, by=By.nobody,      done="found running",
        why="Another program started the machine, as limactl can start a machine of the driver lima."),
    Row(reset,  AT_REST,    created, doing="resetting", done="reset",   on_crash=redo,
        guarded=True,
        why="Replaces the disk with a fresh one from the same image and spec: the next start is a first boot again."),
    Row(delete, AT_REST,    absent,  doing="deleting",  done="deleted", on_crash=redo,      holds=(absent,),
        guarded=True,
        on_damage="With --force, every driver that could have made it ends its machine, and the files are removed.",
        why="Removes the instance with all its files. A running one must be stopped first: its disk is in use."),
    Row(resume, (running,), None,   doing="resuming",  done="resumed", on_crash=abandon,
        holds_unless="resumable",
        why="Lets a paused guest continue. A full disk on the host (make room first) or a signal can pause a guest."),
    Row(provision, (running,), None, doing="provisioning", done="provisioned", on_crash=abandon,
        yields_to=(stop, kill), timeout="start_timeout_s",
        why="Re-runs the scripts of the first boot: after one has failed, or to repeat them."),
    Row(migrate, EXISTING, None, doing="migrating", done="migrated", on_crash=abandon,
        yields_to=(stop, kill), timeout="start_timeout_s", unseen="failover", options=("node", "failover"),
        why="Moves the instance to another node of its cluster. A running guest keeps running during the move."),
    Row(protect,   EXISTING, None, by=By.engine, doing="protecting",   done="protected",   on_crash=redo,
        why="Refuses what destroys data, such as reset and delete, even with --force, until unprotect."),
    Row(unprotect, EXISTING, None, by=By.engine, doing="unprotecting", done="unprotected", on_crash=redo,
        on_damage="The protection is removed, so that the instance can be deleted.",
        why="Removes the protection set by protect."),
    Row(clone, AT_REST, None, by=By.engine, doing="cloning", done="cloned", on_crash=abandon,
        unsaved=True, needs=("new",), options=("full",), example="NAME copy",
        why="Makes another instance, with a copy of the disk and its own identity, by the create of that instance."),
    Row(fork, (running,), None, by=By.engine, doing="forking", done="forked", on_crash=let_run,
        yields_to=(kill,), timeout="stop_timeout_s", needs=("new",), example="NAME copy",
        why="Makes copies of a running instance, each with its own identity. Their start continues from there."),
    Row(rename, AT_REST, None, by=By.engine, doing="renaming", done="renamed", on_crash=abandon,
        needs=("new",), moves=True, example="NAME new-name",
        why="Gives the instance another name. Not while it runs, because its hypervisor keeps the old name."),
    Row(edit, EXISTING, None, by=By.engine, doing="editing", done="edited", on_crash=abandon,
        needs=("change",), example="NAME --cpus 4",
        why="Changes port forwards or enlarges the disk, even while it runs. Other sizes change at the next start."),
    Row(snapshot, EXISTING, None, by=By.engine, doing="taking a snapshot of", done="took a snapshot of",
        on_crash=let_run, yields_to=(kill,), unsaved=True, timeout="stop_timeout_s", needs=("tag",),
        command="snapshot create", example="NAME before-upgrade",
        why="Saves the disk, and the memory of a running guest, to be restored later. The guest keeps running."),
    Row(restore, AT_REST, None, by=By.engine, doing="restoring", done="restored", on_crash=redo,
        guarded=True, unsaved=True, needs=("tag",), options=("cold",),
        command="snapshot restore", example="NAME before-upgrade",
        why="Gives the instance a snapshot's disk, and its memory if it has any. All changes since then are lost."),
    Row(discard, AT_REST, None, by=By.engine, doing="discarding a snapshot of", done="discarded a snapshot of",
        on_crash=abandon, guarded=True, needs=("tag",), command="snapshot delete", example="NAME before-upgrade",
        why="Removes a snapshot. Snapshots that are based on it stay intact."),
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
"""The row by which an instance whose machine is found alive becomes running."""


class Decision(StrEnum):
    """The answer to a request."""

    legal = "legal"
    holds = "holds"
    """Its goal is already met: it succeeds and does nothing."""
    illegal = "illegal"
    protected = "protected"
    memory_saved = "memory-saved"
    """The disk must not be touched until the guest has continued from its saved memory."""
    out_of_reach = "out-of-reach"
    """The machine is alive, but its process is not visible from here, so nothing can be done to it."""


def gives_up(row: Row, state: State, *, alive: bool, saved: bool, protected: bool) -> bool:
    """Return whether `row`, cut short in `state`, is given up, so that the state stays as it was; this applies RULE.

    `alive`: the machine runs; `saved`: its memory is saved; `protected`: the instance has been protected, which nobody
    can do before the operation is settled. That, or a live machine at rest, means that journal lines were lost.
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
    """Decide about a request for `row` of an instance in `state`; `seen` is its driver's observation, if there is one.

    `saved`: its memory is saved.

    The only such decision: the state machine's conditions, `interlock can`, `inspect` and the reference page use it.
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
    """Return the row that is observed if the machine does not match `state`: it is down, or alive."""
    return next(row for row in TABLE if row.observed and state in row.sources)


def legal(state: State) -> tuple[Row, ...]:
    """Return the rows that can be requested in `state`, in the table's order."""
    return tuple(row for row in TABLE if state in row.sources and not row.observed)


def path(state: State, trigger: Trigger) -> tuple[Trigger, ...] | None:
    """Return the shortest sequence of requests after which `trigger` has been carried out, starting in `state`.

    The sequence ends with `trigger`; None if no sequence of requests leads to it. If two are equally short, the one
    whose rows come first in the table wins, so a graceful `stop` is proposed before a `kill`. The hints of refused
    transitions are made from this.
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
