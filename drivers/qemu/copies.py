"""Files that are copied from the guest to the host once it is ready, and removed again if the spec says so.

copies.json    what to remove when the machine is down, {path: identity}: the files that were fetched and are marked
               `deleteOnStop`, each by its lstat(2); and, with null, a partial file

A file is removed only if it is still the one that was fetched: another may have taken its path. A problem with a file
on the host neither ends a guest nor prevents a stop.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ...errors import DriverError
from ...fsm.spec import Copy
from ...guest import session, ssh
from ...guest.report import Failure
from ...host import sizes
from ...host.files import flush_directory, make_private_directory, open_private, read_own, remove_tree, write_whole
from ...host.progress import Report
from ...host.run import run
from ..contract import Deadline, Site

RECORD = "copies.json"

_RECORD_BYTES = 1 << 20

_ABSENT = 66
"""Exit status of `_SHOW` for a missing file. Source: sysexits.h, EX_NOINPUT."""

_SHOW = f"""\
[ -r "$1" ] && exec cat "$1"
[ -e "$1" ] || sudo -n test -e "$1" 2>/dev/null || exit {_ABSENT}
exec sudo -n cat "$1"
"""

_Record = dict[str, list[int] | None]


def fetch(site: Site, deadline: Deadline, pidfd: int) -> tuple[Failure, ...]:
    """Copy the spec's files from the guest, and return those that failed, each with the reason.

    Each file on the host is complete or as it was before, with mode 0600. `pidfd` is the hypervisor's.
    """
    failures = []
    for wanted in site.spec.copies:
        try:
            _fetch(site, wanted, deadline, pidfd)
        except DriverError as err:
            failures.append(Failure(f"copy of {wanted.guest}", 0, (err.message, *err.details)))
        except OSError as err:
            failures.append(Failure(f"copy of {wanted.guest}", 0, (f"{err.filename or wanted.host}: {err.strerror}",)))
    return tuple(failures)


def forget(directory: Path, report: Report) -> None:
    """Remove the copies marked for removal with the machine, which is down, and partial files.

    A file that is no longer the one that was fetched is left alone. A file that cannot be removed is reported.
    """
    for path, identity in _recorded(directory).items():
        try:
            if identity is None or identity == _identity(os.lstat(path)):
                os.unlink(path)  # noqa: PTH108 - as text, as it is recorded
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as err:
            report(f"leaving {path}, which cannot be removed: {err.strerror}")
    remove_tree(directory / RECORD)


def _fetch(site: Site, wanted: Copy, deadline: Deadline, pidfd: int) -> None:
    """Fetch one file; raises DriverError, or OSError if the host's files are in the way."""
    target = Path(wanted.host)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):
            raise DriverError(f"{target} on the host is not a regular file; it was not replaced")
    make_private_directory(target.parent)
    record = _recorded(site.directory)
    record.pop(wanted.host, None)
    with _half(site, target, record) as (fresh, file):
        room = wanted.max_bytes

        def take(piece: bytes) -> None:
            nonlocal room
            room -= len(piece)
            if room < 0:
                raise DriverError(
                    f"it is larger than {sizes.in_words(wanted.max_bytes)}; maxSize in the template allows more"
                )
            file.write(piece)

        show = ["sh", "-c", _SHOW, "sh", wanted.guest]
        command = ssh.command_line(site.directory / ssh.CONFIG, site.name, show, options=session.OPTIONS)
        ended = run(command, stdout=take, wait=session.Wait(deadline, pidfd).pause)
        if ended.status == _ABSENT and wanted.skip_if_missing:
            return
        if ended.status:
            words = ended.words or (f"ssh ended with status {ended.status}",)
            missing = ended.status == _ABSENT
            raise DriverError("there is no such file in the guest" if missing else words[0], details=words[1:])
        file.flush()
        os.fsync(file.fileno())
        if wanted.delete_on_stop:  # before the rename: an unrecorded file would never be removed
            record[wanted.host] = _identity(os.fstat(file.fileno()))
            _write(site.directory, record)
        fresh.replace(target)
    flush_directory(target.parent)


@contextmanager
def _half(site: Site, target: Path, record: _Record) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new file beside `target`, to be renamed to it. It is recorded, so it is removed even after a crash."""
    fresh = target.with_name(f".{target.name}.{site.spec.instance_id}")
    record[str(fresh)] = None
    _write(site.directory, record)
    fresh.unlink(missing_ok=True)
    try:
        with open_private(fresh, "xb") as file:
            yield fresh, file
    finally:
        with suppress(OSError):
            fresh.unlink()
        del record[str(fresh)]
        _write(site.directory, record)


def _identity(seen: os.stat_result) -> list[int]:
    """Return what distinguishes a file from any later one of its name, which may even have its inode number."""
    return [seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns]


def _recorded(directory: Path) -> _Record:
    try:
        record = json.loads(read_own(str(directory / RECORD), _RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(directory: Path, record: _Record) -> None:
    write_whole(directory / RECORD, json.dumps(record).encode() + b"\n")
