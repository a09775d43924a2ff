"""The command about this host."""

import re
from typing import TYPE_CHECKING

import click

from ..errors import HostError
from .options import format_option
from .stdout import Format, print_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..fsm.records import Check

_INSTALL = "apt install "


@click.command("doctor")
@format_option
def doctor_command(output_format: Format) -> None:
    """Check this host: what is there, what is missing, and the command that installs or fixes it.

    The exit code is 6 if something that every instance needs is missing.

    \b
    interlock doctor
    """
    from ..api import checks

    found = list(checks())
    print_records(
        (check.to_json() for check in found),
        output_format,
        (
            ("CHECK", lambda record: record["subject"]),
            ("", lambda record: "ok" if record["ok"] else "missing" if record["essential"] else "optional"),
            ("FINDING", lambda record: record["finding"]),
            ("FIX", lambda record: record["mend"] or ""),
        ),
    )
    missing = [check for check in found if check.essential and not check.ok]
    if missing:
        raise HostError(f"this host lacks: {', '.join(check.subject for check in missing)}", hint=_mend(missing))


def _mend(missing: "Iterable[Check]") -> str | None:
    """Return one command line that fixes all of `missing`, and that installs all packages at once."""
    commands = dict.fromkeys(check.mend for check in missing if check.mend)
    packages = [command for command in commands if re.fullmatch(f"{_INSTALL}[^|&]*", command)]
    names = sorted({name for command in packages for name in command.removeprefix(_INSTALL).split()})
    others = [command for command in commands if command not in packages]
    return " && ".join([*([_INSTALL + " ".join(names)] if names else []), *others]) or None
