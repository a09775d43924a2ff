"""`interlock prune`: lists what nothing needs, and removes it if the user agrees."""

from collections.abc import Collection

import click

from ..host.unneeded import KINDS
from .agreement import agreeing, can_ask, confirmed
from .options import F, format_option, pass_session
from .session import Session
from .stdout import Format, print_records, size


def agreement_options(function: F) -> F:
    """Give a command that removes things `--yes` and `--dry-run`."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only list them.")
    return click.option("--yes", "-y", is_flag=True, help="Remove them without asking.")(dry_run(function))


@click.command("prune")
@click.argument("what", nargs=-1, type=click.Choice(KINDS))
@agreement_options
@format_option
@pass_session
def prune_command(session: Session, what: tuple[str, ...], yes: bool, dry_run: bool, output_format: Format) -> None:
    """List what nothing needs, and remove it if you agree or with --yes.

    \b
    image     an image that no instance uses
    warm      a warm image that no instance started from or will start from
    download  a partial download that no process is continuing
    leftover  files that a dead process left in the image store
    log       a log, unchanged for a week, of an instance that is not running
    runtime   the sockets of an instance that does not exist

    WHAT limits the search to some of these. Only what was listed is removed, and nothing that is in use.

    \b
    interlock prune
    interlock prune image download --yes
    """
    prune(session, what or KINDS, yes=yes, dry_run=dry_run, output_format=output_format)


def prune(session: Session, kinds: Collection[str], *, yes: bool, dry_run: bool, output_format: Format) -> None:
    """List the unneeded objects of `kinds`, and remove them with `yes` or if the user at the terminal agrees.

    With `dry_run`, or if nobody can be asked, they are only listed, with the command that removes them.
    """
    interlock = session.interlock
    found = interlock.unneeded(kinds)
    print_records(
        (one.to_json() for one in found),
        output_format,
        (
            ("WHAT", lambda record: record["what"]),
            ("NAME", lambda record: record["name"]),
            ("ARCH", lambda record: record["arch"] or "-"),
            ("FREES", lambda record: size(record["size_bytes"])),
        ),
    )
    total = size(sum(one.size_bytes for one in found))
    if not found:
        session.report("nothing to remove")
    elif dry_run or not (yes or (can_ask() and confirmed(f"remove all of this ({total})?", err=True))):
        session.report(f"nothing was removed; this would free {total}: {agreeing()}")
    else:
        gone = interlock.prune(found, session.report)
        kept = len(found) - len(gone)
        session.report(
            f"freed {size(sum(one.size_bytes for one in gone))}"
            + (f"; kept {kept} of {len(found)}, which came into use" if kept else "")
        )
