"""Damage: what the rows with `on_damage` do to an instance whose files cannot be understood.

There is no journal to write to then, so this work leaves no line; it is done under the instance's lock, and each of its
steps is safe to repeat. A repair keeps what is whole, sets aside what is not, and makes nothing up. Damage to the
driver's files is for the driver to report.
"""

import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import DamagedError, DriverError, InterlockError, UnreadableError
from ..host.files import PRIVATE_DIRECTORY, PRIVATE_FILE, remove_tree, retire
from ..host.home import Home
from . import refusals, words
from .journal import FILE, Journal
from .port import Port, Ports, Site, candidates
from .records import PROTECTED_FILE, is_protected
from .spec import SPEC_FILE, UNREADABLE, Spec
from .table import Trigger


class Damaged:
    """The instance `name`, which may be damaged. The caller holds its lock."""

    def __init__(self, home: Home, name: str, ports: Ports) -> None:
        self.home = home
        self.name = name
        self.directory = home.directory(name)
        self._ports = ports

    def delete(self) -> Iterator[str]:
        """Remove it; ends only a machine that is proved to be its own.

        Every driver that could have made it ends and removes what it finds; raises what they raise.
        """
        spec = UNREADABLE
        # If this host is short of something, both raise HostError, and nothing is known to be damaged.
        with suppress(DamagedError, UnreadableError):
            Journal(self.directory).last()
        with suppress(DamagedError, UnreadableError):
            spec = Spec.read(self.directory)
        site = Site(self.name, self.directory, self.home.sockets(self.name), spec)
        for driver in self._drivers(spec):
            if driver.observe(site).hidden:
                raise refusals.out_of_reach(self.name, Trigger.delete)
            driver.kill(site, lambda _: None)
            driver.delete(site, lambda _: None)
        try:
            try:
                retire(self.directory, self.home.deleting(self.name))
            except OSError:  # it cannot be moved: what is in it can be removed all the same
                remove_tree(self.directory)
        finally:
            remove_tree(site.runtime)
        yield "it was damaged"

    def unprotect(self) -> Iterator[str]:
        """Remove its protection."""
        remove_tree(self.directory / PROTECTED_FILE)
        yield "it is damaged"

    def repair(self) -> Iterator[str]:
        """Fix what can be, and yield each thing that was fixed, in words.

        Raises DamagedError without a spec or without a whole line, because nothing tells the state then.
        """
        yield from _made_private(self.directory)
        Spec.read(self.directory)
        yield from _set_right(Journal(self.directory))

    def _drivers(self, spec: Spec) -> list[Port]:
        """Return the drivers that could have made it: the one that its spec names, else all."""
        if not self.directory.is_dir() or self.directory.is_symlink():
            return []  # no machine that a file or a link in its place leads to is ours to end
        if spec is not UNREADABLE:
            with suppress(InterlockError):  # the damage may be that it names no driver
                return [self._ports(spec.driver)]
        return list(candidates(self._ports))


TREATMENT: dict[Trigger, Callable[[Damaged], Iterator[str]]] = {
    Trigger.delete: Damaged.delete,
    Trigger.unprotect: Damaged.unprotect,
    Trigger.repair: Damaged.repair,
}
"""What does the work of each row with `on_damage`, and yields in words what it did."""


def repairable(directory: Path) -> bool:
    """Return whether `repair` would lead the damaged instance in `directory` out of its damage."""
    try:
        Spec.read(directory)
        return Journal(directory).mendable()
    except (DamagedError, DriverError):
        return False


def way_out(name: str, directory: Path) -> str:
    """Return the command to type for the damaged instance `name` in `directory`: a repair if that helps, or removal."""
    return words.repair(name) if repairable(directory) else words.remove(name, protected=is_protected(directory))


def _made_private(directory: Path) -> Iterator[str]:
    for path, mode in (
        (directory, PRIVATE_DIRECTORY),
        (directory / SPEC_FILE, PRIVATE_FILE),
        (directory / FILE, PRIVATE_FILE),
    ):
        if path.exists() and not path.is_symlink():
            seen = stat.S_IMODE(path.stat().st_mode)
            if seen != mode:
                path.chmod(mode)
                yield words.made_private(path, seen)


def _set_right(journal: Journal) -> Iterator[str]:
    count, kept = journal.set_aside()
    if kept is None:
        return
    yield words.set_aside(count, kept)
    before: int | None = None  # the first lines were dropped when the journal had grown to its limit
    for line in journal.lines():
        if before is not None and line.seq > before + 1:
            yield words.missing_lines(before + 1, line.seq - 1)
        before = line.seq
