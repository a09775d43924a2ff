"""The Python API: everything Interlock can do. The command line is one of the programs that use it.

    from interlock import Interlock, Wishes

    vms = Interlock(on_event=lambda event: print(event.message))
    vms.create("web", "debian", Wishes(cpus=4))
    vms.start("web")
    print(vms.run("web", ["uname", "-a"]).text)
    vms.prune()

Besides the methods for instances there are `images`, `disks`, `templates` and `checks`. Every call may be made from
several threads and processes at once; `aio` makes it from asyncio. Errors are subclasses of `InterlockError`; a request
that makes no sense raises a UsageError. The API prints nothing, handles no signals and leaves the process as it is.
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
    """The instances of one home; the default home is the one that the environment names, INTERLOCK_HOME first.

    `driver` runs the instances that are created without naming a driver. It is the name of an installed driver, by
    default INTERLOCK_DRIVER or `qemu`; or a driver object, which also replaces the installed driver of the same name.
    `on_event` is called with each event of a transition, in the thread that does the work and under the lock of the
    instance; if it raises an exception, the work is cancelled.

    With `dry_run` nothing is done: each call returns what it would do, in `steps` of its outcome, and raises the error
    that would refuse it. Later calls assume that earlier ones were carried out, so a sequence of calls can be tried;
    only snapshots are not remembered.

        print(Interlock(dry_run=True).restart("web").steps)

    If another operation on the instance is in progress, a call waits up to `wait_s` seconds for it to end, then raises
    BusyError. Whether the request is legal is decided afterwards, by the state that the instance has then.

    Raises HostError for a home that other users could write to. Creating this object creates no files.
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
        """Raise UsageError in a dry run, because a dry run cannot foresee `what` and must not do it."""
        if self.dry_run:
            raise UsageError(f"a dry run cannot {what}")

    def _find(self, name: str | None = None) -> "Driver":
        """Return the driver called `name`, or the default driver of new instances."""
        given = self._driver
        if given is not None and not isinstance(given, str) and name in (None, given.name):
            return given
        return drivers.find(name or (given if isinstance(given, str) else None) or drivers.default())

    def fire(self, name: str, trigger: Trigger, *, on_event: Announce | None = None, **arguments: Any) -> Outcome:
        """Carry out `trigger` on `name`; `arguments` are those that its row takes. The methods below describe each one.

        `on_event` receives the events of this call only, in addition to the listener of all calls. Raises
        IllegalTransitionError, NotFoundError, BusyError, UsageError, and whatever the work raises.
        """
        try:
            outcome = self._heard_by(on_event).fire(name, trigger, **arguments)
        except DegradedError:  # the instance is running
            self._keep(name, trigger)
            raise
        self._keep(name, trigger)
        return outcome

    def _keep(self, name: str, trigger: Trigger) -> None:
        """Call the keeper if `trigger` may have given it something to do for `name`."""
        if self.dry_run or trigger not in (Trigger.start, Trigger.edit):
            return
        spec = self.engine.site(name).spec
        if spec.port_rules or spec.restart != NEVER:
            from .keeper.calls import call

            call(self.home)

    def _heard_by(self, on_event: Announce | None) -> Engine:
        """Return an engine that announces its events to `on_event` too."""
        if on_event is None or self.dry_run:  # one engine keeps what was imagined; outcomes report it, not events
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

        `template` is the name of a built-in, a path, a URL, or `-` for standard input; or the template itself: a text
        of several lines, a mapping with the same keys, or what `templates` has read. Missing images are built or
        downloaded, which can take minutes; with `wishes.warm`, a warm image is made, too. If this raises, nothing of
        the instance is left behind.
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
        """Create `name`, with the additional files `beside` in its directory: name → content."""
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

        A guest whose memory is saved continues where it was, unless `cold` sets that memory aside.
        `keep_on_failure`: do not end a guest that did not answer in time, so that it can be examined. Raises
        DegradedError if the guest is running but something in it failed, such as a script of its template.
        """
        asked = {"timeout_s": timeout_s, "keep_on_failure": keep_on_failure, "cold": cold}
        return self.fire(name, Trigger.start, on_event=on_event, **asked)

    def stop(self, name: str, *, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Shut the guest of `name` down, or end it after `timeout_s`; `detail` of the outcome says which happened."""
        return self.fire(name, Trigger.stop, timeout_s=timeout_s, on_event=on_event)

    def kill(self, name: str) -> Outcome:
        """End the hypervisor of `name` at once, and also a suspended process that still holds the lock of `name`."""
        return self.fire(name, Trigger.kill, force=True)

    def suspend(self, name: str, *, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Save the memory of `name` beside its disk and end its hypervisor; the next `start` continues where it was.

        Raises DriverError if the memory cannot be saved, and DeadlineError after `timeout_s`; the guest then runs on.
        """
        return self.fire(name, Trigger.suspend, timeout_s=timeout_s, on_event=on_event)

    def reset(self, name: str) -> Outcome:
        """Give `name` a fresh disk from the same image; everything that its guest wrote is lost."""
        return self.fire(name, Trigger.reset)

    def delete(self, name: str, *, force: bool = False) -> Outcome:
        """Remove `name`. With `force`, kill it first if it is running, and remove it even if it is damaged."""
        if not force:
            return self.fire(name, Trigger.delete)
        status = self.status(name)
        if status.protected:
            raise refusals.guarded(name, Trigger.delete, force=True)  # before it is killed needlessly
        kill = verdict(status, Trigger.kill)
        if not status.damage and (kill.legal or kill.holds):
            with suppress(HostError):  # its driver is no longer installed
                self.fire(name, Trigger.kill, force=True)
        return self.fire(name, Trigger.delete, force=True)

    def resume(self, name: str) -> Outcome:
        """Let the paused guest of `name` continue: a full disk on the host or a signal can pause a guest."""
        return self.fire(name, Trigger.resume)

    def provision(self, name: str, *, timeout_s: float | None = None) -> Outcome:
        """Re-run the scripts of the first boot in the running instance `name`; raises DegradedError if one fails."""
        return self.fire(name, Trigger.provision, timeout_s=timeout_s)

    def migrate(
        self, name: str, node: str | None = None, *, failover: bool = False, timeout_s: float | None = None
    ) -> Outcome:
        """Move `name` to `node` of its cluster, or to a node that the cluster chooses; a running guest keeps running.

        `failover`: move it even if its node is down; its guest then boots on the other node. Be sure that the old node
        no longer runs it: two nodes that write to one disk destroy it.
        """
        return self.fire(name, Trigger.migrate, node=node, failover=failover, timeout_s=timeout_s)

    def nodes(self, cluster: str) -> "list[Node]":
        """Return the nodes of `cluster`. Raises NotFoundError if this home has no record of the cluster."""
        from .drivers import clusters

        return self._find(clusters.driver(self.home, cluster)).nodes(self.home.root, cluster)

    def clusters(self) -> list[str]:
        """Return the names of the clusters that have a record in this home, sorted."""
        from .drivers import clusters

        return clusters.names(self.home)

    def on_node(self, cluster: str, node: str) -> list[str]:
        """Return the names of the instances of this home that are on `node` of `cluster`."""
        return [
            status.name
            for status in self.instances()
            if status.spec and status.spec.cluster == cluster and status.observation and status.observation.node == node
        ]

    def clone(self, name: str, new: str, *, full: bool = False) -> Outcome:
        """Make `new`, a copy of `name` with its own identity, and do not start it. `name` must not be running.

        The two share the present content of the disk; with `full` the whole disk is copied. The outcome is that of
        `name`. Raises IllegalTransitionError if `new` is taken, BusyError while another process works on either.
        """
        return self.fire(name, Trigger.clone, new=new, full=full)

    def fork(self, name: str, *new: str, timeout_s: float | None = None, on_event: Announce | None = None) -> Outcome:
        """Make each of `new` as a copy of the running instance `name`: its first start continues from this moment.

        The copies are not started. The outcome is that of `name`, which is paused for a moment and keeps its
        connections. Raises DriverError if `name` cannot be forked, and the errors of `clone`.
        """
        return self.fire(name, Trigger.fork, new=new, timeout_s=timeout_s, on_event=on_event)

    def rename(self, name: str, new: str) -> Outcome:
        """Rename the instance `name`, which must not be running, to `new`; the outcome is that of `new`.

        Its guest keeps its hostname. Raises IllegalTransitionError if `new` is taken, BusyError while another process
        works on either name.
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
        """Change the spec of `name` by `edits`: `cpus=4`, `memory=2GiB`, `disk=20GiB`. A disk can only grow.

        `portForwards[]={hostPort: 8080, guestPort: 80}` adds a port forward, immediately if `name` is running.
        `file` holds a text like the one that `editable` returns; the edits are applied to it. `shown` is the text that
        `editable` returned before the user changed it: BusyError is raised if others have edited `name` since then.
        Everything is checked before anything is changed; raises InvalidTemplateError with every mistake. If the edits
        change nothing, nothing is written, and `changed` of the outcome is False.
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
        """Return the editable part of `name` as YAML, for `edit`; raises the error that an edit would raise."""
        from .creation.editing import text

        return text(name, self.engine.admit(name, Trigger.edit).spec)

    def snapshot(
        self, name: str, tag: str | None = None, *, timeout_s: float | None = None, on_event: Announce | None = None
    ) -> Outcome:
        """Take the snapshot `tag` (default: the current time) of the disk of `name`, and of its memory if it runs.

        A running guest is paused for a moment and keeps its connections; this may take no longer than `timeout_s`.
        `detail` of the outcome is the tag. Raises IllegalTransitionError if the tag is taken, DriverError if the disk
        is damaged or the disk or memory cannot be saved.
        """
        chosen = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S") if tag is None else tag
        return self.fire(name, Trigger.snapshot, tag=chosen, timeout_s=timeout_s, on_event=on_event)

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of `name`, oldest first."""
        return listed(self.engine.site(name).directory)

    def _snapshot(self, name: str, tag: str) -> Snapshot | None:
        """Return the snapshot `tag` of `name`; None if there is no such snapshot, which the request itself reports.

        Raises NotFoundError for an unknown tag of a running instance, where a hint to stop it first would not help.
        """
        found = next((it for it in self.snapshots(name) if it.tag == tag), None)
        if found is None and verdict(self.status(name), Trigger.kill).legal:
            raise refusals.no_snapshot(name, tag)
        return found

    def discard(self, name: str, tag: str) -> Outcome:
        """Remove the snapshot `tag` of `name`, which must not be running; snapshots based on it are not affected."""
        self._snapshot(name, tag)
        return self.fire(name, Trigger.discard, tag=tag)

    def protect(self, name: str) -> Outcome:
        """Refuse to destroy data of `name`, such as by `delete`, even with `force`, until `unprotect`."""
        return self.fire(name, Trigger.protect)

    def unprotect(self, name: str) -> Outcome:
        """Remove the protection set by `protect`, also from a damaged instance, so that it can be removed."""
        return self.fire(name, Trigger.unprotect)

    def repair(self, name: str) -> Mending:
        """Repair the damaged files of `name`; raises DamagedError if it cannot be repaired, only removed."""
        outcome = self.fire(name, Trigger.repair)
        return Mending(name, outcome.state, outcome.mended)

    def adoptable(self, driver: str = "lima", *, cluster: str = "") -> "dict[str, Found]":
        """Return the machines of another program that are not instances yet, by name; with `cluster`, the instances
        there that belong to other homes.

        The program, or the cluster, is asked once. To adopt several machines, pass the values returned here to `adopt`.
        Raises NotFoundError if this home has no record of the cluster.
        """
        return {machine.name: machine for machine in self._found(driver, cluster)}

    def adopt(
        self, which: "str | Found", driver: str = "lima", *, cluster: str = "", on_event: Announce | None = None
    ) -> Outcome:
        """Adopt a machine of another program, or of another home in `cluster`, as an instance of the same name.

        This is a `create` whose plan names an existing machine, which is not changed. `delete` gives a machine back to
        the other program; an instance of a cluster belongs to this home afterwards, and the other home loses it. Raises
        NotFoundError if there is no such machine, HostError if it cannot be adopted.
        """
        name = which if isinstance(which, str) else which.name
        machine = self.adoptable(driver, cluster=cluster).get(name) if isinstance(which, str) else which
        if machine is None:
            raise self._not_adoptable(name, driver, cluster)
        if machine.spec is None:
            raise HostError(machine.why_not, hint=machine.hint)
        draft = Draft(machine.spec, dict(machine.materials))
        return self._heard_by(on_event).create(checked_name(name), lambda _: draft)

    def _not_adoptable(self, name: str, driver: str, cluster: str) -> NotFoundError:
        if self.home.exists(checked_name(name)):
            return NotFoundError(f'"{name}" is already an instance', hint=f"interlock inspect {name}")
        if cluster:
            return NotFoundError(f'no other home has an instance "{name}" in cluster "{cluster}"')
        return NotFoundError(f'driver "{driver}" finds no machine "{name}"', hint="interlock doctor")

    def _found(self, driver: str, cluster: str) -> "list[Found]":
        if cluster:
            from .drivers import clusters

            driver = clusters.driver(self.home, cluster)
        ours = []
        for name in self.engine.names():
            with suppress(InterlockError):  # it is damaged, or being created or deleted
                ours.append(self.engine.site(name))
        ours = [site for site in ours if site.spec.driver == driver]
        return self._find(driver).found(self.home.root, ours, cluster)

    def autostart(self, name: str, *, enabled: bool = True) -> bool:
        """Start `name` whenever its user logs in, or no longer do so; return whether that changed. Starts nothing now.

        Raises NotFoundError.
        """
        self._really("enable or disable autostart")
        from .autostart import change

        if not self.home.exists(checked_name(name)):
            raise self.engine.not_found(name)
        return change(self.home, self.home.directory(name) / AUTOSTART_FILE, enabled=enabled)

    # Sequences of rows; they own no state.

    def fleet(self, file: "str | Path | Mapping[str, Any]") -> "Fleet":
        """Return the fleet that `file` describes: a path, `-` for standard input, or the content of such a file.

        Its `status` returns what differs from the file, and its `apply` makes the instances as the file says. Raises
        NotFoundError, and InvalidTemplateError with every mistake in the file and its place.
        """
        from .fleet.applying import Fleet

        def rehearse() -> Interlock:
            return Interlock(self.home, driver=self._driver, dry_run=True)

        return Fleet(self, file, create=self._created, rehearse=rehearse)

    def fleets(self) -> "dict[str, list[Status]]":
        """Return the instances that were created by `apply` of a fleet, by the name of the fleet."""
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
        """Return the warm image of `image` for machines of that size; make it if it does not exist, or with `force`.

        Instances of that size that are created later start from it instead of booting. The default sizes are those of
        the built-in template with the name of the image. To make it, a machine is booted once, as the instance
        `warming-IMAGE`, which is deleted afterwards. Raises NotFoundError, ImageError for an image that cannot be
        warmed, HostError, and what `start` raises. With `dry_run`, nothing is made: `report` says what would be done,
        and the result is None unless the warm image exists.
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
        """Stop `name` if it is running, then start it as `start` does."""
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
        """Restore the snapshot `tag` of `name`: its disk, and its memory if the snapshot includes it.

        Everything that the guest did since then is lost. If the snapshot includes memory, a running `name` is killed
        first, and the guest then continues by a `start`, whose outcome is returned and to which `timeout_s` applies.
        With `cold` only the disk is restored. Raises NotFoundError for an unknown tag, ProtectedError while `name` is
        protected, and DriverError for a snapshot that is damaged or whose memory no longer fits the machine; in these
        cases nothing has changed.
        """
        snapshot, status = self._snapshot(name, tag), self.status(name)
        if status.saved and not cold and self._is_restored(name, tag):  # an earlier restore ended before its start
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
        """Return whether the last operation on `name`, apart from starts, restored the snapshot `tag`."""
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

        An existing instance needs no template. If another process is creating it, the call waits for that.
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
        """Yield the name of a new running instance from `template`; it is removed at the end, whatever happens.

            with vms.throwaway("tiny") as vm:
                vms.run(vm, ["uname", "-a"])

        If the process is killed, the instance is left behind. Its name begins with `throwaway-`.
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
        """Return `template`; if `wishes` ask for a warm image, make it and return the template as it was read.

        If `name` cannot be created, no warm image is made, and the creation reports why.
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
        """Yield the status of every instance, sorted by name; damaged instances are included."""
        return self.engine.statuses()

    def status(self, name: str) -> Status:
        """Return all that is known about `name`; an unknown name is `absent`."""
        return self.engine.status(name)

    def load(self, name: str) -> "Load | None":
        """Return how busy the running guest of `name` says it is; None if it does not answer within two seconds."""
        site = self.engine.admit(name, Trigger.shell)
        return self._find(site.spec.driver).load(site)

    def history(self, name: str) -> Iterator[Entry]:
        """Yield the lines of the journal of `name`, oldest first."""
        return self.engine.history(name)

    def can(self, name: str) -> list[Verdict]:
        """Return for each trigger whether the table allows it for `name` now, and if not, why."""
        return self.engine.verdicts(name)

    def watch(
        self, names: Collection[str] = (), *, since: str | int | None = None, until: Callable[[], bool] = lambda: False
    ) -> "Iterator[Change]":
        """Yield what happens to the instances `names`, or to all, in any process, from now on or after `since`.

        `since` is a time (UTC, ISO 8601), or for a single instance the number of a line of its history. With it, a
        program that was interrupted misses nothing that the journals still hold. The iterator waits for the next
        change; it ends when `until`, which is called several times a second, returns True.
        """
        from .fsm.watch import Watch

        _check_since(since, names)
        return Watch(self.home, self.engine, names, since).changes(until)

    def wait_for(self, name: str, condition: str = "ready", *, timeout_s: float | None = None) -> Status:
        """Return the status of `name` once it meets `condition`, no matter which process brings that about.

        `condition` is a state (and no operation in progress), `ready` (running, nothing wrong) or `degraded`. Raises
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
        """Run `argv` in the guest of the running instance `name`; return its exit status and output, whatever they are.

        The arguments arrive exactly as given, without a shell. The program runs in the user's home, or in `workdir`.
        `input` is its standard input, or the number of a file descriptor to read it from; `shell` and `environment`
        are as for the method `shell`.
        Raises DeadlineError after `timeout_s` seconds, when the program's streams are closed, and DriverError if it
        prints more than 64 MiB on a stream. If the guest cannot be reached, the status is 255, as with ssh.
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
        """Return the command line that, on this host, runs `command` or a login shell in the running guest of `name`.

        `workdir` is the guest's folder to run it in. `shell` is the program that interprets `command`, or the login
        shell. The variables in `environment` are part of the command line, where other users may read them.
        """
        from .guest.ssh import within

        site, driver = self._entrance(name, Trigger.shell)
        line = within(command, workdir=workdir, shell=shell, environment=environment)
        return driver.shell(site, line, terminal=terminal)

    def ssh_config(self, name: str) -> Path:
        """Return the ssh_config(5) with which `ssh -F FILE NAME` reaches the running guest of `name`."""
        site, driver = self._entrance(name, Trigger.shell)
        return driver.ssh_config(site)

    def tunnel(self, name: str, port: int | None, local_port: int | str) -> Sequence[str]:
        """Return the command line that, on this host, forwards TCP `local_port` of 127.0.0.1 to `port` of the guest.

        `local_port` may be the path of a socket instead. Without `port`, a SOCKS proxy listens there, which reaches
        whatever the guest can reach.
        """
        from .guest.ssh import tunnel_line

        site, driver = self._entrance(name, Trigger.shell)
        return tunnel_line(driver.ssh_config(site), name, local_port, port)

    def _entrance(self, name: str, trigger: Trigger) -> "tuple[Site, Driver]":
        """Return the site and the driver of `name`; raise unless `trigger` is legal and the driver has a shell."""
        site = self.engine.admit(name, trigger)
        driver = self._find(site.spec.driver)
        driver.check_shell()
        return site, driver

    def copy(self, *paths: str, recursive: bool = False, backend: str = "auto", timeout_s: float | None = None) -> None:
        """Copy `paths` to the last of them; with `recursive`, folders too. `copying` describes the form of the paths.

        Raises DriverError with the output of the program that failed, DeadlineError after `timeout_s` seconds.
        """
        from .guest.command import completed

        _check_timeout(timeout_s)
        line = self.copy_line(*paths, recursive=recursive, backend=backend)
        done = completed(line, line[0], timeout_s=timeout_s)
        if done.status:
            raise DriverError(f"cannot copy {', '.join(paths[:-1])} to {paths[-1]}", details=done.words)

    def copy_line(self, *paths: str, recursive: bool = False, backend: str = "auto") -> Sequence[str]:
        """Return the command line that, on this host, does what `copy` does."""
        return self.copying(*paths, recursive=recursive, backend=backend).line

    def copying(self, *paths: str, recursive: bool = False, backend: str = "auto", measured: bool = False) -> "Copying":
        """Return how `paths` are copied to the last of them, by which program, and with `measured`, how much it is.

        `NAME:PATH` is a path in the guest of the running instance NAME, relative to the home of its user. A path on the
        host with a colon in its first part is written `./a:b`. The paths may be in different guests; raises UsageError
        if no path is in a guest. `backend` is `auto`, `rsync` or `scp`. Raises UsageError for a folder without
        `recursive`.
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
        """Return how copies get into `guests`: ssh with its options, and a function that runs a command there."""
        from .guest.ssh import config_of_several

        ways = {guest: self._entrance(guest, Trigger.copy) for guest in guests}
        configs = [driver.ssh_config(site) for site, driver in ways.values()]
        config = configs[0] if len(configs) == 1 else config_of_several(ways[guests[0]][0].runtime, configs)

        def ask(guest: str, command: Sequence[str], timeout_s: float) -> "Completed":
            site, driver = ways[guest]
            return driver.run(site, command, timeout_s=timeout_s)

        return ["ssh", "-F", str(config)], ask

    def logs(self, name: str) -> dict[str, Path]:
        """Return the log files of the instance `name` by name, such as `serial` and `qemu`. They need not exist."""
        site = self.engine.site(name)
        return self._find(site.spec.driver).logs(site)

    # What instances are made of. Each is imported when it is used, so programs that only start machines pay nothing.

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
        """Return what nothing needs: unused images, partial downloads, old logs, sockets of deleted instances.

        `kinds` limits the search: `image`, `warm`, `download`, `leftover`, `log`, `runtime`; by default all of them.
        """
        from .host.unneeded import KINDS

        return self._pruning().unneeded(KINDS if kinds is None else kinds)

    def prune(self, found: "Iterable[Unneeded] | None" = None, report: Report = unheard) -> "list[Unneeded]":
        """Remove `found`, a result of `unneeded` (by default, all that it finds now), and return what was removed.

        Whatever has come into use since then is kept.
        """
        self._really("prune: `unneeded` says what that would remove")
        return self._pruning().remove(self.unneeded() if found is None else found, report)

    def _pruning(self) -> "Pruning":
        from .pruning import Pruning

        return Pruning(self.home, self.engine, self._find)

    def checks(self) -> Iterator[Check]:
        """Yield each thing that Interlock needs on this host, whether it is there, and the command that fixes it."""
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
    """Return the instance in whose guest `path` is: NAME of `NAME:PATH`; None for a path on the host."""
    name, colon, _ = path.partition(":")
    return name if colon and NAME.fullmatch(name) else None


def checks(home: Home | None = None) -> Iterator[Check]:
    """Yield what `Interlock.checks` yields; `home`, by default the environment's, need not be usable."""
    from .checks import checks as found

    return found(home or Home.from_environment())
