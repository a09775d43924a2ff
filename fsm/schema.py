"""The schema versions of a record: which one a file has, and how an older record is converted to the newest schema.

A record carries the number of its schema; without a number, it has schema 1. Most changes need no new number: a new
field has a default, and a version that does not know a field ignores it and leaves it in the file. A new number is
needed only if the meaning of a field changes, with a migration: a function that turns an object of schema n into one of
schema n + 1.

Migrations are applied on every read and never written back, so a version that wrote a record can still read it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import TooNewError
from ..version import __version__

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts a record of schema n to schema n + 1; raises KeyError, TypeError or ValueError for a damaged record."""


def migrated(data: dict[str, Any], migrations: Sequence[Migration], source: Path | str) -> dict[str, Any]:
    """Return `data`, the record in the file `source`, in the newest schema; each older schema has one of `migrations`.

    Raises the errors of `check_schema`, and ValueError for a record that a migration cannot read.
    """
    newest = len(migrations) + 1
    check_schema(data, newest, source)
    for older in range(data.get("schema", 1), newest):
        try:
            data = {**migrations[older - 1](data), "schema": older + 1}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record of schema {older} ({error!r})") from error
    return data


def check_schema(data: dict[str, Any], newest: int, source: Path | str) -> None:
    """Raise TooNewError if `data`, the record in the file `source`, has a newer schema than `newest`.

    A record without a schema number has schema 1. Raises ValueError for an invalid number.
    """
    schema = data.get("schema", 1)
    if type(schema) is not int or schema < 1:
        raise ValueError(f"schema: expected a number from 1 to {newest}, found {schema!r}")
    if schema > newest:
        raise too_new(source, data.get("version"), f"in schema {schema}", f"which reads {newest}")


def too_new(source: Path | str, version: object, form: str, limit: str) -> TooNewError:
    """Return the error for the record in the file `source`, which `version` of Interlock wrote in a newer `form`."""
    writer = f"Interlock {version}" if isinstance(version, str) and version else "a newer Interlock"
    return TooNewError(
        f"{source}: written by {writer} {form}; this is Interlock {__version__}, {limit}", hint="interlock --version"
    )
