"""Probes: what a start waits for, and for how long if something failed before."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.errors import CancelledError
from interlock.fsm.port import Deadline
from interlock.fsm.spec import Probe
from interlock.guest import probes, session
from interlock.guest.report import Failure
from interlock.guest.session import Endpoint
from interlock.host.cancellation import calling_off

ENDPOINT = Endpoint("web", Path("/nowhere"), 0, "i-1")
PROBE = Probe("a server listens", "#!/bin/sh\n", "look into its log")
SCRIPT = Failure("script 000 (system)", 3, ())


@pytest.fixture
def pidfd() -> Iterator[int]:
    """Return the pidfd of a live machine."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every probe fail with status 7 and the output `nobody`."""

    def run(*_: object, hear, **__: object) -> int:
        hear(b"nobody\n")
        return 7

    monkeypatch.setattr(session, "run", run)


def test_probe_that_succeeds_adds_nothing_to_what_failed(pidfd, monkeypatch):
    """Failures of the boot are reported even if the probe succeeds."""
    monkeypatch.setattr(session, "run", lambda *_, **__: 0)
    assert probes.run(ENDPOINT, [PROBE], Deadline(60), pidfd, print, failures=(SCRIPT,)) == (SCRIPT,)


@pytest.mark.usefixtures("refused")
def test_probe_after_a_failure_is_given_a_short_grace_and_named_beside_it(pidfd, monkeypatch):
    """The probe usually needs what the failed script should have installed, so waiting long for it is pointless."""
    monkeypatch.setattr(probes, "_GRACE_S", 0.1)
    failures = probes.run(ENDPOINT, [PROBE], Deadline(3600), pidfd, print, failures=(SCRIPT,))
    assert failures == (SCRIPT, Failure('probe "a server listens"', 7, ("nobody",)))


@pytest.mark.usefixtures("refused")
def test_probe_that_never_succeeds_is_reported_with_its_words_and_its_hint(pidfd):
    """If nothing failed before, the probe has until the start's own deadline."""
    with pytest.raises(probes.ProbeError, match=r"within 0\.1 s") as caught:
        probes.run(ENDPOINT, [PROBE], Deadline(0.1), pidfd, print)
    assert caught.value.details == ("nobody", "look into its log")


@pytest.mark.usefixtures("refused")
def test_grace_of_a_probe_can_be_called_off(pidfd):
    """Cancelling a start also ends waits with a shorter deadline derived from its own."""
    deadline = Deadline(3600).at_most(1800)
    assert 0 < deadline.remaining_s <= 1800
    with pytest.raises(CancelledError, match="called off by stop"), calling_off(lambda: "called off by stop"):
        probes.run(ENDPOINT, [PROBE], deadline, pidfd, print)


@pytest.mark.usefixtures("refused")
def test_probe_is_repeated_at_growing_intervals_of_four_seconds_at_most(monkeypatch):
    """A service that takes an hour is still probed often, without keeping the guest busy with logins."""
    pauses = []

    class Wait:
        def __init__(self, *_: object) -> None:
            pass

        def pause(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 8:
                raise CancelledError("enough")

    monkeypatch.setattr(probes, "Wait", Wait)
    with pytest.raises(CancelledError):
        probes.run(ENDPOINT, [PROBE], Deadline(60), 0, lambda _: None)
    assert pauses == [0.25, 0.5, 1, 2, 4, 4, 4, 4]
