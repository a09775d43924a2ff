"""Changes which folders of the host a running guest has mounted."""

import io
import tarfile
from collections.abc import Sequence

from ..errors import DriverError
from ..fsm.port import Deadline
from ..host.progress import Report
from . import session, ssh
from .facts import MountPoint
from .report import Failure, bounded_words, lines, parse
from .seed import PROGRAM_FILE, mount_facts
from .session import Endpoint, Wait

_UNPACKED = 'd=$(mktemp -d) && tar -x -f - -C "$d" && sh "$d/interlock" remount; status=$?; rm -rf "$d"; exit $status'


def run(
    endpoint: Endpoint, mounts: Sequence[MountPoint], deadline: Deadline, pidfd: int, report: Report
) -> tuple[Failure, ...]:
    """Replace the mounts in the guest's seed by `mounts`, now and at each boot; return the steps whose last run failed.

    Raises DriverError with the guest's output if that fails, DeadlineError when time is up, GuestGoneError when the
    machine died.
    """
    report("changing the mounts")
    said = bounded_words()
    facts = {"interlock": PROGRAM_FILE.read_bytes(), **mount_facts(mounts)}
    command = ssh.as_root("sh", "-c", _UNPACKED)
    status = session.run(endpoint, command, Wait(deadline, pidfd), stdin=_packed(facts), hear=said.hear)
    if status:
        raise DriverError("the guest could not change its mounts", details=lines(bytes(said))[-5:])
    return parse(bytes(said))


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
