"""The cluster and the instance that a site stands for, and the job that is under way there.

ganeti.json     written by `create`, and before each job is submitted to the cluster. For an instance that is to be
                adopted it is there before `create`, which adds the inode
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from ...errors import DamagedError
from ...fsm.schema import check_schema
from ...host.files import misread, read_own, write_whole
from ..contract import Site

RECORD = "ganeti.json"

_SCHEMA = 1

ASKED = -1
"""In place of the number of a job that was submitted, if its number is not recorded: the process died before that."""


class Record(NamedTuple):
    """The content of the file."""

    cluster: str
    instance: str
    """Its name in the cluster; empty while it is unknown."""
    instance_id: str
    """The spec's id, which is also in a tag of the instance, so that another instance of the same name is detected."""
    inode: int
    """The inode of the site's directory: a copy of the directory has another inode and is not this machine."""
    job: int = 0
    """The last submitted job, until its end has been seen; 0 if there is no such job."""
    made: bool = False
    """True once the instance is complete."""
    address: str = ""
    """The guest's address, for ssh; empty if the cluster assigned no address."""
    ran: bool = False
    """True from the first start until a reset; only then is there a reason why the machine is down."""
    ended: str = ""
    """How the last run that was ended from here ended."""
    ended_at: int = 0
    """The instance's serial number at that moment. It changes when somebody else starts the instance."""
    former: str | None = None
    """The mark of the home that it was adopted from; empty if it belonged to no home, None if it was created here."""
    schema: int = _SCHEMA


def written(record: Record) -> bytes:
    """Return the content of the file that holds `record`."""
    return json.dumps(record._asdict()).encode() + b"\n"


def adoption(site: Site) -> Record | None:
    """Return the record of an instance that is to be adopted, which has no inode yet; None if it is to be created.

    Raises DamagedError or UnreadableError: an instance that was to be adopted must not be created instead.
    """
    path = site.directory / RECORD
    try:
        found = _parsed(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise misread(path, error) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: {error}") from error
    return None if found.former is None else found


def read(site: Site) -> Record | None:
    """Return the record; None if there is no record, or if it belongs to another directory, as in a copy.

    A damaged record is rebuilt from the spec: its `instance` is empty until the machine is found by its tag. Raises
    DamagedError if the spec names no cluster either, UnreadableError if the system cannot read the record.
    """
    path = site.directory / RECORD
    try:
        found = _parsed(path)
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
    """Return the command that removes the files of `site` on this host, but not its machine."""
    return f"rm {shlex.quote(str(site.directory / RECORD))} && interlock delete --force {site.name}"


def write(site: Site, record: Record) -> None:
    """Replace the record by `record`."""
    write_whole(site.directory / RECORD, written(record))


def _parsed(path: Path) -> Record:
    data = json.loads(read_own(path))
    check_schema(data, _SCHEMA, path)
    return Record(**{key: value for key, value in data.items() if key in Record._fields})
