"""Everything Interlock can do, for programs: the command line is one of them.

    from interlock import Interlock, Wishes

    vms = Interlock(on_event=lambda event: print(event.message))
    vms.create("web", "debian", Wishes(cpus=4))
    vms.start("web")
    print(vms.run("web", ["uname", "-a"]).text)
    vms.prune()

Beside the methods for instances there are `images`, `disks`, `templates` and `checks`. Every call may be made from
several threads and processes at once; `aio` makes it from asyncio. Errors are subclasses of `InterlockError`, and what
makes no sense is a UsageError. Nothing is printed, no signal is handled, and nothing of the process is changed.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import drivers
from .errors import DegradedError, DriverError, HostError, InterlockError, NotFoundError, UsageError
from .fsm import refusals
from .fsm.engine import Engine, Outcome
from .fsm.events import Announce, Event, quiet
from .fsm.journal import Entry
from .fsm.port import Draft, Plan, Site
from .fsm.records import AUTOSTART_FILE, Check, Mending, Status, checked_name
from .fsm.restarts import NEVER
from .fsm.snapshots import Snapshot, listed, place
from .fsm.status import Verdict, verdict
from .fsm.table import Trigger
from .fsm.words import NOTHING
from .host import cancellation
from .host.home import NAME, Home
from .host.progress import Report, unheard

if TYPE_CHECKING:
    from .creation.templates import Templates
    from .creation.wishes import Wishes
    from .disks import Disks
    from .drivers.contract import Driver, Found, Node
    from .fleet.applying import Fleet
    from .fsm.watch import Change
    from .guest.agent import Load
    from .guest.command import Completed
    from .guest.copying import Ask, Copying
    from .host.unneeded import Unneeded
    from .images.library import Images
    from .images.warm import WarmImage
    from .pruning import Pruning
    from .templates.load import Loaded


class Interlock:
    """The instances of one home: by default that of the environment, INTERLOCK_HOME first.

    `driver` runs what is created here without naming one: the name of an installed driver, by default that in
    INTERLOCK_DRIVER or `qemu`; or a driver, which then also stands in for the installed one of its name. `on_event`
    hears what transitions say; by default nobody does. It is called in the thread that does the work, under the
    instance's lock; what it raises calls the work off.

    With `dry_run` nothing is done: each call says what it would do, in `steps` of its outcome, and raises what would
    refuse it. What it would do is imagined from then on, so calls can follow one another. Snapshots that it would take
    are not among that.

        print(Interlock(dry_run=True).restart("web").steps)

    Where something else is under way on an instance, a call waits up to `wait_s` seconds for its end, then raises
    BusyError; what was asked for is judged by the state that the instance has then.

    Raises HostError for a home that others could write to. Nothing is made before something is created.
    """

    def __init__(
        self,
        home: Path | Home | None = None,
        *,
        driver: "str | Driver | None" = None,
        on_event: Announce = quiet,
        dry_run: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        _check_timeout(wait_s)
        if home is None:
            home = Home.from_environment()
        self.home = home if isinstance(home, Home) else Home.at(home)
        self.home.check()
        self.dry_run, self._wait_s = dry_run, wait_s
        self._driver, self._on_event = driver, on_event
        self.engine = self._engine(on_event)

    def _engine(self, on_event: Announce) -> Engine:
        if not self.dry_run:
            return Engine(self.home, self._find, on_event, self._wait_s)
        from .fsm.rehearsal import Rehearsal

        return Rehearsal(self.home, self._find, on_event)

    def _really(self, what: str) -> None:
        """Raise UsageError in a dry run, which has nothing to say about `what` and must not do it."""
        if self.dry_run:
            raise UsageError(f"a dry run cannot {what}")

    def _find(self, name: str | None = None) -> "Driver":
        """Return the driver called `name`, or the one that runs what is created without naming one."""
        given = self._driver
        if given is not None and not isinstance(given, str) and name in (None, given.name):
            return given
        return drivers.find(name or (given if isinstance(given, str) else None) or drivers.default())

    def fire(self, name: str, trigger: Trigger, *, on_event: Announce | None = None, **arguments: Any) -> Outcome:
        """Carry out `trigger` on `name`; `arguments` are those that its row takes. The methods below say more of each.

        `on_event` hears this call alone, beside the listener of all calls. Raises IllegalTransitionError,
        NotFoundError, BusyError, UsageError, and whatever the work raises.
        """
        try:
            outcome = self._heard_by(on_event).fire(name, trigger, **arguments)
        except DegradedError:  # it runs
            self._keep(name, trigger)
            raise
        self._keep(name, trigger)
        return outcome

    def _keep(self, name: str, trigger: Trigger) -> None:
        """Let a keeper look at `name` if `trigger` may have made it something to look at."""
        if self.dry_run or trigger not in (Trigger.start, Trigger.edit):
            return
        spec = self.engine.site(name).spec
        if spec.port_rules or spec.restart != NEVER:
            from .keeper.calls import call

            call(self.home)

    def _heard_by(self, on_event: Announce | None) -> Engine:
        """Return the engine as `on_event` hears it too."""
        if on_event is None or self.dry_run:  # what would be done is imagined in one place, and said by outcomes
            return self.engine

        def both(event: Event) -> None:
            self._on_event(event)
            on_event(event)

        return self._engine(both)

    # One method for each row that can be asked for.

    def create(
        self,
        name: str,
        template: "str | Mapping[str, Any] | Loaded",
        wishes: "Wishes | None" = None,
        *,
        driver: str | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Create `name` from `template`; it is not started.

        `template` is a built-in's name, a path, a URL, `-` for standard input; or the template itself: a text of
        several lines, a mapping of what such a text would hold, or what `templates` has read. Missing images are built
        or fetched, which can take minutes; with `wishes.warm`, a warm image is made, too. When this raises, nothing of
        the instance is left.
        """
        return self._created(name, template, wishes, driver=driver, on_event=on_event)

    def _created(
        self,
        name: str,
        template: "str | Mapping[str, Any] | Loaded",
        wishes: "Wishes | None",
        *,
        driver: str | None,
        on_event: Announce | None,
        beside: Mapping[str, bytes] = NOTHING,
    ) -> Outcome:
        """Create `name`, with the files `beside` in its directory: name → content."""
        template = self._warmed(name, template, wishes, driver, on_event)
        plan = self._plan(name, template, wishes, driver)

        def draft(report: Report) -> Draft:
            made = plan(report)
            return made._replace(materials={**made.materials, **beside})

        return self._heard_by(on_event).create(name, draft)

    def start(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        keep_on_failure: bool = False,
        cold: bool = False,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Boot `name` and return when its guest answers ssh and has finished its first boot.

        A guest whose memory is saved continues where it was, unless `cold` sets that aside.
        `keep_on_failure`: leave a guest that did not answer in time alive, to be looked at. DegradedError says that it
        runs, and what of its template failed in it.
        """
        asked = {"timeout_s": timeout_s, "keep_on_failure": keep_on_failure, "cold": cold}
        return self.fire(name, Trigger.start, on_event=on_event, **asked)

    def stop(self, name: str, *, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Shut the guest of `name` down; after `timeout_s` end it. `detail` of the outcome says which it was."""
        return self.fire(name, Trigger.stop, timeout_s=timeout_s, on_event=on_event)

    def kill(self, name: str) -> Outcome:
        """End the hypervisor of `name` at once, and a process that is suspended in the middle of work on `name`."""
        return self.fire(name, Trigger.kill, force=True)

    def suspend(self, name: str, *, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Save the memory of `name` beside its disk and end its hypervisor; the next `start` continues where it was.

        Raises DriverError where that cannot be done, and DeadlineError after `timeout_s`; the guest runs on then.
        """
        return self.fire(name, Trigger.suspend, timeout_s=timeout_s, on_event=on_event)

    def reset(self, name: str) -> Outcome:
        """Give `name` a fresh disk from the same image: everything its guest wrote is gone."""
        return self.fire(name, Trigger.reset)

    def delete(self, name: str, *, force: bool = False) -> Outcome:
        """Remove `name`. `force`: kill it first if it runs, and remove it even if its files cannot be understood."""
        if not force:
            return self.fire(name, Trigger.delete)
        status = self.status(name)
        if status.protected:
            raise refusals.guarded(name, Trigger.delete, force=True)  # before it is killed for nothing
        kill = verdict(status, Trigger.kill)
        if not status.damage and (kill.legal or kill.holds):
            with suppress(HostError):  # its driver is not installed any more
                self.fire(name, Trigger.kill, force=True)
        return self.fire(name, Trigger.delete, force=True)

    def resume(self, name: str) -> Outcome:
        """Let the guest of `name` go on, which a full disk of the host's or a signal had paused."""
        return self.fire(name, Trigger.resume)

    def provision(self, name: str, *, timeout_s: float | None = None) -> Outcome:
        """Run the scripts of the first boot of `name`, which runs, once more; raises DegradedError if one fails."""
        return self.fire(name, Trigger.provision, timeout_s=timeout_s)

    def migrate(
        self, name: str, node: str | None = None, *, failover: bool = False, timeout_s: float | None = None
    ) -> Outcome:
        """Move `name` to `node` of its cluster, or to one that the cluster chooses; a guest that runs continues there.

        `failover`: even if its node is down; its guest boots on the other one then. You vouch that the node does not
        run it any more: two nodes that write to one disk destroy it.
        """
        return self.fire(name, Trigger.migrate, node=node, failover=failover, timeout_s=timeout_s)

    def nodes(self, cluster: str) -> "list[Node]":
        """Return the nodes of `cluster`. Raises NotFoundError for one of which this home has no record."""
        from .drivers import clusters

        return self._find(clusters.driver(self.home, cluster)).nodes(self.home.root, cluster)

    def clusters(self) -> list[str]:
        """Return the names of the clusters of which this home has a record, sorted."""
        from .drivers import clusters

        return clusters.names(self.home)

    def on_node(self, cluster: str, node: str) -> list[str]:
        """Return the names of the instances of this home that `node` of `cluster` has."""
        return [
            status.name
            for status in self.instances()
            if status.spec and status.spec.cluster == cluster and status.observation and status.observation.node == node
        ]

    def clone(self, name: str, new: str, *, full: bool = False) -> Outcome:
        """Make `new`, a copy of `name`, which is at rest, with an identity of its own; it is not started.

        The two share what neither writes to any more; with `full` all of the disk is copied. The outcome is that of
        `name`. Raises IllegalTransitionError for a name that is taken, BusyError for one that something is done to.
        """
        return self.fire(name, Trigger.clone, new=new, full=full)

    def fork(self, name: str, *new: str, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Make each of `new`, a copy of `name`, which runs: their first start continues from where it is now.

        They are not started. The outcome is that of `name`, which stands still for a moment and keeps its connections.
        Raises DriverError where that cannot be done, and what `clone` does.
        """
        return self.fire(name, Trigger.fork, new=new, timeout_s=timeout_s, on_event=on_event)

    def rename(self, name: str, new: str) -> Outcome:
        """Call the instance `name`, which is at rest, `new`; the outcome is that of `new`.

        Its guest keeps the hostname that it has. Raises IllegalTransitionError for a name that is taken, BusyError for
        one that something is done to.
        """
        return self.fire(name, Trigger.rename, new=new)

    def edit(
        self,
        name: str,
        *edits: str,
        file: Path | None = None,
        shown: str | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Give `name` what `edits` say: `cpus=4`, `memory=2GiB`, `disk=20GiB`; a disk can only grow.

        `portForwards[]={hostPort: 8080, guestPort: 80}` adds a port forward, at once if `name` runs.
        `file` holds such a text as `editable` returns; the edits are applied to it. With `shown`, what it returned
        before somebody changed it, BusyError is raised if others have edited `name` since. All is checked before
        anything is touched; raises InvalidTemplateError with every mistake. Where nothing changes, nothing is written,
        and `changed` of the outcome is False.
        """
        from .creation.editing import change

        status = self.status(name)
        made = change(name, file, edits, shown)
        if status.spec and verdict(status, Trigger.edit).legal:
            edited = made(status.spec)
            if edited == status.spec:
                return Outcome(name, Trigger.edit, status.state, changed=False)
            self._find(edited.driver).check(edited)
        return self.fire(name, Trigger.edit, change=made, on_event=on_event)

    def editable(self, name: str) -> str:
        """Return what of `name` can be edited, as YAML, for `edit`; raises what refuses an edit."""
        from .creation.editing import text

        return text(name, self.engine.admit(name, Trigger.edit).spec)

    def snapshot(
        self, name: str, tag: str | None = None, *, timeout_s: float | None = None, on_event: Announce | None = None
    ) -> Outcome:
        """Keep the disk of `name`, and its memory if it runs, as the snapshot `tag`; by default, called after the time.

        One that runs stands still for a moment and keeps its connections; that must not take longer than `timeout_s`.
        `detail` of the outcome is the tag. Raises IllegalTransitionError for a tag that is taken, DriverError where
        the disk is damaged, or disk or memory cannot be kept.
        """
        chosen = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S") if tag is None else tag
        return self.fire(name, Trigger.snapshot, tag=chosen, timeout_s=timeout_s, on_event=on_event)

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of `name`, the oldest first."""
        return listed(self.engine.site(name).directory)

    def _snapshot(self, name: str, tag: str) -> Snapshot | None:
        """Return the snapshot `tag` of `name`; None where `name` has none, which what is asked for then says.

        Raises NotFoundError for an unknown tag of an instance that is alive: to stop it first would not help.
        """
        found = next((it for it in self.snapshots(name) if it.tag == tag), None)
        if found is None and verdict(self.status(name), Trigger.kill).legal:
            raise refusals.no_snapshot(name, tag)
        return found

    def discard(self, name: str, tag: str) -> Outcome:
        """Remove the snapshot `tag` of `name`, which is at rest; those that came from it stay whole."""
        self._snapshot(name, tag)
        return self.fire(name, Trigger.discard, tag=tag)

    def protect(self, name: str) -> Outcome:
        """Make `reset` and `delete` of `name` impossible, with `force` too, until `unprotect`."""
        return self.fire(name, Trigger.protect)

    def unprotect(self, name: str) -> Outcome:
        """Take `protect` back; of a damaged instance too, so that it can be removed."""
        return self.fire(name, Trigger.unprotect)

    def repair(self, name: str) -> Mending:
        """Fix what is damaged in the files of `name`; raises DamagedError where only its removal is left."""
        outcome = self.fire(name, Trigger.repair)
        return Mending(name, outcome.state, outcome.mended)

    def adoptable(self, driver: str = "lima") -> "dict[str, Found]":
        """Return the machines that another program keeps, and that are no instances yet, by name.

        That program is asked once: who adopts several gives `adopt` what this returned.
        """
        return {machine.name: machine for machine in self._found(driver)}

    def adopt(self, which: "str | Found", driver: str = "lima", *, on_event: Announce | None = None) -> Outcome:
        """Take a machine that another program keeps as an instance of its name; it is not changed.

        It is a `create` whose plan names a machine that exists. `delete` gives it back. Raises NotFoundError where
        there is no such machine, HostError where it cannot be adopted.
        """
        name = which if isinstance(which, str) else which.name
        machine = self.adoptable(driver).get(name) if isinstance(which, str) else which
        if machine is None:
            known = self.home.exists(checked_name(name))
            raise NotFoundError(
                f'"{name}" is already an instance' if known else f'driver "{driver}" finds no machine "{name}"',
                hint=f"interlock inspect {name}" if known else "interlock doctor",
            )
        if machine.spec is None:
            raise HostError(machine.why_not, hint=machine.hint)
        draft = Draft(machine.spec, dict(machine.materials))
        return self._heard_by(on_event).create(checked_name(name), lambda _: draft)

    def _found(self, driver: str) -> "list[Found]":
        ours = []
        for name in self.engine.names():
            with suppress(InterlockError):  # it is damaged, or on its way in or out
                ours.append(self.engine.site(name))
        return self._find(driver).found([site for site in ours if site.spec.driver == driver])

    def autostart(self, name: str, *, enabled: bool = True) -> bool:
        """Let `name` start when its user logs in, or not any more; return whether that is new. Nothing is started now.

        Raises NotFoundError.
        """
        self._really("enable or disable autostart")
        from .autostart import change

        if not self.home.exists(checked_name(name)):
            raise self.engine.not_found(name)
        return change(self.home, self.home.directory(name) / AUTOSTART_FILE, enabled=enabled)

    # Sequences of rows; they own no state.

    def fleet(self, file: "str | Path | Mapping[str, Any]") -> "Fleet":
        """Return the fleet that `file` describes: a path, `-` for standard input, or what such a file holds.

        Its `status` says what is not as the file says, its `apply` makes it so. Raises NotFoundError, and
        InvalidTemplateError with every mistake in the file and its place.
        """
        from .fleet.applying import Fleet

        def rehearse() -> Interlock:
            return Interlock(self.home, driver=self._driver, dry_run=True)

        return Fleet(self, file, create=self._created, rehearse=rehearse)

    def fleets(self) -> "dict[str, list[Status]]":
        """Return the instances that `apply` of a fleet created, by the name of the fleet."""
        from .fleet.applying import members

        found: dict[str, list[Status]] = {}
        for fleet, status in members(self):
            found.setdefault(fleet, []).append(status)
        return dict(sorted(found.items()))

    def warm(
        self,
        image: str,
        *,
        arch: str | None = None,
        cpus: int | None = None,
        memory_bytes: int | None = None,
        disk_bytes: int | None = None,
        driver: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        report: Report = unheard,
        on_event: Announce | None = None,
    ) -> "WarmImage | None":
        """Return the warm image of `image` for machines of that size, made now if there is none, or with `force`.

        Instances that are created later with that size begin from it: their first start is no boot. Sizes are by
        default those of the built-in template that is called like the image. A machine is booted once for it, as the
        instance `warming-IMAGE`, which is deleted again. Raises NotFoundError, ImageError for an image that cannot be
        warmed, HostError, and what `start` raises. A `dry_run` makes none, reports what would be done, and returns None
        unless there is one.
        """
        self._really("make a warm image, which takes a running machine")
        from .creation.warming import make
        from .creation.wishes import Wishes

        found, sizes = self.images.get(image, arch), Wishes(cpus=cpus, memory_bytes=memory_bytes, disk_bytes=disk_bytes)
        driven = self._find(driver)
        return make(self._heard_by(on_event), driven, found, sizes, report, force=force, dry_run=dry_run)

    def restart(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        keep_on_failure: bool = False,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Stop `name` if it runs, then start it as `start` does."""
        self.stop(name, on_event=on_event)
        return self.start(name, timeout_s=timeout_s, keep_on_failure=keep_on_failure, on_event=on_event)

    def restore(
        self,
        name: str,
        tag: str,
        *,
        cold: bool = False,
        timeout_s: float | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Give `name` the disk of its snapshot `tag`, and if that has memory, the guest, which continues there.

        What its guest did since is gone. With memory in the snapshot, `name` may run: it is killed first; and `start`
        lets the guest continue: the outcome is that of `start`, which `timeout_s` is for. With `cold` the disk alone
        comes back. Raises NotFoundError for an unknown tag, ProtectedError while `name` is protected, DriverError for
        a snapshot that is damaged, or whose memory does not fit the machine any more: nothing has changed then.
        """
        snapshot, status = self._snapshot(name, tag), self.status(name)
        if status.saved and not cold and self._is_restored(name, tag):  # who did it got no further
            return self.start(name, timeout_s=timeout_s, on_event=on_event)
        if snapshot and snapshot.memory_bytes and not cold and verdict(status, Trigger.kill).legal:
            if status.protected:
                raise refusals.guarded(name, Trigger.restore)
            site = self.engine.site(name)
            self._find(site.spec.driver).examine(site, place(site.directory, tag), unheard, cold=cold)
            self.fire(name, Trigger.kill, on_event=on_event)
        restored = self.fire(name, Trigger.restore, tag=tag, cold=cold, on_event=on_event)
        if self.status(name).saved:
            return self.start(name, timeout_s=timeout_s, on_event=on_event)
        return restored

    def _is_restored(self, name: str, tag: str) -> bool:
        """Return whether the last thing that was done to `name`, but for starts, was to give it the snapshot `tag`."""
        *_, last = (entry for entry in self.engine.history(name) if entry.trigger != Trigger.start)
        return last.trigger == Trigger.restore and last.phase == "done" and (last.asked or {}).get("tag") == tag

    def up(
        self,
        name: str,
        template: "str | Mapping[str, Any] | Loaded | None",
        wishes: "Wishes | None" = None,
        *,
        driver: str | None = None,
        timeout_s: float | None = None,
        keep_on_failure: bool = False,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Create `name` from `template` if it is absent, then start it as `start` does.

        An existing one needs no template; one that another process is creating is waited for.
        """
        if template is not None and verdict(self.status(name), Trigger.create).legal:
            template = self._warmed(name, template, wishes, driver, on_event)
            plan = self._plan(name, template, wishes, driver)
            self._heard_by(on_event).create(name, plan, if_absent=True)
        return self.start(name, timeout_s=timeout_s, keep_on_failure=keep_on_failure, on_event=on_event)

    @contextmanager
    def throwaway(
        self,
        template: "str | Mapping[str, Any] | Loaded",
        wishes: "Wishes | None" = None,
        *,
        driver: str | None = None,
        timeout_s: float | None = None,
        on_event: Announce | None = None,
    ) -> Iterator[str]:
        """Yield the name of a new instance from `template`, which runs; it is removed at the end, whatever happens.

            with vms.throwaway("tiny") as vm:
                vms.run(vm, ["uname", "-a"])

        A process that is killed leaves it behind. Its name begins with `throwaway-`.
        """
        self._really("yield a guest")
        name = f"throwaway-{os.urandom(6).hex()}"
        try:
            self.up(name, template, wishes, driver=driver, timeout_s=timeout_s, on_event=on_event)
            yield name
        finally:
            with cancellation.shielded():
                self.delete(name, force=True)

    def _warmed(
        self,
        name: str,
        template: "str | Mapping[str, Any] | Loaded",
        wishes: "Wishes | None",
        driver: str | None,
        on_event: Announce | None,
    ) -> "str | Mapping[str, Any] | Loaded":
        """Return `template`, read if a warm image is wished for, which is there then.

        Where `name` cannot be created none is made: the creation says so.
        """
        if wishes is None or not wishes.warm or self.dry_run or not verdict(self.status(name), Trigger.create).legal:
            return template
        from .creation.plan import read
        from .creation.warming import ensure
        from .templates.load import Loaded

        loaded = template if isinstance(template, Loaded) else read(self.home, template, wishes.edits)
        ensure(self._heard_by(on_event), self._find(driver), loaded, wishes, unheard)
        return loaded

    def _plan(
        self, name: str, template: "str | Mapping[str, Any] | Loaded", wishes: "Wishes | None", driver: str | None
    ) -> Plan:
        from .creation.plan import plan, rehearsed
        from .creation.wishes import Wishes

        checked_name(name)
        make = rehearsed if self.dry_run else plan
        return make(self.home, name, template, self._find(driver), wishes or Wishes())

    # Reading.

    def instances(self) -> Iterator[Status]:
        """Yield the status of every instance, by name, the damaged too."""
        return self.engine.statuses()

    def status(self, name: str) -> Status:
        """Return all that is known of `name`; an unknown name is `absent`."""
        return self.engine.status(name)

    def load(self, name: str) -> "Load | None":
        """Return how busy the guest of `name`, which runs, says it is; None where it says nothing in two seconds."""
        site = self.engine.admit(name, Trigger.shell)
        return self._find(site.spec.driver).load(site)

    def history(self, name: str) -> Iterator[Entry]:
        """Yield what happened to `name`, oldest first."""
        return self.engine.history(name)

    def can(self, name: str) -> list[Verdict]:
        """Return what the table allows `name` now, and for what it does not, why."""
        return self.engine.verdicts(name)

    def watch(
        self, names: Collection[str] = (), *, since: str | int | None = None, until: Callable[[], bool] = lambda: False
    ) -> "Iterator[Change]":
        """Yield what happens to the instances `names`, or to all, in any process: from now on, or from `since`.

        `since` is a time (UTC, ISO 8601), or for one instance the number of a line of its history: a program that was
        away asks for what it has missed. Nothing is left out that the journals still hold. Waits for what comes next;
        ends when `until`, which is asked some times a second, says so.
        """
        from .fsm.watch import Watch

        _check_since(since, names)
        return Watch(self.home, self.engine, names, since).changes(until)

    def wait_for(self, name: str, condition: str = "ready", *, timeout_s: float | None = None) -> Status:
        """Return the status of `name` once it meets the condition, no matter which process brings that about.

        `condition` is a state, with nothing in progress, or `ready` (running, nothing wrong) or `degraded`. Raises
        NotFoundError for an instance that does not exist, DeadlineError after `timeout_s` seconds.
        """
        from .fsm.waiting import CONDITIONS, wait

        if condition not in CONDITIONS:
            raise UsageError(f"{condition!r}: expected one of {', '.join(CONDITIONS)}")
        checked_name(name)
        _check_timeout(timeout_s)
        return wait(lambda: self.status(name), condition, timeout_s, self.engine.not_found)

    # The guest.

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        input: bytes | str | int = b"",  # noqa: A002 - as subprocess.run calls it
        timeout_s: float | None = None,
        workdir: str | None = None,
        shell: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Completed":
        """Run `argv` in the guest of `name`, which runs, and return how it ended and what it said, whatever its status.

        Its arguments arrive as they are, and no shell reads them; it begins in the user's home, or in `workdir`. Its
        `input` is what is given, or what the descriptor of that number has; `shell` and `environment` are those of the
        method `shell`.
        Raises DeadlineError after `timeout_s` seconds, when it finds its streams closed, and DriverError for an output
        of more than 64 MiB. Where the guest cannot be reached, the status is 255, as ssh's is.
        """
        from .guest.ssh import within

        if isinstance(argv, str | bytes) or not argv or any("\0" in word for word in argv):
            raise UsageError(f"expected a program and its arguments, as a list of texts without NUL, found {argv!r}")
        _check_timeout(timeout_s)
        site = self.engine.admit(name, Trigger.shell)
        stdin = input.encode() if isinstance(input, str) else input
        line = within(argv, workdir=workdir, shell=shell, environment=environment)
        return self._find(site.spec.driver).run(site, line, stdin=stdin, timeout_s=timeout_s)

    def shell(
        self,
        name: str,
        command: Sequence[str] = (),
        *,
        terminal: bool = False,
        workdir: str | None = None,
        shell: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        """Return the host's command line that runs `command`, or a login shell, in the guest of `name`, which runs.

        `workdir` is a folder of the guest's to run it in, `shell` the program that is to read it, or to be the shell,
        and `environment` has variables that it finds; they are on the command line, where others may read them.
        """
        from .guest.ssh import within

        site, driver = self._entrance(name, Trigger.shell)
        line = within(command, workdir=workdir, shell=shell, environment=environment)
        return driver.shell(site, line, terminal=terminal)

    def ssh_config(self, name: str) -> Path:
        """Return the ssh_config(5) by which `ssh -F FILE NAME` reaches the guest of `name`, which runs."""
        site, driver = self._entrance(name, Trigger.shell)
        return driver.ssh_config(site)

    def tunnel(self, name: str, port: int | None, local_port: int | str) -> Sequence[str]:
        """Return the host's command line that leads TCP `local_port` of 127.0.0.1 to `port` of the guest of `name`.

        In the place of `local_port` may stand the path of a socket. Without `port`, a SOCKS proxy listens there, which
        connects to wherever the guest can.
        """
        from .guest.ssh import tunnel_line

        site, driver = self._entrance(name, Trigger.shell)
        return tunnel_line(driver.ssh_config(site), name, local_port, port)

    def _entrance(self, name: str, trigger: Trigger) -> "tuple[Site, Driver]":
        """Return the place of `name`, in whose state `trigger` is legal, and its driver, which has a shell."""
        site = self.engine.admit(name, trigger)
        driver = self._find(site.spec.driver)
        driver.check_shell()
        return site, driver

    def copy(self, *paths: str, recursive: bool = False, backend: str = "auto", timeout_s: float | None = None) -> None:
        """Copy all `paths` but the last to that one; folders if `recursive`. `copying` says what paths may be.

        Raises DriverError with the words of the program where it fails, DeadlineError after `timeout_s` seconds.
        """
        from .guest.command import completed

        _check_timeout(timeout_s)
        line = self.copy_line(*paths, recursive=recursive, backend=backend)
        done = completed(line, line[0], timeout_s=timeout_s)
        if done.status:
            raise DriverError(f"cannot copy {', '.join(paths[:-1])} to {paths[-1]}", details=done.words)

    def copy_line(self, *paths: str, recursive: bool = False, backend: str = "auto") -> Sequence[str]:
        """Return the host's command line that does what `copy` does."""
        return self.copying(*paths, recursive=recursive, backend=backend).line

    def copying(self, *paths: str, recursive: bool = False, backend: str = "auto", measured: bool = False) -> "Copying":
        """Return how all `paths` but the last are copied to that one, by which program; if `measured`, how much it is.

        `NAME:PATH` is a path in the guest of the instance NAME, which runs; relative ones begin at its user's home. A
        path of the host's with a colon in its first part is written `./a:b`. Any of them may be in a guest, also of
        different ones; raises UsageError if none is. `backend` is `auto`, `rsync` or `scp`. Raises UsageError for a
        folder without `recursive`.
        """
        from .guest.copying import Backend, Place, copying

        if backend not in set(Backend):
            raise UsageError(f"backend {backend!r}: expected {', '.join(Backend)}")
        guests = sorted({guest for path in paths if (guest := guest_of(path))})
        if len(paths) < 2 or not guests:  # noqa: PLR2004 - a source and the target
            raise UsageError(
                "copy takes one or more paths and a destination; at least one of them must be in a guest, "
                "written NAME:PATH",
                hint="interlock copy --help",
            )
        ssh, ask = self._into(guests)
        places = [Place(guest_of(path), path.partition(":")[2] if guest_of(path) else path) for path in paths]
        return copying(places, ssh, ask, recursive=recursive, backend=Backend(backend), measured=measured)

    def _into(self, guests: Sequence[str]) -> "tuple[list[str], Ask]":
        """Return how copies get into `guests`: ssh with its options, and what runs a command there."""
        from .guest.ssh import config_of_several

        ways = {guest: self._entrance(guest, Trigger.copy) for guest in guests}
        configs = [driver.ssh_config(site) for site, driver in ways.values()]
        config = configs[0] if len(configs) == 1 else config_of_several(ways[guests[0]][0].runtime, configs)

        def ask(guest: str, command: Sequence[str], timeout_s: float) -> "Completed":
            site, driver = ways[guest]
            return driver.run(site, command, timeout_s=timeout_s)

        return ["ssh", "-F", str(config)], ask

    def logs(self, name: str) -> dict[str, Path]:
        """Return the log files of `name` by name: `serial`, `qemu`."""
        site = self.engine.site(name)
        return self._find(site.spec.driver).logs(site)

    # What instances are made of. Each is loaded when it is used: who starts machines pays for none of it.

    @property
    def images(self) -> "Images":
        """The images that instances are created from: list, obtain, build, import, delete."""
        self._really("work on images")
        from .images.library import Images

        return Images(self.home)

    @property
    def disks(self) -> "Disks":
        """The disks that outlive instances: list, create, import, resize, delete."""
        self._really("work on disks")
        from .disks import Disks

        return Disks(self.home)

    @property
    def templates(self) -> "Templates":
        """The templates that instances are created from: list, show, validate, resolve."""
        from .creation.templates import Templates

        return Templates(self.home, self._find)

    def unneeded(self, kinds: "Collection[str] | None" = None) -> "list[Unneeded]":
        """Return what nothing needs: images without instances, partial downloads, old logs, sockets of what is gone.

        `kinds` are those to look for: `image`, `download`, `leftover`, `log`, `runtime`; by default all.
        """
        from .host.unneeded import KINDS

        return self._pruning().unneeded(KINDS if kinds is None else kinds)

    def prune(self, found: "Iterable[Unneeded] | None" = None, report: Report = unheard) -> "list[Unneeded]":
        """Remove what `unneeded` found, by default all that it finds now, and return what was removed.

        What has come into use since stays.
        """
        self._really("prune: `unneeded` says what that would remove")
        return self._pruning().remove(self.unneeded() if found is None else found, report)

    def _pruning(self) -> "Pruning":
        from .pruning import Pruning

        return Pruning(self.home, self.engine, self._find)

    def checks(self) -> Iterator[Check]:
        """Yield what Interlock needs of this host: whether it is there, and the command that installs or fixes it."""
        return checks(self.home)


def _check_timeout(timeout_s: float | None) -> None:
    if timeout_s is not None and not timeout_s >= 0:  # NaN is not
        raise UsageError(f"timeout must be a number of seconds ≥ 0, not {timeout_s}")


def _check_since(since: str | int | None, names: Collection[str]) -> None:
    if isinstance(since, int) and len(names) != 1:
        raise UsageError(f"line {since}: the number of a line is only valid for a single instance")
    if isinstance(since, str):
        from datetime import datetime

        try:
            datetime.fromisoformat(since)
        except ValueError as error:
            raise UsageError(f"{since!r}: expected a time, ISO 8601, or the number of a line") from error


def guest_of(path: str) -> str | None:
    """Return the instance in whose guest `path` lies: NAME of `NAME:PATH`; None for a path of the host's."""
    name, colon, _ = path.partition(":")
    return name if colon and NAME.fullmatch(name) else None


def checks(home: Home | None = None) -> Iterator[Check]:
    """Yield what `Interlock.checks` does; `home`, by default the environment's, need not be usable."""
    from .checks import checks as found

    return found(home or Home.from_environment())
