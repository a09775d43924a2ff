"""Every error is in the drawn tree, has an exit code, and survives the journal."""

import re

import pytest

from interlock import errors
from interlock.errors import BY_REFERENCE, InterlockError

KINDS = sorted(BY_REFERENCE.values(), key=lambda kind: kind.__name__)


def test_docstring_draws_every_error_with_its_exit_code_and_reference():
    """The tree in the module's docstring has the classes with their exit codes and references."""
    drawn = re.findall(r"(\w+Error)\s+(\d+)\s+([a-z-]+)", errors.__doc__)
    expected = {(kind.__name__, str(kind.exit_code), kind.reference) for kind in KINDS if kind is not InterlockError}
    assert set(drawn) == expected


def test_references_are_unique():
    """A reference names one class, so no class hides another in the mapping."""
    subclasses = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InterlockError)]
    assert len(subclasses) == len(BY_REFERENCE)


@pytest.mark.parametrize("kind", KINDS)
def test_from_record_of_any_kind_is_the_same_error(kind):
    """A caller that waited raises the same error as the one that did the work: class, message, hint and details."""
    record = {"reference": kind.reference, "message": "no", "hint": "do", "details": ["a", "b"]}
    error = InterlockError.from_record(record)
    assert (type(error), error.record(), str(error)) == (kind, record, "no")


def test_from_record_of_unknown_reference_is_the_base():
    """A record of another version is still an InterlockError with the recorded message."""
    error = InterlockError.from_record({"reference": "of-the-future", "message": "no"})
    assert (type(error), error.message, error.details) == (InterlockError, "no", ())
