"""Damage: what the rows with `on_damage` do to an instance whose files cannot be understood.

The journal cannot be written then, so this work leaves no line in it. It is done under the instance's lock, and each
step is safe to repeat. A repair keeps the whole lines, sets aside the others, and invents nothing. Damage to the
driver's files is reported by the driver.
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
        """Remove the instance; ends a machine only if the driver can prove that it belongs to the instance.

        Every driver that could have made the machine ends and removes what it finds; raises the errors of the drivers.
        """
        spec = UNREADABLE
        # If this host lacks a resource, both raise HostError: then it is unknown whether anything is damaged.
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
            except OSError:  # it cannot be moved, but its content can still be removed
                remove_tree(self.directory)
        finally:
            remove_tree(site.runtime)
        yield "it was damaged"

    def unprotect(self) -> Iterator[str]:
        """Remove its protection."""
        remove_tree(self.directory / PROTECTED_FILE)
        yield "it is damaged"

    def repair(self) -> Iterator[str]:
        """Fix what can be fixed, and yield a description of each fix.

        Raises DamagedError if the spec cannot be read or the journal has no whole line, because the state is unknown.
        """
        yield from _made_private(self.directory)
        Spec.read(self.directory)
        yield from _set_right(Journal(self.directory))

    def _drivers(self, spec: Spec) -> list[Port]:
        """Return the drivers that could have made the machine: the one that the spec names, else all of them."""
        if not self.directory.is_dir() or self.directory.is_symlink():
            return []  # a file or a link in place of the directory: it may lead to a machine that is not ours to end
        if spec is not UNREADABLE:
            with suppress(InterlockError):  # the spec may name a driver that does not exist
                return [self._ports(spec.driver)]
        return list(candidates(self._ports))


TREATMENT: dict[Trigger, Callable[[Damaged], Iterator[str]]] = {
    Trigger.delete: Damaged.delete,
    Trigger.unprotect: Damaged.unprotect,
    Trigger.repair: Damaged.repair,
}
"""Trigger of a row with `on_damage` → the function that does the work, and yields descriptions of what it did."""


def repairable(directory: Path) -> bool:
    """Return whether `repair` would fix the damaged instance in `directory`."""
    try:
        Spec.read(directory)
        return Journal(directory).mendable()
    except (DamagedError, DriverError):
        return False


def way_out(name: str, directory: Path) -> str:
    """Return the command to type for the damaged instance `name` in `directory`: a repair if it helps, else removal."""
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
    before: int | None = None  # not 0: a journal that has grown to its limit loses its first lines
    for line in journal.lines():
        if before is not None and line.seq > before + 1:
            yield words.missing_lines(before + 1, line.seq - 1)
        before = line.seq
