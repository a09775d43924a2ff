"""`interlock prune`: what nothing needs is listed first, and removed when the user agrees."""

import sys
from collections.abc import Collection

import click

from ..host.unneeded import KINDS
from .agreement import confirmed
from .options import F, format_option, pass_session
from .session import TYPED, Session
from .stdout import Format, print_records, size


def agreement_options(function: F) -> F:
    """Give a command that removes things `--yes` and `--dry-run`."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only list; ask nothing.")
    return click.option("--yes", "-y", is_flag=True, help="Remove them without asking.")(dry_run(function))


@click.command("prune")
@click.argument("what", nargs=-1, type=click.Choice(KINDS))
@agreement_options
@format_option
@pass_session
def prune_command(session: Session, what: tuple[str, ...], yes: bool, dry_run: bool, output_format: Format) -> None:
    """List what nothing needs; remove it once you agree, or with --yes.

    \b
    image     no instance uses it
    warm      a warm image that no instance began from, or will
    download  the beginning of a file that nobody is fetching
    leftover  what a process that died left in the image store
    log       of an instance that does not run, and not written to for a week
    runtime   the sockets of an instance that does not exist

    WHAT are those to look for; by default all. Nothing that is in use is removed, nor anything that was not listed.

    \b
    interlock prune
    interlock prune image download --yes
    """
    prune(session, what or KINDS, yes=yes, dry_run=dry_run, output_format=output_format)


def prune(session: Session, kinds: Collection[str], *, yes: bool, dry_run: bool, output_format: Format) -> None:
    """List what nothing needs of `kinds`, and remove what is listed with `yes`, or if the user at the terminal agrees.

    With `dry_run`, and where nobody can be asked, it is listed with the command that removes it.
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
        session.report("there is nothing to remove")
    elif dry_run or not (yes or _agreed(f"remove all of this, {total}?")):
        session.report(f"nothing was removed; this would free {total}: interlock {_command()}")
    else:
        gone = interlock.prune(found, session.report)
        kept = len(found) - len(gone)
        session.report(
            f"freed {size(sum(one.size_bytes for one in gone))}"
            + (f"; {kept} of {len(found)} came into use and stayed" if kept else "")
        )


def _agreed(question: str) -> bool:
    """Return whether the user says yes, who can be asked only at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty() and confirmed(question, err=True)


def _command() -> str:
    """Return the command line that was typed, as it removes what it lists."""
    import shlex

    words = click.get_current_context().meta[TYPED]
    return shlex.join([*(word for word in words if word not in ("--dry-run", "--yes", "-y")), "--yes"])
