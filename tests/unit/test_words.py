"""The messages about each transition are the reviewed ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.fsm import refusals, words
from interlock.fsm.events import Event
from interlock.fsm.happening import Happening
from interlock.fsm.records import Observation, Operation, Status
from interlock.fsm.states import AT_REST, State
from interlock.fsm.table import BY_PAIR, BY_TRIGGER, TABLE, By, Trigger
from interlock.host.process import Actor

NOT_OF_REQUESTS = (Happening.observed, Happening.holds, Happening.preempted)
"""Happenings of an unrequested transition, of one that does not take place, and of one that is about another."""

DEGRADABLE = (Trigger.start, Trigger.provision)
"""Triggers that can succeed although something failed in the guest."""


def an_event(happening: Happening, trigger: Trigger, state: State) -> Event:
    """Return an event with all the facts that events of its kind have."""
    detail = {
        Happening.observed: "guest panicked",
        Happening.done: "guest shut down" if trigger is Trigger.stop else None,
        Happening.degraded: "script 001-system ended with status 3",
        Happening.left: "the monitor does not answer",
    }
    step = "waiting for ssh" if happening is Happening.step else None
    return Event(happening, "web", trigger, state, elapsed_s=4.2, step=step, detail=detail.get(happening), pid=4711)


def happenings(trigger: Trigger, state: State) -> list[Happening]:
    """Return the happenings that can be announced for `trigger` in `state`."""
    row = BY_TRIGGER[trigger]
    if state in row.holds:
        return [Happening.holds]
    if (trigger, state) not in BY_PAIR:
        return []
    if row.observed:
        return [Happening.observed]
    if row.by is By.caller:
        return []
    joinable = row.dest in row.holds  # two processes can share an operation only if repeating it holds
    return [
        happening
        for happening in Happening
        if happening not in NOT_OF_REQUESTS
        and (joinable or happening not in (Happening.joined, Happening.suspended))
        and (trigger in DEGRADABLE or happening is not Happening.degraded)
    ]


def said(trigger: Trigger, state: State) -> list[str]:
    """Return the paragraph of the reviewed file about a pair; empty if nothing can be announced for it."""
    row = BY_TRIGGER[trigger]
    lines = [f"    {what.name:11} {an_event(what, trigger, state).message}" for what in happenings(trigger, state)]
    if not lines and (row.trigger, state) not in BY_PAIR and not row.observed:
        if state is State.absent:
            lines = [f"    not-found   {words.missing('web')}"]
        else:
            error = refusals.illegal("web", state, trigger)
            lines = [f"    refused     {error.message}", f"    hint        {error.hint}"]
    return [f"{trigger}, {state}", *lines] if lines else []


def test_sentences_every_state_trigger_and_happening_agree_with_the_reviewed_file(
    golden: Path, agrees: Callable[..., None]
) -> None:
    """Every message about a transition is in the file that a person has reviewed."""
    path = golden / "words.txt"
    head, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    paragraphs = ["\n".join(lines) for row in TABLE for state in State if (lines := said(row.trigger, state))]

    agrees(path, "\n\n".join([head, *paragraphs]) + "\n")


@pytest.mark.parametrize("happening", Happening)
@pytest.mark.parametrize("state", [*AT_REST, State.running])
def test_start_never_speaks_of_creation_or_templates(state: State, happening: Happening) -> None:
    """No message about a `start` mentions creation or templates, except for the name of the state `created`."""
    sentence = an_event(happening, Trigger.start, state).message
    claim = sentence.removesuffix(f"; it is {state}").replace(f'"web" is {state}', "")

    assert re.findall("creat|templat", claim.lower()) == []


@pytest.mark.parametrize("trigger", Trigger)
def test_sentences_use_the_verbs_of_their_own_row(trigger: Trigger) -> None:
    """A sentence about a transition contains no verb of another row."""
    others = {row.doing for row in TABLE if row.trigger is not trigger} - {None}
    for state in BY_TRIGGER[trigger].sources:
        for happening in happenings(trigger, state):
            spoken = set(an_event(happening, trigger, state).message.split())

            assert spoken & others == set()


def test_preempted_names_what_is_called_off() -> None:
    """A process that cancels an operation reports it first, for each pair that the table allows."""
    expected = [
        'deleting "web": cancelling the create of pid 4711',
        'stopping "web": cancelling the start of pid 4711',
        'killing "web": cancelling the start of pid 4711',
        'killing "web": cancelling the stop of pid 4711',
        'killing "web": cancelling the suspend of pid 4711',
        'stopping "web": cancelling the provision of pid 4711',
        'killing "web": cancelling the provision of pid 4711',
        'stopping "web": cancelling the migrate of pid 4711',
        'killing "web": cancelling the migrate of pid 4711',
        'killing "web": cancelling the fork of pid 4711',
        'killing "web": cancelling the snapshot of pid 4711',
    ]
    actual = [
        Event(Happening.preempted, "web", other, row.sources[0], detail=row.trigger, pid=4711).message
        for row in TABLE
        for other in row.yields_to
    ]

    assert expected == actual


def test_sentences_exist_for_every_happening() -> None:
    """Every happening has a sentence."""
    assert set(Happening) == set(words.SENTENCES)


def test_way_that_would_destroy_what_exists_is_not_proposed() -> None:
    """No hint deletes an instance in order to create another with its name."""
    for state in (*AT_REST, State.running):
        assert words.way("web", state, Trigger.create) == "interlock inspect web"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185.0, "3 min 5 s"),
        (3599.7, "1 h"),
        (7800.0, "2 h 10 min"),
        (86400.0, "1 d"),
        (349200.0, "4 d 1 h"),
    ],
)
def test_duration_is_said_in_at_most_two_units(seconds: float, expected: str) -> None:
    """A duration is rounded before it is split into units, so it is never 60 s or 1 min 60 s."""
    assert expected == words.duration(seconds)


A_START = Operation(
    trigger=Trigger.start,
    source=State.created,
    step="waiting for ssh",
    since="2026-01-01T00:00:00.000000Z",
    step_since="2026-01-01T00:00:03.000000Z",
    deadline=None,
    actor=Actor(pid=4711, started_ticks=1, boot_id="b"),
    interrupted=False,
)
A_DEAD_START = A_START._replace(interrupted=True)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"state": State.created}, "created"),
        ({"state": State.created, "operation": A_START}, "starting · waiting for ssh · 4.0 s"),
        ({"state": State.created, "operation": A_DEAD_START}, "created · start cut short at: waiting for ssh"),
        (
            {"state": State.created, "operation": A_DEAD_START, "observation": Observation(alive=True)},
            "created · start cut short at: waiting for ssh · guest alive",
        ),
        (
            {"state": State.running, "observation": Observation(alive=True, condition="paused: the disk is full")},
            "running · paused: the disk is full",
        ),
        ({"state": State.stopped, "reason": "guest panicked"}, "stopped · guest panicked"),
        ({"state": State.absent, "damage": "spec.json: no such file"}, "damaged · spec.json: no such file"),
    ],
)
def test_status_line_shows_all_that_is_known(
    facts: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status shows, besides the state, work in progress, problems of the guest and the reason for the state."""
    monkeypatch.setattr(words, "seconds_since", lambda _: 4.0)

    assert expected == words.status(Status(name="web", directory=Path("/home/web"), **facts))  # type: ignore[arg-type]
