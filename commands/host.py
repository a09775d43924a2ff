"""The command about this host."""

import click

from ..errors import HostError
from .stdout import Format, format_option, print_records


@click.command("doctor")
@format_option
def doctor_command(output_format: Format) -> None:
    """Check this host: what is there, what is missing, and the command that installs or fixes it.

    Exit code 6 when something is missing that every instance needs.

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
            ("TO MEND", lambda record: record["mend"] or ""),
        ),
    )
    missing = [check for check in found if check.essential and not check.ok]
    if missing:
        raise HostError(f"this host lacks: {', '.join(check.subject for check in missing)}", hint=missing[0].mend)
