"""A saved memory: what a machine that is down needs to continue where it was, beside its disk.

    saved/              in the instance's directory; whole or absent, because one rename publishes it
    ├── memory          the guest's memory, with holes where it never wrote; not there if `devices` holds it, too
    ├── devices         processors and devices, as QEMU writes them when it migrates a machine
    └── saved.json      what it belongs to: the machine, and each file that the guest writes to
    .saved.used/        one from which the machine is about to continue, or has continued
    saved.old/          one that could not be used; kept until the next suspend or reset

While `saved` exists, no processor of the machine runs: it is published after they have stopped, and removed before they
continue. So a memory is used at most once, and a hypervisor that is found beside it can be ended without loss.

The guest's memory is a memfd of QEMU's. QEMU does not migrate it (x-ignore-shared): we copy it out of and into
/proc/PID/fd, without its holes. The rest is half a megabyte. `migrate fd:` starts no program, so the sandbox stays
closed.

If several copies begin with the same memory, each maps it privately: they share the pages that they do not write to.
Such a mapping belongs to QEMU alone, so when that copy is saved in turn, QEMU writes the memory into `devices`, and
there is no `memory`. Source: QEMU, docs/devel/migration.rst and qapi/migration.json; migration/ram.c,
ramblock_is_ignored.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import DeadlineError, DriverError
from ...fsm.records import is_saved
from ...host import cancellation
from ...host.files import (
    flush_directory,
    folder_beside,
    link_or_copy,
    open_private,
    publish,
    read_own,
    remove_tree,
    retire,
    sweep_beside,
    write_whole,
)
from ...host.process import Actor
from ..contract import SAVED, Deadline, Report, Site, disk_file
from . import disk, events, firmware, hypervisor
from .monitor import LateError, Monitor, MonitorError, within

MEMORY, DEVICES, RECORD = "memory", "devices", "saved.json"
OLD, _USED = f"{SAVED}.old", f".{SAVED}.used"

_INCOMING = ("-S", "-incoming", "defer")

_KINDS = {
    "-accel": "accelerator",
    "-cpu": "processor model",
    "-smp": "number of processors",
    "-m": "memory",
    "-machine": "machine type",
    "-device": "devices",
}
"""The options of QEMU that define the machine → their names for people."""

_ADDRESS = r",mac=[0-9a-f:]+"

_SHARED, _MAPPED, _ANONYMOUS = "memory-backend-memfd,", "memory-backend-file,", "memory-backend-ram,"
"""How QEMU gets the guest's memory: as an anonymous file; as a private mapping of a saved one; allocated by QEMU, if
the memory comes with the devices (in a shared file, even a page that is only read would take space)."""

_MEMFD = "/memfd:memory-backend-memfd"
"""How the kernel lists the guest's memory among QEMU's descriptors."""

_PIECE_BYTES = 64 << 20

_DEVICES_BYTES = 8 << 20
"""Up to this size, a digest is kept of what QEMU writes: half a megabyte. With the memory in it, only its length is."""

_PAGE_BYTES = 4096
_ZEROS = bytes(_PAGE_BYTES)

_UNLIMITED = 1 << 40
"""Bytes a second: the guest stands still meanwhile, so QEMU must not throttle itself."""

_POLL_S = 0.002

_SETTLING_S = 10.0
"""How long a hypervisor may take to finish an earlier command: it writes to the host's disk."""

_OVER = ("", "completed", "failed", "cancelled")
"""The states of a migration that is over, or never began."""

_ENDLESS = "the hypervisor does not end its migration"

Fingerprint = dict[str, str]
"""What must be the same for a memory to fit: `_KINDS`, the version of QEMU and, under KVM, the host's processor."""


def fingerprint(version: str, command: Sequence[str]) -> Fingerprint:
    """Return the fingerprint of the machine that QEMU `version` makes of the command line `command`."""
    found = {kind: [value for option, value in pairwise(command) if option == name] for name, kind in _KINDS.items()}
    accelerator = found["accelerator"][0].partition(",")[0] if found["accelerator"] else ""
    # The address of a card comes with the memory, and a copy's guest takes its own.
    made = {kind: re.sub(_ADDRESS, "", " ".join(values)) for kind, values in found.items()}
    made |= {"accelerator": accelerator, "QEMU": version}
    return {**made, "host's processor": _processor()} if accelerator == "kvm" else made


def refuse(site: Site, process: Actor) -> None:
    """Raise DriverError where the memory of `process`, the hypervisor of `site`, cannot be saved."""
    if site.spec.mounts:
        mount = site.spec.mounts[0]
        raise DriverError(
            f"{mount.location} is mounted in the guest by {mount.type}, so its memory cannot be saved",
            hint=f"interlock stop {site.name}",
        )
    if not _of_memory(hypervisor.command(process)):
        raise DriverError(
            "the hypervisor was started, by an older version or an old QEMU, with memory that cannot be saved",
            hint=f"interlock restart {site.name}",
        )


def refuse_changed(site: Site, process: Actor, version: str, command: Sequence[str]) -> None:
    """Raise DriverError where the memory of `process` would not fit the next start, of QEMU `version` and `command`."""
    with Monitor(site.runtime) as monitor:
        running = fingerprint(_version(monitor), hypervisor.command(process))
    if other := _difference(running, fingerprint(version, command)):
        raise DriverError(
            "its memory would not fit the next start: the machine runs with {} {}; the next start has {}".format(
                *other
            ),
            hint=f"interlock stop {site.name}",
        )


def save(site: Site, process: Actor, report: Report, deadline: Deadline) -> None:
    """Stop the processors of `site`, and publish its memory. The hypervisor `process` is left alive, standing still.

    Raises DeadlineError or LateError when time is up first.
    """
    directory = site.directory
    remove_tree(directory / OLD)
    with folder_beside(directory / SAVED) as fresh:
        report("stopping the processors")
        with Monitor(site.runtime, within(deadline)) as monitor:
            monitor.ask("stop")  # and completes what is being written to the disks
        report("saving the memory")
        take(site, process, fresh, deadline)
        publish(fresh, directory / SAVED)


def take(site: Site, process: Actor, folder: Path, deadline: Deadline) -> None:
    """Write the memory of `site`, whose processors stand still, into `folder`: all that SAVED holds.

    If this raises, the migration is cancelled: one that continued would stop the guest again when it completes.
    """
    shared = _shares_memory(process)
    try:
        with Monitor(site.runtime, within(deadline)) as monitor:
            with _passed(monitor, folder / DEVICES, "xb", beside=shared):
                monitor.ask("migrate-set-parameters", max_bandwidth=_UNLIMITED)
                monitor.ask("migrate", uri=f"fd:{DEVICES}")
                _migrated(monitor, deadline)
            version = _version(monitor)
    except BaseException:
        with cancellation.shielded(), suppress(DriverError):
            call_off(site)
        raise
    if shared:
        with _memory(process, "rb") as source, open_private(folder / MEMORY, "xb") as copy:
            copy.truncate(os.fstat(source.fileno()).st_size)
            _copy(source.fileno(), copy.fileno(), deadline)
    record = {
        "machine": fingerprint(version, hypervisor.command(process)),
        "written": _written(site),
        "memory_bytes": (folder / MEMORY).stat().st_size if shared else None,
        "devices": _stamp(folder / DEVICES),
        "common": False,
        "schema": 1,
    }
    _write_record(folder, record)


def call_off(site: Site) -> None:
    """Cancel any migration by the hypervisor of `site`, and return once it has ended. Raises MonitorError otherwise."""
    turn = Deadline(_SETTLING_S)
    with Monitor(site.runtime, turn.seconds) as monitor:
        while _status(monitor, "query-migrate") not in _OVER:
            if turn.passed:
                raise LateError(_ENDLESS)
            monitor.ask("migrate_cancel")
            cancellation.pause(_POLL_S)
        _concluded(monitor, turn)


def adopt(site: Site, folder: Path, *, common: bool) -> None:
    """Make SAVED of `site` from what `take` wrote into `folder`, as the memory that fits the disk of `site`.

    `common`: other machines use the same memory, and share the pages that they do not write to.
    """
    forget(site.directory)
    with folder_beside(site.directory / SAVED) as fresh:
        for name in (MEMORY, DEVICES):
            if (folder / name).exists():
                link_or_copy(folder / name, fresh / name)
        record = json.loads(read_own(folder / RECORD))
        common = common and (folder / MEMORY).exists()
        _write_record(fresh, {**record, "written": _written(site), "common": common})
        publish(fresh, site.directory / SAVED)


def is_in(folder: Path) -> bool:
    """Return whether `folder` holds what `take` wrote."""
    return (folder / RECORD).exists()


def seal(folder: Path) -> int:
    """Record a digest of the memory in `folder`, which `take` wrote; return how many bytes it takes up."""
    record = json.loads(read_own(folder / RECORD))
    digest, used = _content(folder)
    _write_record(folder, {**record, "content_sha256": digest})
    return used


def unsealed(folder: Path) -> str | None:
    """Return what is wrong with the memory in `folder` if it differs from the sealed one; None if it does not."""
    record = json.loads(read_own(folder / RECORD))
    return None if record.get("content_sha256") == _content(folder)[0] else "it is damaged"


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_whole(folder / RECORD, json.dumps(record).encode() + b"\n")


def misfit(site: Site, version: str, command: Sequence[str]) -> str | None:
    """Return why the saved memory of `site` cannot be used by the machine of QEMU `version` and `command`; None if it
    can."""
    if why := unfit(site.directory / SAVED, version, command):
        return why
    written = dict(json.loads(read_own(site.directory / SAVED / RECORD))["written"])
    for name, stamp in _written(site).items():
        if written.pop(name, None) != stamp:
            return f"{name} was changed since"
    return f"{next(iter(written))} is missing" if written else None


def unfit(folder: Path, version: str, command: Sequence[str]) -> str | None:
    """Return why the memory in `folder` cannot be used by the machine of QEMU `version` and `command`, whatever its
    disk; None if it can."""
    try:
        record = json.loads(read_own(folder / RECORD))
        machine, _ = dict(record["machine"]), dict(record["written"])
        size = record["memory_bytes"]
        whole = size is None or (folder / MEMORY).stat().st_size == size
        whole = whole and _stamp(folder / DEVICES) == record["devices"]
    except FileNotFoundError as err:
        return f"{Path(str(err.filename)).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "it cannot be read"
    if not whole:
        return "it is damaged"
    if other := _difference(machine, fingerprint(version, command)):
        return "it was saved by a machine with {} {}; this one has {}".format(*other)
    return None


def _difference(before: Fingerprint, now: Fingerprint) -> tuple[str, str, str] | None:
    """Return the first kind in which two machines differ, with what each of them has; None if there is none."""
    for kind in sorted({*before, *now}):
        one, other = before.get(kind, "nothing"), now.get(kind, "nothing")
        if one != other:
            return kind, one, other
    return None


def incoming(site: Site, command: Sequence[str], folder: str = SAVED) -> list[str]:
    """Return `command`, that of the machine of `site`, changed to wait for the saved memory, and then for `cont`.

    A memory that several machines share is mapped privately.
    """
    record = json.loads(read_own(site.directory / folder / RECORD))
    if record["memory_bytes"] is None:
        backend = _ANONYMOUS
    elif record["common"] or folder != SAVED:  # what is in another folder is common once it is adopted
        backend = f"{_MAPPED}mem-path={SAVED}/{MEMORY},"
    else:
        return [*command, *_INCOMING]
    adapted = {_of_memory(command): _of_memory(command).replace(_SHARED, backend).replace("share=on", "share=off")}
    return [*(adapted.get(word, word) for word in command), *_INCOMING]


def load(site: Site, process: Actor, deadline: Deadline) -> None:
    """Load the saved memory of `site` into `process`, which was started by `incoming`. It stands still afterwards.

    Raises DriverError when QEMU refuses it; DeadlineError or LateError when time is up first.
    """
    saved = site.directory / SAVED
    beside = (saved / MEMORY).exists()
    if beside and _shares_memory(process):
        with open_private(saved / MEMORY, "rb") as source, _memory(process, "r+b") as memory:
            _copy(source.fileno(), memory.fileno(), deadline, "loaded")
    with Monitor(site.runtime, within(deadline)) as monitor, _passed(monitor, saved / DEVICES, "rb", beside=beside):
        monitor.ask("migrate-incoming", uri=f"fd:{DEVICES}")
        while (status := _status(monitor, "query-status")) == "inmigrate":
            _in_time(deadline, "loaded")
            cancellation.pause(_POLL_S)
        if status != "paused":
            raise DriverError(f"the hypervisor is {status} after the memory was loaded")


def waits(process: Actor) -> bool:
    """Return whether `process` was started to continue from a saved memory."""
    return _INCOMING[1] in hypervisor.command(process)


def release(site: Site, deadline: Deadline | None = None) -> None:
    """Let the machine of `site` run, and remove its saved memory. A machine that runs already is left alone.

    Once a processor may run, no start can find the memory. If this raises, see `take_back`.
    """
    directory = site.directory
    with Monitor(site.runtime, within(deadline or Deadline(_SETTLING_S))) as monitor:
        if is_saved(directory):
            remove_tree(directory / _USED)
            (directory / SAVED).replace(directory / _USED)
            flush_directory(directory)
        monitor.ask("cont")
    forget(directory)


def take_back(directory: Path) -> None:
    """Undo what `release` did to the saved memory, if the machine, which is down now, has not run with it."""
    if (directory / _USED).exists() and not any(event["event"] == "RESUME" for event in events.read(directory)):
        (directory / _USED).replace(directory / SAVED)
        flush_directory(directory)


def set_aside(directory: Path) -> None:
    """Set the saved memory aside, where no start uses it."""
    remove_tree(directory / OLD)
    (directory / SAVED).replace(directory / OLD)
    flush_directory(directory)


def forget(directory: Path) -> None:
    """Remove the saved memory, and any remains that a crash left."""
    if is_saved(directory):
        retire(directory / SAVED, directory / _USED)
    sweep_beside(directory / SAVED)


def _written(site: Site) -> dict[str, list[int]]:
    """Return each file that the guest writes to, with what changes when it is written or replaced."""
    names = [disk.DISK, firmware.VARIABLES, *(disk_file(it.name) for it in site.spec.disks)]
    found = {}
    for name in names:
        with suppress(FileNotFoundError):
            seen = (site.directory / name).stat()
            found[name] = [seen.st_ino, seen.st_size, seen.st_mtime_ns]
    return found


@contextmanager
def _passed(monitor: Monitor, path: Path, mode: str, *, beside: bool) -> Iterator[None]:
    """Hand the file `path` to the hypervisor, for a migration from or to it: of everything, but of the memory only if
    that is not in a file `beside` it."""
    with open_private(path, mode) as file:
        monitor.ask("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": beside}])
        monitor.ask("getfd", file.fileno(), fdname=DEVICES)
        yield


def _migrated(monitor: Monitor, deadline: Deadline) -> None:
    """Return once the migration is completed."""
    while (status := _status(monitor, "query-migrate")) != "completed":
        if status in ("failed", "cancelled"):
            raise DriverError(f"QEMU could not save its devices: the migration {status}")
        _in_time(deadline, "saved")
        cancellation.pause(_POLL_S)
    _concluded(monitor, deadline)


def _concluded(monitor: Monitor, deadline: Deadline) -> None:
    """Return once the machine can be continued: QEMU says a moment earlier that the migration is over.

    Raises LateError. Source: QEMU, migration/migration.c, "migration_iteration_finish".
    """
    while _status(monitor, "query-status") == "finish-migrate":
        if deadline.passed:
            raise LateError(_ENDLESS)
        cancellation.pause(_POLL_S)


def _version(monitor: Monitor) -> str:
    """Return the version of the QEMU that runs."""
    asked: Any = monitor.ask("query-version")
    number = asked["qemu"]
    return f"{number['major']}.{number['minor']}.{number['micro']}"


def _status(monitor: Monitor, question: str) -> str:
    answer = monitor.ask(question)
    if not isinstance(answer, dict):
        raise MonitorError(f"the monitor answered {question} with {answer!r}")
    return str(answer.get("status", ""))


@contextmanager
def _memory(process: Actor, mode: str) -> Iterator[Any]:
    """Open the guest's memory, which is a file without a name. Source: proc(5), memfd_create(2)."""
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(descriptor).startswith(_MEMFD):  # noqa: PTH115 - of what has no path
                with open(descriptor, mode, buffering=0) as memory:  # noqa: PTH123 - no file of ours
                    yield memory
                return
    raise DriverError("the hypervisor has no memory that can be saved")


def _stretches(source: int) -> Iterator[tuple[int, int]]:
    """Yield where each stretch of data of `source` begins and ends, between its holes. Source: lseek(2), SEEK_DATA."""
    end = 0
    while True:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError:  # ENXIO: no more data
            return
        end = os.lseek(source, begin, os.SEEK_HOLE)
        yield begin, end


def _copy(source: int, target: int, deadline: Deadline, done: str = "saved") -> None:
    """Copy what `source` holds to the same places of `target`, without its holes: memory that is to be `done`."""
    for begin, end in _stretches(source):
        os.lseek(source, begin, os.SEEK_SET)
        os.lseek(target, begin, os.SEEK_SET)
        at = begin
        while at < end:
            _in_time(deadline, done)
            at += os.sendfile(target, source, None, min(end - at, _PIECE_BYTES))


def _in_time(deadline: Deadline, done: str) -> None:
    if deadline.passed:
        raise DeadlineError(f"the memory was not {done} within {deadline.seconds:g} s")


def _shares_memory(process: Actor) -> bool:
    """Return whether the guest's memory can be read and written beside its hypervisor `process`."""
    return _of_memory(hypervisor.command(process)).startswith(_SHARED)


def _of_memory(command: Sequence[str]) -> str:
    """Return the word of a hypervisor's `command` that defines the guest's memory; empty if there is no such word."""
    return next((word for word in command if word.startswith((_SHARED, _MAPPED, _ANONYMOUS))), "")


def _stamp(path: Path) -> list[Any]:
    """Return what identifies the whole content of the file `path`."""
    size = path.stat().st_size
    return [size, sha256(read_own(path, _DEVICES_BYTES)).hexdigest() if size <= _DEVICES_BYTES else None]


def _content(folder: Path) -> tuple[str, int]:
    """Return a digest of memory and devices in `folder`, and how many bytes of them are in pages that are not zero.

    Pages of zeros count as holes, so the digest does not depend on whether a file system has kept the holes.
    """
    digest, used = sha256(), 0
    for path in (folder / name for name in (MEMORY, DEVICES) if (folder / name).exists()):
        with open_private(path, "rb") as file:
            for begin, end in _stretches(file.fileno()):
                for place in range(begin, end, _PAGE_BYTES):
                    cancellation.check()
                    page = os.pread(file.fileno(), min(_PAGE_BYTES, end - place), place)
                    if page != _ZEROS[: len(page)]:
                        digest.update(place.to_bytes(8))
                        digest.update(page)
                        used += len(page)
    return digest.hexdigest(), used


def _processor() -> str:
    """Return a digest of the model and features of this host's processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(
        line.split("\t", 1) for line in lines if line.startswith(("model name", "flags", "Features")) and "\t" in line
    )
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
