"""`list --all-hosts`: the instances of this host and of those in hosts.yaml, which are asked in parallel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import click

from ..errors import DriverError, InterlockError
from ..fsm.records import Status
from ..remote.address import HERE, Host, named
from ..remote.answers import error_in, objects, status
from ..remote.connection import Connection
from .listing import Listing, cell, matching
from .stdout import print_record, print_table

if TYPE_CHECKING:
    from .session import Session

PATIENCE_S = 30.0
"""How long a host may take to answer; ssh gives up connecting earlier."""


class Answer(NamedTuple):
    """The answer of one host."""

    host: str
    statuses: Sequence[Status] = ()
    error: InterlockError | None = None


def list_all_hosts(session: "Session", listing: Listing) -> None:
    """Print the instances of all hosts, in the order of hosts.yaml, and name the hosts that do not answer.

    Ends the command with the exit code of the first host that does not answer.
    """
    hosts: list[Host | None] = [None, *named().values()]
    with ThreadPoolExecutor(len(hosts)) as threads:
        answers = list(threads.map(lambda host: _ask(session, host), hosts))
    if listing.output_format == "table":
        _print_table(answers, listing)
    for host, statuses, error in answers:
        if listing.output_format != "table":
            for one in matching(statuses, listing.filters):
                print_record({"host": host, **one.to_json()}, listing.output_format)
        if error:
            if listing.output_format != "table":
                failure = error.record() | {"exit_code": error.exit_code}
                print_record({"host": host, "name": None, "error": failure}, listing.output_format)
            session.stderr.error(error)
    failed = next((answer.error for answer in answers if answer.error), None)
    if failed:
        click.get_current_context().exit(failed.exit_code)


def _ask(session: "Session", host: Host | None) -> Answer:
    label = host.label if host else HERE
    try:
        if host is None:
            return Answer(label, list(session.interlock.instances()))
        settings = {"INTERLOCK_LOG_FORMAT": "json"}
        ended = Connection(host).call(["list", "--json"], settings=settings, timeout_s=PATIENCE_S)
        if ended.status:
            failed = error_in(ended) or DriverError(f"list ended there with exit code {ended.status}")
            return Answer(label, error=failed)
        return Answer(label, [status(record) for record in objects(ended.stdout)])
    except InterlockError as error:
        return Answer(label, error=error)


def _print_table(answers: Sequence[Answer], listing: Listing) -> None:
    rows = []
    for host, statuses, error in answers:
        rows += [
            [host, *(cell(one, title) for title in listing.columns)] for one in matching(statuses, listing.filters)
        ]
        if error:
            rows.append([host, *("-" for _ in listing.columns[:-1]), f"{error.reference}: {error.message}"])
    if rows:
        print_table(("HOST", *listing.columns), rows)
