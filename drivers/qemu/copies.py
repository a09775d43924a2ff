"""Files that a guest makes and its host wants: fetched once the guest is ready, and gone with it if so wished."""

import os
from contextlib import suppress
from pathlib import Path

from ...errors import DriverError
from ...fsm.spec import Copy, Spec
from ...guest import session, ssh
from ...host.files import flush_directory, make_private_directory, open_private
from ...host.run import run
from ..contract import Deadline, Site

_ABSENT = 66
"""Exit status of `_SHOW` for a file that is not there. Source: sysexits.h, EX_NOINPUT."""

_SHOW = f"""\
[ -r "$1" ] && exec cat "$1"
[ -e "$1" ] || sudo -n test -e "$1" 2>/dev/null || exit {_ABSENT}
exec sudo -n cat "$1"
"""


def fetch(site: Site, deadline: Deadline, lifeline: int) -> None:
    """Bring the spec's copies from the guest: each is whole or as it was before, and its owner's alone (0600).

    `lifeline` is the hypervisor's pidfd. Raises DriverError in the guest's words.
    """
    for wanted in site.spec.copies:
        _fetch(site, wanted, deadline, lifeline)


def forget(spec: Spec) -> None:
    """Remove the copies that are to go with the machine, which is down."""
    for wanted in spec.copies:
        if wanted.delete_on_stop:
            with suppress(FileNotFoundError, NotADirectoryError):
                Path(wanted.host).unlink()


def _fetch(site: Site, wanted: Copy, deadline: Deadline, lifeline: int) -> None:
    target = Path(wanted.host)
    show = ["sh", "-c", _SHOW, "sh", wanted.guest]
    command = ssh.command_line(site.directory / ssh.CONFIG, site.name, show, options=session.OPTIONS)
    fresh = make_private_directory(target.parent) / f".{target.name}.{os.getpid()}"
    try:
        with open_private(fresh, "wb") as file:
            ended = run(command, stdout=file, wait=session.Patience(deadline, lifeline).pause)
            os.fsync(file.fileno())
        if ended.status == 0:
            fresh.replace(target)
            flush_directory(target.parent)
        elif ended.status != _ABSENT:
            first, *rest = ended.words or [f"ssh ended with status {ended.status}"]
            raise DriverError(f"cannot copy {wanted.guest} from the guest: {first}", details=rest)
        elif not wanted.skip_if_missing:
            raise DriverError(f"cannot copy {wanted.guest} from the guest: there is no such file")
    finally:
        fresh.unlink(missing_ok=True)
