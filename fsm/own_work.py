"""The work that the engine does itself: the rows that are `By.engine`, on the engine's own files of an instance.

Each function is called under the instance's lock, with the instance, a report, a deadline if its row has one, and the
arguments of its row. It returns a description of how it ended. The files of the machine are left to the driver.
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
    """Carry out `clone`: create `new`, which is absent and whose lock is held, as a copy of `instance`'s machine."""
    _copy_to(instance, new, f"clone of {instance.name}", full=full)
    return words.copied_to(new.name)


def fork(instance: "Instance", report: Report, deadline: Deadline, *, new: Sequence["Instance"]) -> str:
    """Carry out `fork`: catch one moment of the running machine of `instance`, and create each of `new` from it.

    Each of `new` is absent, and its lock is held. If one copy fails, the earlier ones stay, and the error names them.
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
    """Carry out `rename`: move to `new`, which is absent and whose lock is held, or finish a move from `former`.

    The directory is moved by one rename, after which the instance has only the new name. Then the paths in its spec are
    adjusted; until the outcome is recorded, the next process that settles the instance repeats that.
    """
    from .identity import moved

    if new:
        former = instance.name
        place = Site(new.name, new.directory, instance.home.sockets(new.name), instance.site.spec)
        instance.port.move(instance.site, place, report)
        remove_tree(instance.home.sockets(instance.name))
        flush(Journal(instance.directory).path)  # `step` lines are not flushed
        instance.directory.replace(new.directory)
        instance.name, instance.directory = new.name, new.directory
        flush_directory(instance.home.instances)
    spec = moved(instance.directory, instance.home.directory(str(former)))
    if spec is not None:
        write_whole(instance.directory / SPEC_FILE, spec)
    return words.renamed(str(former), instance.name)


def edit(instance: "Instance", report: Report, *, change: Change) -> str:
    """Carry out `edit`: replace the spec by the one that `change` makes of it.

    The disk grows first, so it is never smaller than the spec says; a larger one does no harm. The port forwards of a
    running machine change before the spec is written, so an edit that is repeated after a crash still has work to do.
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
    """Carry out `snapshot`: the snapshot exists once its folder has its final name."""
    with snapshots.taken(instance.directory, tag) as draft:
        draft.memory_bytes = instance.port.keep(instance.site, draft.place, report, deadline)
    return tag


def restore(instance: "Instance", report: Report, *, tag: str, cold: bool = False) -> str:
    """Carry out `restore`. While the disk is being replaced, it is not recorded as based on any snapshot.

    If that fails, it stays so, and the error says so: the disk may be the snapshot's already, and the memory not yet.
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
    """Carry out `discard`: one rename makes the snapshot vanish."""
    report("removing its files")
    snapshots.discard(instance.directory, tag)
    return tag


def protect(instance: "Instance", _: Report) -> None:
    """Carry out `protect` with a separate file, so that damage to another file does not end the protection."""
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
"""Trigger → the function that does its work. A test compares this with the table."""


def _edited(site: Site, state: State, *, change: Change) -> Effects:
    return Effects(notes=(words.edited(site.spec, change(site.spec), running=state is State.running),))


EFFECTS: dict[Trigger, Callable[..., Effects]] = {
    Trigger.edit: _edited,
    Trigger.snapshot: lambda site, _, tag: Effects(appear=(f"{snapshots.place(site.directory, tag)}/",)),
    Trigger.discard: lambda site, _, tag: Effects(vanish=(f"{snapshots.place(site.directory, tag)}/",)),
    Trigger.protect: lambda *_: Effects(appear=(PROTECTED_FILE,)),
    Trigger.unprotect: lambda site, _: Effects(vanish=(PROTECTED_FILE,) if is_protected(site.directory) else ()),
}
"""Trigger → for a dry run, the effects of its work on an instance that the columns of its row do not show."""


def _tag_is_free(site: Site, *, tag: str) -> None:
    if os.path.lexists(snapshots.place(site.directory, tag)):
        raise refusals.tag_taken(site.name, tag)


def _tag_is_known(site: Site, *, tag: str) -> None:
    if not snapshots.place(site.directory, tag).is_dir():
        raise refusals.no_snapshot(site.name, tag)


def _is_made_by_its_spec(site: Site, **_: object) -> None:
    """Refuse if another program keeps the machine, because that program would not notice the new spec."""
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
"""Trigger → a check of the arguments that its row needs, before the work begins; it raises the refusal."""
