"""All sentences about a transition, composed from its row.

`sentence` is the only place where the engine's events become English; `refusal`, `way` and `busy` are the words of its
errors, `status` those of a status line. No other module writes a sentence about a transition, and no function here
chooses a verb: verbs come from the table.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..host.process import Actor, suspended
from ..host.sizes import exact
from . import table
from .happening import Happening
from .records import HIDDEN, OpenPort, Operation, Status, Step, seconds_since
from .restarts import TRIES
from .states import State
from .table import BY_TRIGGER, Trigger

if TYPE_CHECKING:
    from .events import Event
    from .spec import Forward, Mount, Spec

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""The arguments of a trigger if they are unknown."""

_SHOWN = 4
"""How many ports a line names at most."""

SENTENCES = {
    Happening.begun: '{doing} "{name}"',
    Happening.step: '{doing} "{name}": {step}',
    Happening.done: '{done} "{name}" in {took}{why}',
    Happening.degraded: '{done} "{name}" in {took}, degraded{why}',
    Happening.observed: '"{name}" {done}{why}',
    Happening.failed: '{doing} "{name}" failed after {took}; it is {source}',
    Happening.left: '{doing} "{name}" failed after {took}{why}',
    Happening.holds: '"{name}" is {source}: nothing to {trigger}',
    Happening.joined: 'pid {pid} is already {doing} "{name}"; waiting for it',
    Happening.preempted: '{doing} "{name}": cancelling the {detail} of pid {pid}',
    Happening.suspended: '{doing} "{name}": pid {pid} is suspended; kill -CONT {pid} (or fg) resumes it',
    Happening.interrupted: '{doing} "{name}" was cut short{by}; recovering it',
    Happening.undone: '{doing} "{name}" was undone; it is {source}',
}

GIVEN_UP = '{doing} "{name}" was given up, and what it did stays done; it is {source}'
"""The sentence for `undone` if the row does not move the instance: its work may even be complete, with only the outcome
missing."""


def sentence(event: "Event") -> str:
    """Return the line that a person reads for `event`, without a full stop."""
    row = event.row
    given_up = event.happening is Happening.undone and row.dest is None
    return (GIVEN_UP if given_up else SENTENCES[event.happening]).format(
        name=event.instance,
        trigger=event.trigger,
        doing=row.doing,
        done=row.done,
        source=event.source,
        step=event.step,
        detail=event.detail,
        pid=event.pid,
        by=f" when pid {event.pid} ended" if event.pid else "",
        took=duration(event.elapsed_s or 0.0),
        why=f": {event.detail}" if event.detail else "",
    )


def refusal(instance: str, state: State, trigger: Trigger) -> str:
    """Return why `trigger` is refused: the state, and where it would be legal."""
    sources = BY_TRIGGER[trigger].sources
    only = " only" if len(sources) == 1 else ""
    return f'instance "{instance}" is {state}; {trigger} is legal from {listed(sources)}{only}'


def guarded(instance: str, trigger: Trigger) -> str:
    """Return why `trigger` is refused although the state would allow it."""
    return f'instance "{instance}" is protected; {trigger} was not begun'


def memory_saved(instance: str, trigger: Trigger) -> str:
    """Return why `trigger` is refused although the state would allow it."""
    return f'the saved memory of instance "{instance}" fits only its present disk; {trigger} was not begun'


def way_from_memory(instance: str, trigger: Trigger, asked: Mapping[str, Any] = NOTHING) -> str:
    """Return the command to propose for `trigger` while the memory is saved: the guest has to shut down first."""
    continued = table.BOOTS.trigger
    return f"{typed(instance, continued)} && {way(instance, State.running, trigger, asked=asked)}"


def way(
    instance: str, state: State, trigger: Trigger, *, protected: bool = False, asked: Mapping[str, Any] = NOTHING
) -> str:
    """Return the command to propose for `trigger` in `state`, with the `unprotect` that a `protected` instance needs.

    `asked` are the arguments of the request.
    The shortest sequence of commands that ends with `trigger`. If the instance is absent, it is `create`, because the
    name may be mistyped. If every sequence would destroy the instance to make another of that name, it is the command
    that shows the instance.
    """
    if state is State.absent:
        return typed(instance, Trigger.create)
    path = table.path(state, trigger)
    if path and not any(BY_TRIGGER[step].dest is State.absent for step in path[:-1]):
        unprotect = [Trigger.unprotect] if protected and any(BY_TRIGGER[step].guarded for step in path) else []
        steps = [typed(instance, step) for step in (*path[:-1], *unprotect)]
        return " && ".join([*steps, typed(instance, trigger, asked)])
    return look(instance)


LIST = "interlock list"
"""The command to propose to users who do not know which instances exist."""


def look(instance: str) -> str:
    """Return the command that shows everything known about an instance."""
    return f"interlock inspect {instance}"


def first(instance: str) -> str:
    """Return the command that creates a first instance."""
    return typed(instance, Trigger.create)


def out_of_reach(instance: str, trigger: Trigger) -> str:
    """Return why `trigger` cannot be carried out from here."""
    return f'instance "{instance}" runs, but {HIDDEN}; {trigger} was not begun'


def untold(cause: str) -> str:
    """Return the condition of a machine of which it is unknown whether it is alive."""
    return f"cannot tell whether it runs: {cause}"


def backing_off(restart: int, seconds: float) -> str:
    """Return the step in which a restart waits because the machine has failed."""
    return f"restart {restart} of {TRIES}" + (f", in {duration(seconds)}" if seconds else "")


def restarted(restart: int) -> str:
    """Return why an instance was started although nobody requested it."""
    return f"restart {restart} of {TRIES} after a failure"


def given_up(reason: str) -> str:
    """Return why a machine is down and is not restarted."""
    return f"{reason}; given up after {TRIES} restarts"


def failover(name: str) -> str:
    """Return the command that starts an instance on another node, because its own does not respond."""
    return f"interlock cluster failover {name}"


def started_by(keeper: str) -> str:
    """Return why a machine that belongs to the program `keeper` is alive."""
    return f"started by {keeper}"


def missing(instance: str) -> str:
    """Return the words for a name that no instance has."""
    return f'there is no instance "{instance}"'


def repair(instance: str) -> str:
    """Return the command to propose for a damaged instance."""
    return f"interlock repair {instance}"


def remove(instance: str, *, protected: bool = False) -> str:
    """Return the command that removes an instance, whatever is wrong with it."""
    unprotect = f"{typed(instance, Trigger.unprotect)} && " if protected else ""
    return f"{unprotect}{typed(instance, Trigger.delete)} --force"


def made_private(path: Path, mode: int) -> str:
    """Return what was wrong with the permissions of `path` before the repair."""
    return f"{path} had mode {mode:03o}; now only its owner has access"


def set_aside(count: int, kept: Path) -> str:
    """Return that lines of the journal could not be read, and where they are kept."""
    return f"{count} {'line' if count == 1 else 'lines'} of the journal could not be read; kept in {kept}"


def missing_lines(first: int, last: int) -> str:
    """Return which numbers are missing among the journal's lines."""
    return f"missing from the journal: {f'line {first}' if first == last else f'lines {first} to {last}'}"


def repaired(instance: str, state: State, mended: tuple[str, ...]) -> str:
    """Return the result of a repair."""
    return f'"{instance}" is {"repaired" if mended else "not damaged: nothing to repair"}; it is {state}'


def copied(original: str, *, live: bool = False) -> str:
    """Return how the creation of a copy ended."""
    return f'a {"fork" if live else "clone"} of "{original}"'


def copied_to(*new: str) -> str:
    """Return how a clone or a fork ended."""
    names = ", ".join(f'"{name}"' for name in new)
    return f"{'the copy is' if len(new) == 1 else 'the copies are'} {names}"


def renamed(former: str, name: str) -> str:
    """Return how a rename ended."""
    return f'from "{former}" to "{name}"'


def moved(former: str, name: str) -> str:
    """Return the words for the former name of the instance that is now called `name`."""
    return f'{missing(former)} any more; it was renamed to "{name}"'


def edited(before: "Spec", after: "Spec", *, running: bool) -> str:
    """Return how an edit ended: what it changed, and when that takes effect."""
    sized = {"memory_bytes": "memory", "disk_bytes": "disk"}
    parts: list[str] = []
    ways: list[str] = []
    for field in before._fields:
        old, new = getattr(before, field), getattr(after, field)
        if field == "port_rules":  # the static ones follow from the forwards
            same = [it for it in old if it.act != "static"] == [it for it in new if it.act != "static"]
            ways += ["other rules for ports that open in the guest"] * (not same)
        elif field == "restart":
            ways += [f"restart {old} → {new}"] * (old != new)
        elif field == "forwards":
            gone, come = (
                sorted(_way(it) for it in these if it not in those) for these, those in ((old, new), (new, old))
            )
            ways += [f"no longer {_some(gone)}"] * bool(gone) + [_some(come)] * bool(come)
        elif field == "mounts":
            gone, come = (
                sorted(_folder(it) for it in these if it not in those) for these, those in ((old, new), (new, old))
            )
            parts += [f"no longer mounts {_some(gone)}"] * bool(gone) + [f"mounts {_some(come)}"] * bool(come)
            parts += ["mounts in another order"] * (old != new and not gone and not come)
        elif old != new:
            shown = exact if field in sized else str
            at_once = ways if field == "disk_bytes" else parts
            at_once.append(f"{sized.get(field, field)} {shown(old)} → {shown(new)}")
    if running and ways:
        later = f"; at the next start {', '.join(parts)}" if parts else ""
        return f"{', '.join(ways)}, at once{later}"
    return f"{', '.join(parts + ways)}; takes effect at the next start" if parts or ways else "nothing changed"


def edited_since(instance: str) -> str:
    """Return why an edit is not applied that was open in an editor."""
    return f'"{instance}" was edited by others while its text was open in the editor; nothing was changed'


def _folder(mount: "Mount") -> str:
    """Return a mount as people write it: `/src → /mnt (read-only)`."""
    at = "" if mount.mount_point == mount.location else f" → {mount.mount_point}"
    return f"{mount.location}{at} ({'writable' if mount.writable else 'read-only'})"


def _some(names: list[str]) -> str:
    """Return the first of `names` and how many more there are."""
    shown, more = names[:_SHOWN], len(names) - _SHOWN
    return ", ".join([*shown, f"{more} more"] if more > 0 else shown)


def _way(forward: "Forward") -> str:
    """Return a forward as people write it: `127.0.0.1:8080 → 80/tcp`."""
    host = forward.host_socket or f"{forward.host_ip}:{forward.host_port}"
    guest = forward.guest_socket or f"{forward.guest_port}/{forward.proto}"
    return f"{guest} → {host}" if forward.reverse else f"{host} → {guest}"


def taken(new: str, trigger: str) -> str:
    """Return why `trigger` cannot make an instance called `new`."""
    return f'instance "{new}" already exists; {trigger} needs a name that is free'


def tag_taken(instance: str, tag: str) -> str:
    """Return why no other snapshot can be called `tag`."""
    return f'"{instance}" already has a snapshot "{tag}"'


def no_snapshot(instance: str, tag: str) -> str:
    """Return the words for a tag that no snapshot has."""
    return f'"{instance}" has no snapshot "{tag}"'


def half_restored(tag: str) -> str:
    """Return the warning after a restore that failed while it was changing the machine."""
    return f'its disk may already be that of the snapshot "{tag}"; restoring it again completes that'


def snapshots(instance: str) -> str:
    """Return the command that lists the snapshots of an instance."""
    return f"interlock snapshot list {instance}"


def busy(instance: str, trigger: str, operation: Operation | None, holder: Actor | None = None) -> str:
    """Return why `trigger` has to wait: `holder` holds the instance, for `operation` if that is known."""
    by = operation.actor if operation else holder
    halted = operation.suspended if operation else holder and suspended(holder)
    who = f"pid {by.pid}{', which is suspended' if halted else ''}" if by else "another process"
    if operation is None:
        return f'instance "{instance}" is held by {who}; {trigger} was not begun'
    doing, age = BY_TRIGGER[operation.trigger].doing, duration(seconds_since(operation.since))
    return f'{doing} "{instance}" has been under way for {age} ({who}); {trigger} was not begun'


def status(what: Status) -> str:
    """Return the status line, with all that is known: `starting · waiting for ssh · 4 s`."""
    if what.damage:
        return f"{what.state if what.newer else 'unreadable' if what.unreadable else 'damaged'} · {what.damage}"
    operation, seen = what.operation, what.observation
    if working := what.under_way:
        age = duration(seconds_since(working.since))
        suspended = f"suspended (pid {working.actor.pid})" if working.suspended else None
        parts = [BY_TRIGGER[working.trigger].doing, working.step, suspended, age]
    elif operation:
        at = f" at: {operation.step}" if operation.step else ""
        parts = [what.state, f"{operation.trigger} cut short{at}", "guest alive" if seen and seen.alive else None]
    else:
        saved, guarded = "memory saved" if what.saved else None, "protected" if what.protected else None
        opened = ports(seen.ports) if seen else None
        parts = [what.state, seen.condition if seen else None, opened, saved, what.reason, guarded]
    return " · ".join(part for part in parts if part)


def ports(opened: tuple[OpenPort, ...]) -> str | None:
    """Return which ports lead into the guest, and why others do not: `ports 3000, 8080 → 80`; None if none opened."""
    there = [_port(port) for port in opened if not port.problem]
    shown = [f"port{'s' * (len(there) > 1)} {', '.join(there)}"] if there else []
    return " · ".join([*shown, *(port.problem for port in opened if port.problem)]) or None


def _port(port: OpenPort) -> str:
    return str(port.host_port) if port.host_port == port.guest_port else f"{port.host_port} → {port.guest_port}"


def duration(seconds: float) -> str:
    """Return `seconds` as people say them: `0.4 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 1 h`."""
    if seconds < 9.95:  # noqa: PLR2004 - below that, tenths matter
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


STILL_ALIVE = "its machine is alive, although nothing records a start"
"""The remark of a dry run about an instance that the next request would find running."""


def cut_short(row: table.Row) -> str:
    """Return the remark of a dry run about work of a dead process, which any request would settle first."""
    return f"it was cut short. {table.RULE[row.on_crash] if row.on_crash else ''}".rstrip()


def would_call_off(operation: Operation) -> str:
    """Return the remark of a dry run about work of another process that the request would end."""
    return f"calls off the {operation.trigger} of pid {operation.actor.pid}"


def foreseen(step: Step) -> str:
    """Return the line of a dry run for `step`: `dry run: start web: stopped → running`."""
    command = BY_TRIGGER[step.trigger].command or step.trigger
    return f"dry run: {command} {step.instance}: {step.source} → {step.dest}"


def typed(instance: str, trigger: Trigger, asked: Mapping[str, Any] = NOTHING) -> str:
    """Return the command for `trigger`, with the arguments `asked`, or else with those of the row's example."""
    row = BY_TRIGGER[trigger]
    given = [word for need in row.needs for word in _words(asked.get(need))]
    arguments = " ".join([instance, *given]) if given else row.example.replace("NAME", instance)
    return f"interlock {row.command or trigger} {arguments}"


def _words(value: Any) -> list[str]:
    """Return `value`, a text or one or more instances, as it is typed; [] for a value that cannot be typed."""
    import shlex  # not imported above, because `list` does not need it

    if isinstance(value, list | tuple):
        return [word for one in value for word in _words(one)]
    text = value if isinstance(value, str) else getattr(value, "name", None)
    return [shlex.quote(text)] if isinstance(text, str) else []


def listed(states: tuple[State, ...]) -> str:
    """Return the states as a list in words: `created and stopped`."""
    return " and ".join(part for part in (", ".join(states[:-1]), states[-1]) if part)
