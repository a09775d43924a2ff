"""Which instance of which cluster a site is, and what is under way there.

ganeti.json     written by `create` and whenever something is asked of the cluster, before it is asked
"""

import json
import shlex
from typing import NamedTuple

from ...errors import DamagedError
from ...fsm.schema import check_schema
from ...host.files import misread, read_own, write_whole
from ..contract import Site

RECORD = "ganeti.json"

_SCHEMA = 1

ASKED = -1
"""Stands for the number of a job that was asked for, where nobody noted its number: the asking process died."""


class Record(NamedTuple):
    """The content of the file."""

    cluster: str
    instance: str
    """Its name in the cluster; empty where nobody knows it yet."""
    instance_id: str
    """That of the spec: it stands on the instance, so another one of that name is noticed."""
    inode: int
    """Of the site's directory: a copy of it has another, and is not this machine."""
    job: int = 0
    """The job that was submitted last and whose end nobody has seen; 0 where there is none."""
    made: bool = False
    """True once the instance is whole."""
    address: str = ""
    """The guest's, where ssh finds it."""
    ran: bool = False
    """True once it was started; until it is reset, a machine that is down has a reason."""
    ended: str = ""
    """How the last run that we have ended has ended."""
    ended_at: int = 0
    """The serial number that the instance had then. It has another one once somebody else has started it."""
    schema: int = _SCHEMA


def read(site: Site) -> Record | None:
    """Return the record; None where there is none, or where it belongs to another directory, as in a copy.

    One that is damaged is made again from the spec: its `instance` is empty, until the machine is found by its tag.
    Raises DamagedError where the spec names no cluster, UnreadableError where the system cannot read the record.
    """
    path = site.directory / RECORD
    try:
        data = json.loads(read_own(path))
        check_schema(data, _SCHEMA, path)
        found = Record(**{key: value for key, value in data.items() if key in Record._fields})
        return found if found.inode == site.directory.stat().st_ino else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise misread(path, error) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if site.spec.cluster:
            inode = site.directory.stat().st_ino
            return Record(site.spec.cluster, "", site.spec.instance_id, inode, job=ASKED, made=True, ran=True)
        raise DamagedError(f"{path}: {error}", hint=forget(site)) from error


def forget(site: Site) -> str:
    """Return the command that removes what is here of `site`, whose machine stays wherever it is."""
    return f"rm {shlex.quote(str(site.directory / RECORD))} && interlock delete --force {site.name}"


def write(site: Site, record: Record) -> None:
    """Replace the record by `record`."""
    write_whole(site.directory / RECORD, json.dumps(record._asdict()).encode() + b"\n")
