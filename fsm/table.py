"""The transition table: the whole lifecycle of an instance, one row for each thing that can happen to it.

Rules of this file:
- A row says which trigger is legal in which states, where it leads, what its messages call it, what recovery does
  when a crash cut it short, and why the row exists. Nothing else in the tree knows which transition is legal.
- Legality, `interlock can`, every message, recovery after a crash, the diagrams, the reference page and the
  exhaustive tests are derived from these rows. To change the lifecycle, change a row and read the golden files' diff.
- Only `create` leaves `absent`, and it is the only transition whose work is handed a plan (a template on its way to
  becoming a spec). `start` has no row from `absent`, so "start that creates" is not forbidden: it has no place to be
  written down.
- A row whose `dest` is None changes something and not the state; it is not drawn.
- `guarded` rows destroy what a guest wrote, and are refused while the instance is protected. That is the one thing
  beside the state that legality depends on, and `--force` does not overrule it.
- No wildcards and no priorities. Two rows may not share a (trigger, source) pair; a test lints this.
- `holds` names the states in which what the trigger asks for is already so. Asking again then succeeds, says so and
  does nothing, because a script that says `stop` wants it not to run, whoever stopped it. `create` holds nowhere:
  an existing instance need not be the one that was asked for.
- `holds_unless` names the fact of an `Observation` without which what the trigger asks for is already so in its
  sources: a guest that is not paused cannot be resumed. Asking then succeeds, says so and does nothing, as above.
- `yields_to` names the triggers that call it off while it runs: a guest that will not boot must not make `stop` wait.
  What was called off fails as cancelled, is undone by its crash rule, and the caller goes on from there.
- `exited` is observed, never requested: nobody asks a guest to have powered itself off. Such a row has no `doing`
  (it takes no time), hence needs no crash rule.
"""

from enum import StrEnum
from typing import NamedTuple

from .states import AT_REST, EXISTING, State

absent, created, running, stopped = State


class Trigger(StrEnum):
    """What can happen to an instance: imperatives are asked for, past tenses are observed."""

    create = "create"
    start = "start"
    stop = "stop"
    kill = "kill"
    exited = "exited"
    reset = "reset"
    delete = "delete"
    resume = "resume"
    provision = "provision"
    protect = "protect"
    unprotect = "unprotect"


class Recovery(StrEnum):
    """What is done about an operation whose process died before it wrote an outcome."""

    roll_back = "roll back"
    probe = "probe"
    redo = "redo"
    abandon = "abandon"


RULE = {
    Recovery.roll_back: "What it left behind is removed; the instance is in the state it came from.",
    Recovery.probe: "If the guest is up, it is finished; else it is undone, and the state is the one it came from.",
    Recovery.redo: "It is done again from the beginning: every step of it is safe to repeat.",
    Recovery.abandon: "It is given up: what it did stays done, the state is the same, and whoever wants it asks again.",
}
"""What each recovery does, in words."""


class Row(NamedTuple):
    """One thing that can happen: `trigger` is legal in each of `sources` and leads to `dest`, or nowhere else."""

    trigger: Trigger
    sources: tuple[State, ...]
    dest: State | None
    why: str
    doing: str | None = None
    done: str = ""
    on_crash: Recovery | None = None
    holds: tuple[State, ...] = ()
    yields_to: tuple[Trigger, ...] = ()
    guarded: bool = False
    holds_unless: str | None = None

    def leads_to(self, source: State) -> State:
        """Return the state after it, which for a row without a `dest` is the one before it."""
        return source if self.dest is None else self.dest

    def already(self, state: State, seen: object) -> bool:
        """Return whether what it asks for is so in `state`, where the driver sees `seen`: an `Observation`, or None."""
        unseen = self.holds_unless is not None and seen is not None and not getattr(seen, self.holds_unless)
        return state in self.holds or (state in self.sources and unseen)

    @property
    def observed(self) -> bool:
        """True when nobody asks for it: it is noticed after the fact."""
        return self.doing is None


create, start, stop, kill, exited, reset, delete, resume, provision, protect, unprotect = Trigger
roll_back, probe, redo, abandon = Recovery

# fmt: off
TABLE = (
    Row(create, (absent,),  created, doing="creating",  done="created", on_crash=roll_back,
        yields_to=(delete,),
        why="Turns a template into a spec and a disk. The only row that can see a template."),
    Row(start,  AT_REST,    running, doing="starting",  done="started", on_crash=probe,     holds=(running,),
        yields_to=(stop, kill),
        why="Boots what create made, from the instance's own directory, and ends when the guest answers."),
    Row(stop,   (running,), stopped, doing="stopping",  done="stopped", on_crash=redo,      holds=AT_REST,
        yields_to=(kill,),
        why="Asks the guest to shut down, and after a deadline ends it, saying that it did."),
    Row(kill,   (running,), stopped, doing="killing",   done="killed",  on_crash=redo,      holds=AT_REST,
        why="Ends the hypervisor at once: the way out when a guest no longer listens."),
    Row(exited, (running,), stopped,                    done="exited",
        why="The guest, the hypervisor or the host went down without being asked; the reason is recorded."),
    Row(reset,  AT_REST,    created, doing="resetting", done="reset",   on_crash=redo,
        guarded=True,
        why="Throws the disk away for a fresh one of the same image and spec: the first boot lies ahead again."),
    Row(delete, AT_REST,    absent,  doing="deleting",  done="deleted", on_crash=redo,      holds=(absent,),
        guarded=True,
        why="Removes all that the instance had. A running one must be stopped first, lest its disk vanish."),
    Row(resume, (running,), None,   doing="resuming",  done="resumed", on_crash=abandon,
        holds_unless="resumable",
        why="Lets a guest go on that was paused: by a full disk of the host's, once there is room, or by a signal."),
    Row(provision, (running,), None, doing="provisioning", done="provisioned", on_crash=abandon,
        yields_to=(stop, kill),
        why="Runs the scripts again that the first boot ran: after one failed, or when they are to be repeated."),
    Row(protect,   EXISTING, None,   doing="protecting",   done="protected",   on_crash=redo,
        why="Makes reset and delete impossible, with --force too, until it is taken back."),
    Row(unprotect, EXISTING, None,   doing="unprotecting", done="unprotected", on_crash=redo,
        why="Takes protect back."),
)
# fmt: on

BY_TRIGGER = {row.trigger: row for row in TABLE}
BY_PAIR = {(row.trigger, source): row for row in TABLE for source in row.sources}


def legal(state: State) -> tuple[Row, ...]:
    """Return the rows that lead out of `state` on request, in the table's order."""
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
