"""Copies files between this host and guests, or between guests: which program does it, its command line, its progress.

rsync and scp are called so that the result is the same: a folder is copied into an existing target, and otherwise gets
the target's name; times and permissions are kept, and links to files are followed. So the choice of program only
affects how much is sent. (rsync also follows links to folders, where scp fails.)
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ..errors import DeadlineError, DriverError, HostError, NotFoundError, UsageError
from ..host.run import run
from .command import Completed

LOOK_S = 10.0
"""Time limit for a look at paths in a guest."""


class Backend(StrEnum):
    """The program that copies files."""

    auto = "auto"
    """rsync where this host and the guest have it, else scp."""
    rsync = "rsync"
    scp = "scp"


class Place(NamedTuple):
    """A path on this host, or in the guest of an instance."""

    guest: str | None
    path: str

    def __str__(self) -> str:
        return self.path if self.guest is None else f"{self.guest}:{self.path}"


class Copied(NamedTuple):
    """The progress of a copy."""

    done_bytes: int
    total_bytes: int | None
    """None if it is unknown."""


class _Seen(NamedTuple):
    """What a path matches: how many things, because guests expand it as a pattern, and how many of them are folders."""

    things: int
    folders: int


Ask = Callable[[str, Sequence[str], float], Completed]
"""Runs a command in the guest of an instance; raises DeadlineError after the given number of seconds."""

_LOOK = """\
command -v rsync >/dev/null && echo yes || echo no
IFS=
for path do
  things=0 folders=0
  for it in $path; do
    [ ! -e "$it" ] || things=$((things + 1))
    [ ! -d "$it" ] || folders=$((folders + 1))
  done
  echo "$things $folders"
done
"""
"""Prints whether the guest has rsync, and what each path matches. Because IFS is empty, an unquoted path is expanded as
a pattern, but not split into words. Source: POSIX, Shell Command Language, 2.6."""

_MEASURE = """\
IFS=
for path do
  for it in $path; do find -L "$it" -type f -exec stat -L -c %s {} +; done
done 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f\\n", sum }'
"""
"""Prints the total size in bytes of the files at and below all paths."""

_DONE = re.compile(rb"([\d.,]+) +\d+%")
"""rsync's progress with --info=progress2: the bytes done, and the percentage of the whole. Source: rsync(1)."""


@dataclass(frozen=True, slots=True)
class Copying:
    """A copy to be made: `line` is the host's command line, which runs the program `backend`."""

    backend: Backend
    line: list[str]
    total_bytes: int | None = None

    def run(self, heard: Callable[[Copied], object], complained: Callable[[bytes], object]) -> int:
        """Copy, and return the program's exit status; a negative status is the number of the signal that ended it.

        `heard` gets the progress repeatedly, `complained` the program's stderr. scp prints no progress that programs
        can read, so the kernel is asked how much scp has read, which is little more than what it copies.
        """
        if self.backend is Backend.scp:

            def look(pid: int) -> None:
                if read_bytes := _read_bytes(pid):
                    heard(self._at(read_bytes))

            return run(self.line, stderr=complained, watch=look).status

        def hear(piece: bytes) -> None:
            if said := _DONE.findall(piece):
                heard(self._at(int(re.sub(rb"\D", b"", said[-1]))))

        line = [self.line[0], "--info=progress2", "--outbuf=N", *self.line[1:]]
        return run(line, stdout=hear, stderr=complained).status

    def _at(self, done_bytes: int) -> Copied:
        return Copied(done_bytes if self.total_bytes is None else min(done_bytes, self.total_bytes), self.total_bytes)


def copying(
    places: Sequence[Place],
    ssh: Sequence[str],
    ask: Ask,
    *,
    recursive: bool = False,
    backend: Backend = Backend.auto,
    measured: bool = False,
) -> Copying:
    """Return the copy of all `places` but the last to the last one; guests are reached by `ssh`.

    `ssh` is ssh with its options, or a program that takes its place. With `measured`, the total size is found out, too.
    Raises UsageError for a folder without `recursive`, and for a copy between guests by rsync; HostError or
    NotFoundError if rsync is asked for, and this host or the guest lacks it.
    """
    *sources, target = places
    seen, by_rsync = [None if place.guest else _seen_here(place) for place in places], False
    insist = _typed(places, recursive=recursive, backend=Backend.scp) if backend is Backend.rsync else None
    if backend is not Backend.scp and _may_use_rsync(sources, target, insist):
        by_rsync, seen = _look(places, seen, ask, insist)
    for place, it in zip(sources, seen, strict=False):
        if it and it.folders and not recursive:
            raise UsageError(f"{place} is a folder", hint=_typed(places, recursive=True, backend=backend))
    total = _total_bytes(sources, ask) if measured else None
    if by_rsync:
        *each, last = (it for it in seen if it)
        single = sum(it.things for it in each) == 1
        if last.folders or single or insist:
            contents = single and each[0].folders == 1 and not last.folders
            return Copying(Backend.rsync, _rsync(places, ssh, recursive=recursive, contents=contents), total)
    return Copying(Backend.scp, _scp(places, ssh, recursive=recursive), total)


def _may_use_rsync(sources: Sequence[Place], target: Place, insist: str | None) -> bool:
    """Return whether this host's rsync can make this copy. With `insist`, the command without rsync, raise if not."""
    guests = {place.guest for place in sources}
    between = len(guests) == 1 and (None in guests) != (target.guest is None)
    if insist and not between:
        raise UsageError("rsync copies between this host and one guest", hint=insist)
    found = shutil.which("rsync") is not None
    if insist and not found:
        raise HostError("rsync is not installed", hint="apt install rsync")
    return between and found


def _look(
    places: Sequence[Place], here: list[_Seen | None], ask: Ask, insist: str | None
) -> tuple[bool, list[_Seen | None]]:
    """Return whether the guest among `places` has rsync, and what each place matches. With `insist`, raise if not."""
    guest = next(place.guest for place in places if place.guest)
    paths = [_in_guest(place) for place in places if place.guest]
    try:
        done = ask(guest, ["sh", "-c", _LOOK, "sh", *paths], LOOK_S)
    except DeadlineError:
        if insist:
            raise
        return False, here
    has, *numbers = done.text.split() or ["no"]
    if len(numbers) != 2 * len(paths):
        if insist:
            raise DriverError(f'cannot look into the guest of "{guest}"', details=done.words)
        return False, here
    if insist and has != "yes":
        raise NotFoundError(f'the guest of "{guest}" has no rsync', hint=insist)
    there = (_Seen(int(things), int(folders)) for things, folders in zip(numbers[::2], numbers[1::2], strict=True))
    return has == "yes", [it or next(there) for it in here]


def _seen_here(place: Place) -> _Seen:
    return _Seen(int(os.path.exists(place.path)), int(os.path.isdir(place.path)))  # noqa: PTH110, PTH112


def _rsync(places: Sequence[Place], ssh: Sequence[str], *, recursive: bool, contents: bool) -> list[str]:
    """Return the command line of rsync. With `contents`, the content of the only source, a folder, goes to the target.

    In the target, a link to a folder stays a link (-K), as with scp. `-e` is quoted by rsync's own rules.
    """
    sources = [f"{_of(it)}{_path(it).rstrip('/') or '/'}{'/' * contents}" for it in places[:-1]]
    target = f"{_of(places[-1])}{_path(places[-1])}"
    reached_by = " ".join(word if word.strip("-").isalnum() else f"""'{word.replace("'", "''")}'""" for word in ssh)
    options = ["--copy-links", "--keep-dirlinks", "--perms", "--times", *(["--recursive"] if recursive else [])]
    return ["rsync", *options, "-s", "-e", reached_by, "--", *sources, target]


def _of(place: Place) -> str:
    return f"{place.guest}:" if place.guest else ""


def _path(place: Place) -> str:
    return _in_guest(place) if place.guest else place.path


def _in_guest(place: Place) -> str:
    """Return the path in a form that no program mistakes for `~`, an option or `NAME::MODULE`."""
    path = place.path.removeprefix("~/") if place.path != "~" else ""
    return path if path[:1] in ("/", ".") else f"./{path}"


def _scp(places: Sequence[Place], ssh: Sequence[str], *, recursive: bool) -> list[str]:
    """Return the command line of scp.

    Copies between guests pass through this host (-3), because guests cannot log in to each other. scp would take a path
    of this host with a colon in its first part for a path of another host. Source: scp(1).
    """
    program, *options = ssh
    by = [] if program == "ssh" else ["-S", program]
    return ["scp", "-3", "-p", *by, *options, *(["-r"] if recursive else []), "--", *map(str, places)]


def _total_bytes(sources: Sequence[Place], ask: Ask) -> int | None:
    """Return the total size of the files of `sources`; None if it cannot be found out quickly."""
    total = sum(_sizes(place.path) for place in sources if place.guest is None)
    for guest in {place.guest for place in sources if place.guest}:
        paths = [_in_guest(place) for place in sources if place.guest == guest]
        try:
            said = ask(guest, ["sh", "-c", _MEASURE, "sh", *paths], LOOK_S).text
        except DeadlineError:
            return None
        if not said.isdecimal():
            return None
        total += int(said)
    return total


def _sizes(path: str) -> int:
    """Return the total size of the files at and below `path`; links into folders already visited are not followed."""
    if not os.path.isdir(path):  # noqa: PTH112
        with suppress(OSError):
            return os.stat(path).st_size  # noqa: PTH116
        return 0
    total, known = 0, set()
    for folder, folders, files in os.walk(path, followlinks=True):
        known.add(os.path.realpath(folder))
        folders[:] = [it for it in folders if os.path.realpath(os.path.join(folder, it)) not in known]  # noqa: PTH118
        for file in files:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, file)).st_size  # noqa: PTH116, PTH118
    return total


def _read_bytes(pid: int) -> int:
    """Return how many bytes the process has read; 0 once it has ended. Source: proc(5), /proc/PID/io."""
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    return 0


def _typed(places: Sequence[Place], *, recursive: bool, backend: Backend = Backend.auto) -> str:
    """Return the command that makes a copy."""
    options = ["--recursive"] * recursive + (["--backend", backend] if backend is not Backend.auto else [])
    return shlex.join(["interlock", "copy", *options, *map(str, places)])
