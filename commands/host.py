"""The command about this host."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..errors import HostError, InterlockError
from ..host.home import Home
from .stdout import Format, format_option, print_records, size

if TYPE_CHECKING:
    from ..fsm.records import Check

FEW_BYTES = 2 << 30
"""Less free than this, and building the debian image fails half-way."""


@click.command("doctor")
@format_option
def doctor_command(output_format: Format) -> None:
    """Check this host: what is there, what is missing, and the command that mends it.

    Exit code 6 when something is missing that every instance needs.
    """
    found = list(_checks(Home.from_environment()))
    print_records(
        (check.to_json() for check in found),
        output_format,
        (
            ("CHECK", lambda record: record["subject"]),
            ("", lambda record: "ok" if record["ok"] else "missing" if record["essential"] else "optional"),
            ("FINDING", lambda record: record["finding"]),
            ("TO MEND", lambda record: record["mend"] or ""),
        ),
    )
    missing = [check for check in found if check.essential and not check.ok]
    if missing:
        raise HostError(f"this host lacks: {', '.join(check.subject for check in missing)}", hint=missing[0].mend)


def _checks(home: Home) -> Iterator["Check"]:
    from .. import drivers
    from ..fsm.records import Check

    yield _home(home)
    for name in drivers.names():
        try:
            yield from drivers.find(name).checks(home.runtime)
        except InterlockError as error:
            yield Check(f"driver {name}", ok=False, finding=error.message, mend=error.hint, essential=False)
    yield _image_building()


def _image_building() -> "Check":
    from ..fsm.records import Check
    from ..images.tools import missing

    lacking = dict(missing())
    if not lacking:
        return Check("image build", ok=True, finding="all that it needs is there", essential=False)
    finding = f"lacks {', '.join(lacking)}"
    mend = f"apt install {' '.join(sorted(set(lacking.values())))}"
    return Check("image build", ok=False, finding=finding, mend=mend, essential=False)


def _home(home: Home) -> "Check":
    from ..fsm.records import Check

    try:
        home.prepare()
        free = shutil.disk_usage(home.root).free
    except InterlockError as error:
        return Check("home", ok=False, finding=error.message, mend=error.hint)
    except OSError as error:
        return Check("home", ok=False, finding=f"{error.filename}: {os.strerror(error.errno or 0)}")
    enough = free > FEW_BYTES
    return Check("home", ok=enough, finding=f"{home.root}, {size(free)} free", essential=False)
