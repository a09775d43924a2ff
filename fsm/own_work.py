"""What the engine does itself: the work of the rows that are `By.engine`, on the files that it keeps of an instance.

Each is called with the instance, under its lock, a report, a deadline if its row has one, and what its row
takes. It returns how it ended, in words. What a machine is made of is the driver's, which is asked for its part.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import HostError
from ..host.files import flush, flush_directory, remove_tree, write_whole
from ..host.progress import Report
from . import refusals, snapshots, words
from .causes import as_error
from .journal import Journal
from .port import Change, Deadline, Draft, Site
from .records import FORKED, PROTECTED_FILE, Effects, is_protected
from .spec import SPEC_FILE
from .states import State
from .table import Trigger

if TYPE_CHECKING:
    from .instance import Instance


def clone(instance: "Instance", _: Report, *, new: "Instance", full: bool = False) -> str:
    """Carry out `clone`: create `new` as a copy of the machine of `instance`. Its lock is held, and it is absent."""
    _copy_to(instance, new, f"clone of {instance.name}", full=full)
    return words.copied_to(new.name)


def fork(instance: "Instance", report: Report, deadline: Deadline, *, new: Sequence["Instance"]) -> str:
    """Carry out `fork`: catch one moment of the machine of `instance`, which runs on, and create each of `new` from it.

    Their locks are held, and they are absent. Where one of them fails, those before it stay, and the error names them.
    """
    instance.port.catch(instance.site, report, deadline)
    made: list[str] = []
    for copy in new:
        try:
            _copy_to(instance, copy, f"fork of {instance.name}", live=True)
        except Exception as error:
            problem = as_error(error)
            problem.details = (*problem.details, *([words.copied_to(*made)] if made else []))
            raise problem from error
        made.append(copy.name)
    remove_tree(instance.directory / FORKED)
    return words.copied_to(*made)


def _copy_to(instance: "Instance", new: "Instance", origin: str, *, full: bool = False, live: bool = False) -> None:
    """Create `new`, which is absent, as a copy of the machine of `instance`."""
    from .identity import copied

    original = instance.site
    spec = copied(original.spec, origin, new.name, original.directory, instance.home.directory(new.name))
    new.fire(Trigger.create, plan=lambda _: Draft(spec, {}, original=original, full=full, live=live))


def rename(instance: "Instance", report: Report, *, new: "Instance | None" = None, former: str | None = None) -> str:
    """Carry out `rename`: move to `new`, whose lock is held and which is absent, or finish a move from `former`.

    The directory goes there by one rename, after which the instance has that name and no other. Then what it says
    of its own place follows; until that is recorded, the next who looks does it again.
    """
    from .identity import moved

    if new:
        former = instance.name
        place = Site(new.name, new.directory, instance.home.sockets(new.name), instance.site.spec)
        instance.port.move(instance.site, place, report)
        remove_tree(instance.home.sockets(instance.name))
        flush(Journal(instance.directory).path)  # steps are not
        instance.directory.replace(new.directory)
        instance.name, instance.directory = new.name, new.directory
        flush_directory(instance.home.instances)
    spec = moved(instance.directory, instance.home.directory(str(former)))
    if spec is not None:
        write_whole(instance.directory / SPEC_FILE, spec)
    return words.renamed(str(former), instance.name)


def edit(instance: "Instance", report: Report, *, change: Change) -> str:
    """Carry out `edit`: put the spec that `change` makes in the place of the one that is.

    The disk grows first, so it is never smaller than the spec says; a larger one does no harm. The forwards of a
    machine that runs change before the spec is written: who asks again, asks for what is not so yet.
    """
    site, running = instance.site, instance.state is State.running
    edited = site._replace(spec=change(site.spec))
    if edited.spec.disk_bytes > site.spec.disk_bytes:
        instance.port.grow(edited, report)
    if edited.spec.mounts != site.spec.mounts:
        instance.port.remount(edited)
    if running and edited.spec.forwards != site.spec.forwards:
        instance.port.forward(edited, site.spec.forwards, report)
    write_whole(instance.directory / SPEC_FILE, edited.spec.over(instance.directory))
    return words.edited(site.spec, edited.spec, running=running)


def snapshot(instance: "Instance", report: Report, deadline: Deadline, *, tag: str) -> str:
    """Carry out `snapshot`: it is there once its folder has its name."""
    with snapshots.taken(instance.directory, tag) as draft:
        draft.memory_bytes = instance.port.keep(instance.site, draft.place, report, deadline)
    return tag


def restore(instance: "Instance", report: Report, *, tag: str, cold: bool = False) -> str:
    """Carry out `restore`. While the disk is being put back, nobody knows which snapshot it comes from.

    Nor does anybody where that fails, which the error says: the disk may be the snapshot's and the memory not yet.
    """
    place = snapshots.place(instance.directory, tag)
    instance.port.examine(instance.site, place, report, cold=cold)
    snapshots.point_nowhere(instance.directory)
    try:
        instance.port.put_back(instance.site, place, report, cold=cold)
    except Exception as error:
        problem = as_error(error)
        problem.details = (*problem.details, words.half_restored(tag))
        problem.hint = problem.hint or words.typed(instance.name, Trigger.restore, {"tag": tag})
        raise problem from error
    snapshots.point(instance.directory, tag)
    return tag


def discard(instance: "Instance", report: Report, *, tag: str) -> str:
    """Carry out `discard`: the snapshot vanishes by one rename."""
    report("removing its files")
    snapshots.discard(instance.directory, tag)
    return tag


def protect(instance: "Instance", _: Report) -> None:
    """Carry out `protect`: a file of its own says so, which no damage to another file undoes."""
    write_whole(instance.directory / PROTECTED_FILE, b"")


def unprotect(instance: "Instance", _: Report) -> None:
    """Carry out `unprotect`."""
    remove_tree(instance.directory / PROTECTED_FILE)
    flush_directory(instance.directory)


OWN_WORK: dict[Trigger, Callable[..., str | None]] = {
    Trigger.clone: clone,
    Trigger.fork: fork,
    Trigger.rename: rename,
    Trigger.edit: edit,
    Trigger.snapshot: snapshot,
    Trigger.restore: restore,
    Trigger.discard: discard,
    Trigger.protect: protect,
    Trigger.unprotect: unprotect,
}
"""What the engine does itself, by trigger. A test holds it against the table."""


def _edited(site: Site, state: State, *, change: Change) -> Effects:
    return Effects(notes=(words.edited(site.spec, change(site.spec), running=state is State.running),))


EFFECTS: dict[Trigger, Callable[..., Effects]] = {
    Trigger.edit: _edited,
    Trigger.snapshot: lambda site, _, tag: Effects(appear=(f"{snapshots.place(site.directory, tag)}/",)),
    Trigger.discard: lambda site, _, tag: Effects(vanish=(f"{snapshots.place(site.directory, tag)}/",)),
    Trigger.protect: lambda *_: Effects(appear=(PROTECTED_FILE,)),
    Trigger.unprotect: lambda site, _: Effects(vanish=(PROTECTED_FILE,) if is_protected(site.directory) else ()),
}
"""What that work does to an instance at its site, in its state, where no column of its row says so: for a dry run."""


def _tag_is_free(site: Site, *, tag: str) -> None:
    if os.path.lexists(snapshots.place(site.directory, tag)):
        raise refusals.tag_taken(site.name, tag)


def _tag_is_known(site: Site, *, tag: str) -> None:
    if not snapshots.place(site.directory, tag).is_dir():
        raise refusals.no_snapshot(site.name, tag)


def _is_made_by_its_spec(site: Site, **_: object) -> None:
    """Refuse where another program keeps the machine, which would not hear of another spec."""
    if keeper := site.spec.kept_by:
        raise HostError(
            f'the machine of "{site.name}" is kept by {keeper}; edit it there', hint=f"{keeper} edit {site.name}"
        )


CONDITIONS: dict[Trigger, Callable[..., None]] = {
    Trigger.edit: _is_made_by_its_spec,
    Trigger.snapshot: _tag_is_free,
    Trigger.restore: _tag_is_known,
    Trigger.discard: _tag_is_known,
}
"""What must hold of what the row needs before anything begins, by trigger; raises the refusal where it does not."""
