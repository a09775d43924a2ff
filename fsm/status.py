"""Reading: what is known about the instances of one home, and what is legal for them. Takes no lock, never waits."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DamagedError, DriverError, InterlockError, NotFoundError, TooNewError, UnreadableError
from ..host.home import NAME, Home
from ..host.process import alive, suspended
from . import refusals, words
from .causes import as_error
from .damage import way_out
from .events import Event
from .happening import Happening
from .journal import Entry, Journal, Line, Phase
from .port import Port, Ports, Site
from .records import Observation, Operation, Status, checked_name, is_autostarted, is_protected, is_saved
from .spec import SPEC_FILE, Spec
from .states import State
from .table import BY_TRIGGER, Decision, Row, Trigger, decide


class Verdict(NamedTuple):
    """What the table says about one trigger in one state: an answer of `interlock can`."""

    instance: str
    trigger: Trigger
    state: State
    legal: bool
    holds: bool
    """True if it would succeed without doing anything."""
    why: str
    hint: str | None
    """The command to type; None if there is nothing to do."""

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON form: one line of `interlock can --format json`."""
        return {
            "name": self.instance,
            "trigger": self.trigger,
            "state": self.state,
            "legal": self.legal,
            "holds": self.holds,
            "why": self.why,
            "hint": self.hint,
        }


class Reader:
    """Reads the current status of the instances of `home`."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self.home = home
        self.ports = ports
        self._latest: tuple[tuple[Path, int, int, int], Spec] | None = None

    def names(self) -> list[str]:
        """Return the names that have files, sorted: instances, and those that are being created or deleted."""
        found: set[str] = set()
        instances = self.home.instances
        for folder in (instances, instances / ".creating", instances / ".deleting", self.home.root / "locks"):
            with suppress(FileNotFoundError):
                found.update(entry.name for entry in folder.iterdir() if NAME.fullmatch(entry.name))
        return sorted(found)

    def read(self, name: str) -> Status:
        """Return what journal, spec and driver say about `name` now; settles nothing."""
        checked_name(name)
        with self._border(name):
            return self._read(name)

    def history(self, name: str) -> Iterator[Entry]:
        """Yield the journal of `name`, oldest line first; raises NotFoundError, DamagedError."""
        with self._border(name):
            self._existing(name)
            yield from Journal(self.home.directory(name)).lines()

    def site(self, name: str) -> Site:
        """Return the site of the existing instance `name`; raises NotFoundError, DamagedError."""
        directory = self.home.directory(name)
        with self._border(name):
            self._existing(name)
            return Site(name, directory, self.home.sockets(name), self.spec(directory))

    def not_found(self, name: str, trigger: Trigger | None = None) -> NotFoundError:
        """Return the error for the absent `name`, with the command for `trigger` if another instance may be meant.

        The hint is for the instance that was renamed from `name` or has the most similar name. Without one, it lists
        the instances, or creates the first instance.
        """
        from difflib import get_close_matches

        names = [other for other in self.names() if other != name]
        now = self._renamed(name, names)
        for meant in [now] if now else get_close_matches(name, names, n=1):
            answer = trigger and verdict(self.read(meant), trigger)
            useful = answer and not answer.holds and not BY_TRIGGER[answer.trigger].guarded
            way = answer.hint if answer and useful else words.look(meant)
            what = words.moved(name, now) if now else f'{words.missing(name)}; did you mean "{meant}"?'
            return NotFoundError(what, hint=way)
        return NotFoundError(words.missing(name), hint=words.LIST if names else words.first(name))

    def _renamed(self, name: str, names: Iterable[str]) -> str | None:
        """Return which of the instances `names` most recently had the name `name`; None if no journal says so."""
        latest: dict[str, str] = {}
        for other in names:
            with suppress(DamagedError, DriverError):
                for entry in Journal(self.home.directory(other)).former():
                    if entry.former == name:
                        latest[entry.time] = other
        return latest[max(latest)] if latest else None

    def way_out(self, name: str) -> str:
        """Return the command to type if `name` is damaged."""
        return way_out(name, self.home.directory(name))

    def port(self, site: Site) -> Port:
        """Return the driver that `site` names."""
        return self.ports(site.spec.driver)

    def spec(self, directory: Path) -> Spec:
        """Return the spec in `directory`. The file is replaced, never modified: it is read again only if replaced."""
        try:
            seen = os.lstat(directory / SPEC_FILE)
        except OSError:
            return Spec.read(directory)  # raises an error that says what is wrong
        identity = (directory, seen.st_dev, seen.st_ino, seen.st_ctime_ns)
        if self._latest and self._latest[0] == identity:
            return self._latest[1]
        spec = Spec.read(directory)
        self._latest = (identity, spec)
        return spec

    @contextmanager
    def _border(self, name: str) -> Iterator[None]:
        """Turn other errors into ours, and give an error about the files of `name` the hint that fixes it."""
        try:
            yield
        except OSError as error:
            raise as_error(error) from error
        except DamagedError as error:
            error.hint = error.hint or self.way_out(name)
            raise
        except UnreadableError as error:
            error.hint = error.hint or words.repair(name)
            raise

    def _read(self, name: str) -> Status:
        """Return what journal, spec and driver say about `name` at this moment."""
        directory = self.home.directory(name)
        line, before = None, _version(directory)
        try:
            self.home.exists(name)
            line = Journal(directory).present()
            spec = self.spec(directory)
        except (DamagedError, DriverError) as error:
            if _version(directory) != before:  # created, replaced or deleted while it was read: not damage
                return self._read(name)
            if before is None:
                return self._read_absent(name)
            state = line.state if line else State.absent
            return Status(
                name,
                state,
                directory,
                damage=error.message,
                newer=isinstance(error, TooNewError),
                unreadable=isinstance(error, DriverError),
                protected=is_protected(directory),
                autostart=is_autostarted(directory),
            )
        status = Status(
            name,
            line.state,
            directory,
            operation=operation(line),
            spec=spec,
            reason=line.reason,
            protected=is_protected(directory),
            autostart=is_autostarted(directory),
            saved=is_saved(directory),
            changed_at=line.time,
        )
        if status.state is not State.running and status.operation is None and not spec.keeper:
            return status  # at rest, the driver would see nothing that is not in the journal
        try:
            port = self.ports(spec.driver)
        except InterlockError as error:
            return status._replace(damage=error.message)
        site = Site(name, directory, self.home.sockets(name), spec)
        return status._replace(observation=_observed(port, site))

    def _read_absent(self, name: str) -> Status:
        """Return the status of a name without a directory, which another process may be creating."""
        staging = self.home.creating(name)
        with suppress(DamagedError, DriverError):
            line = Journal(staging).last()
            return Status(name, State.absent, staging, operation=operation(line, outcome_counts=False))
        if self.home.directory(name).exists():  # created between the two looks
            return self._read(name)
        return Status(name, State.absent, self.home.directory(name))

    def _existing(self, name: str) -> None:
        checked_name(name)
        if not self.home.exists(name):
            raise self.not_found(name)


def _observed(port: Port, site: Site) -> Observation:
    """Return what `port` sees of the machine at `site`; if it fails, an observation that gives the reason."""
    try:
        return port.observe(site)
    except (InterlockError, OSError) as error:
        return Observation(alive=None, condition=words.untold(as_error(error).message))


def _version(directory: Path) -> tuple[int, int] | None:
    """Return a value that changes whenever `directory` or the names in it change; None if it does not exist."""
    try:
        seen = os.lstat(directory)
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_ctime_ns


def decision(status: Status, row: Row) -> Decision:
    """Return the decision about a request for `row` of an instance with this status."""
    return decide(row, status.state, protected=status.protected, saved=status.saved, seen=status.observation)


def verdict(status: Status, trigger: Trigger) -> Verdict:
    """Return what the table says about `trigger` for an instance with this status."""
    row, name, state = BY_TRIGGER[trigger], status.name, status.state
    decided = decision(status, row)
    legal, holds = decided is Decision.legal, decided is Decision.holds
    hint = None if holds else words.way(name, state, trigger, protected=status.protected)
    if legal:
        why = row.why
    elif holds:
        why = words.sentence(Event(Happening.holds, name, trigger, state))
    elif state is State.absent:
        why = words.missing(name)
    else:
        error = refusals.refused(decided, name, state, trigger, protected=status.protected)
        why, hint = error.message, error.hint
    return Verdict(name, trigger, state, legal, holds, why, hint)


def operation(line: Line, *, outcome_counts: bool = True) -> Operation | None:
    """Return the operation that `line` leaves in flight, None if it is an outcome.

    The last line of an instance that is being created may already be the outcome. It does not count before the rename,
    so the operation is then still in flight: `outcome_counts` is False.
    """
    if outcome_counts and not line.in_flight:
        return None
    return Operation(
        trigger=line.trigger,
        source=line.source,
        step=line.step or "",
        since=line.since,
        step_since=line.time,
        deadline=line.deadline,
        actor=line.actor,
        interrupted=line.phase is Phase.left or not alive(line.actor),
        suspended=suspended(line.actor),
    )
