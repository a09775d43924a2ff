"""Which restart is due according to the journal, and which instances should have started at login."""

import pytest

from interlock.fsm import restarts
from interlock.fsm.journal import Journal, Line, Phase
from interlock.fsm.records import AUTOSTART_FILE
from interlock.fsm.states import State
from interlock.fsm.table import BY_TRIGGER, Trigger
from interlock.host.process import boot_id, this_process

CALLED_OFF = {"reference": "cancelled", "message": "called off", "hint": None, "details": []}
REFUSED = {**CALLED_OFF, "reference": "driver"}


def line(trigger, phase, minute=0, restart=0, error=None, source=State.stopped):
    row = BY_TRIGGER[Trigger(trigger)]
    return Line(
        trigger=row.trigger,
        source=source,
        dest=row.leads_to(source),
        phase=Phase(phase),
        actor=this_process(),
        time=f"2026-01-01T00:{minute:02}:00.000000Z",
        error=error,
        asked={"restart": restart} if restart else None,
    )


def ran(restart=0, *, minutes=1):
    """Return the lines of a machine that was started and went down by itself after `minutes`."""
    return [
        line("start", "begun", restart=restart),
        line("start", "done", restart=restart),
        line("exited", "done", minutes, source=State.running),
    ]


@pytest.mark.parametrize(
    ("lines", "failed", "number"),
    [
        (ran(), True, 1),
        (ran(), False, None),
        (ran(1), True, 2),
        (ran(restarts.TRIES), True, None),
        (ran(restarts.TRIES, minutes=10), True, 1),
        ([*ran(2), line("start", "begun", restart=3)], True, 3),
        ([*ran(2), line("start", "begun", restart=3), line("start", "undone")], True, 3),
        ([*ran(2), line("start", "begun", restart=3), line("start", "failed", restart=3, error=REFUSED)], True, 4),
        (
            [*ran(2), line("start", "begun", restart=3), line("start", "failed", restart=3, error=CALLED_OFF)],
            True,
            None,
        ),
        ([*ran(2), line("start", "begun"), line("start", "failed", error=REFUSED)], True, None),
        ([*ran(), line("edit", "done")], True, None),
        ([*ran(2)[:2], line("stop", "done", source=State.running)], True, None),
    ],
    ids=[
        "a first failure",
        "the guest shut down",
        "a second failure",
        "one too many",
        "it ran steadily before",
        "under way",
        "its process was killed",
        "it could not be started",
        "called off",
        "somebody else's start",
        "somebody sees to it",
        "stopped",
    ],
)
def test_restart_that_is_due_is_counted_from_the_journal(lines, failed, number):
    """Restarts count from the last requested start, up to a limit; none is due after one was called off."""
    assert restarts.due(lines, failed=failed) == number


def test_each_restart_waits_twice_as_long_as_the_one_before():
    """All delays together take about a minute."""
    assert [restarts.delay_s(number + 1) for number in range(restarts.TRIES)] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("mark", "phase", "boot", "missed"),
    [
        (None, "done", "earlier", False),
        ("earlier", "done", "earlier", True),
        ("", "done", "earlier", True),
        (boot_id(), "done", "earlier", False),
        ("earlier", "done", boot_id(), False),
        ("earlier", "failed", boot_id(), False),
        ("earlier", "undone", boot_id(), True),
    ],
)
def test_what_starts_at_login_is_missed_where_nothing_was_done_since_the_boot(tmp_path, mark, phase, boot, missed):
    """A mark made in this boot counts from the next one; an instance that somebody tried to start is left alone."""
    if mark is not None:
        (tmp_path / AUTOSTART_FILE).write_text(mark)
    entry = line("start", phase, error=REFUSED if phase == "failed" else None)
    Journal(tmp_path).append(entry._replace(actor=entry.actor._replace(boot_id=boot)), seq=1)
    assert restarts.is_missed(tmp_path) is missed


@pytest.mark.parametrize("last", [("exited", "done"), ("provision", "undone")])
def test_what_starts_at_login_is_missed_where_the_boot_before_is_only_settled(tmp_path, last):
    """Recovery after a power cut adds lines to the journal, but they are not a user's request."""
    (tmp_path / AUTOSTART_FILE).write_text("earlier")
    before = line("start", "done")
    Journal(tmp_path).append(before._replace(actor=before.actor._replace(boot_id="earlier")), seq=1)
    Journal(tmp_path).append(line(*last, source=State.running), seq=2)
    assert restarts.is_missed(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"\0"])
def test_mark_that_is_no_text_is_that_of_an_earlier_boot(tmp_path, content):
    """An unreadable mark still marks the instance."""
    (tmp_path / AUTOSTART_FILE).write_bytes(content)
    before = line("start", "done")
    Journal(tmp_path).append(before._replace(actor=before.actor._replace(boot_id="earlier")), seq=1)
    assert restarts.is_missed(tmp_path)
