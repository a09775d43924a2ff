"""A failure in a guest is raised as an error and shown by every listing until it is resolved."""

import pytest

from interlock.drivers import degraded
from interlock.drivers.contract import Site
from interlock.guest.report import Failure

SCRIPT = Failure("script 003 (system)", 3, ("no such host", "giving up"))
CA = Failure("certificates", 1, ())


@pytest.fixture
def site(tmp_path, spec):
    """Return a site whose directory is empty."""
    (tmp_path / "web").mkdir()
    return Site("web", tmp_path / "web", tmp_path, spec)


def test_record_of_one_failure_names_it_and_shows_its_words(site):
    """The error has the script, its status and the end of its output."""
    error = degraded.record(site, [SCRIPT])
    assert error.message == "script 003 (system) failed in the guest with status 3"
    assert error.details == ("script 003 (system): exit status 3", "  no such host", "  giving up")
    assert (error.exit_code, error.hint) == (6, "interlock provision web")


def test_record_of_several_failures_names_all(site):
    """All failures are named, not only the first."""
    error = degraded.record(site, [SCRIPT, CA])
    assert error.message == "script 003 (system) failed in the guest with status 3, and 1 more: certificates"
    assert error.details[-1] == "certificates: exit status 1"


def test_seen_after_record_is_the_same_error(site):
    """A later listing shows the same, to the last line."""
    error = degraded.record(site, [SCRIPT, CA])
    assert degraded.seen(site).record() == error.record()


@pytest.mark.parametrize(("lines", "length"), [(20, 500), (20, 1), (0, 0)])
def test_record_of_a_hundred_failures_is_a_few_screens(site, lines, length):
    """However much fails in a guest, the error is bounded, cuts are marked, and it is read back as it was recorded."""
    failures = [Failure(f"script {number:03} ({'x' * length})", 1, ("w" * length,) * lines) for number in range(100)]
    error = degraded.record(site, failures)
    assert len(error.message) <= 200
    assert len(error.details) <= 101
    assert sum(map(len, error.details)) <= 16384
    assert (error.message[-1], error.details[-1][-1]) == ("…", "…" if lines else "1")
    assert degraded.seen(site).record() == error.record()


def test_seen_of_a_sound_machine_is_nothing(site):
    """There is no error if nothing failed, or nothing fails any more."""
    assert degraded.seen(site) is None
    degraded.record(site, [CA])
    assert degraded.record(site, []) is None
    assert (degraded.seen(site), list(site.directory.iterdir())) == (None, [])


def test_seen_of_an_endless_record_is_a_line(site):
    """Whatever the file holds, a listing shows a short message."""
    (site.directory / degraded.RECORD).write_bytes(b"\xff" * 10_000_000)
    assert len(degraded.seen(site).message) < 300
