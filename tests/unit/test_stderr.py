"""What people and logs read on stderr: each event once, in the form that was asked for."""

import io
import json
import re
import sys

import pytest

from interlock.commands import stderr
from interlock.commands.stderr import announcer, print_error
from interlock.errors import DriverError
from interlock.fsm.events import Event, Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger

ERROR = DriverError("it \x1b[31mburns", hint="fetch water", details=["smoke\x07", "fire"])


@pytest.fixture(autouse=True)
def fresh_logger():
    """Forget the logger of the test before, which writes to its stderr."""
    stderr._logger.cache_clear()
    yield
    stderr._logger.cache_clear()


def an_event(happening=Happening.begun, **facts):
    return Event(happening, "web", Trigger.start, State.created, **facts)


LIFE = [
    an_event(elapsed_s=0.0),
    an_event(Happening.step, step="waiting for ssh", elapsed_s=0.5),
    an_event(Happening.done, elapsed_s=4.2),
]


def test_announce_as_json_writes_the_facts_of_each_event(capsys):
    """One object a line: the event's constant, its facts, its level, its time and the sentence."""
    for event in LIFE:
        announcer("json")(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["transition_begun", "transition_step", "transition_done"]
    assert [line["message"] for line in lines] == [event.message for event in LIFE]
    assert all(line.items() >= event.facts().items() for line, event in zip(lines, LIFE, strict=True))
    assert {line["level"] for line in lines} == {"info"}
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_announce_as_logfmt_writes_keys_in_their_order(capsys):
    """A line of logfmt begins with time, level and event, and holds no value that would break it."""
    announcer("logfmt")(LIFE[1])
    assert re.fullmatch(
        r"timestamp=\S+Z level=info event=transition_step instance=web trigger=start source=created dest=running "
        r'elapsed_s=0.5 step="waiting for ssh" message="starting \\"web\\": waiting for ssh"\n',
        capsys.readouterr().err,
    )


def test_announce_for_people_writes_the_sentences(capsys):
    """People read a line for the beginning, one for each step with its time, and one for the end."""
    for event in LIFE:
        announcer("human")(event)
    assert capsys.readouterr().err == 'starting "web"\n   0.5 s  waiting for ssh\nstarted "web" in 4.2 s\n'


@pytest.mark.parametrize(
    ("happening", "level"),
    [
        (Happening.failed, "error"),
        (Happening.left, "error"),
        (Happening.interrupted, "warning"),
        (Happening.done, "info"),
    ],
)
def test_announce_level_follows_the_happening(capsys, happening, level):
    """What failed is an error, what somebody left is a warning, the rest is information."""
    announcer("json")(an_event(happening, elapsed_s=1.0))
    assert json.loads(capsys.readouterr().err)["level"] == level


def test_announce_without_a_choice_off_a_terminal_is_logfmt(capsys):
    """Where nobody is looking, a log is written."""
    announcer(None)(LIFE[0])
    assert capsys.readouterr().err.startswith("timestamp=")


def test_announce_odd_text_of_a_driver_steers_no_terminal(capsys):
    """A step in a program's words is shown without its control characters."""
    announcer("human")(an_event(Happening.step, step="[bold]x\x1b[2J[/bold]", elapsed_s=0.1))
    assert "[bold]x[2J[/bold]" in capsys.readouterr().err


def test_announce_to_a_closed_stderr_is_silent(monkeypatch):
    """That nobody reads the log any more is no reason to call the work off."""

    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    announcer("logfmt")(LIFE[0])


def test_print_error_for_people_is_reference_message_details_hint(capsys):
    """First what kind it is, then what happened, the failing program's words, and what to do."""
    print_error(ERROR, "human")
    assert capsys.readouterr().err == "error: driver-failed\nit [31mburns\n  | smoke\n  | fire\nhint: fetch water\n"


def test_print_error_as_json_is_one_object(capsys):
    """A program reads the same facts, and the exit code."""
    print_error(ERROR, "json")
    assert json.loads(capsys.readouterr().err) == {"level": "error", "event": "error", **ERROR.record(), "exit_code": 6}


class Screen(io.StringIO):
    """A terminal's stderr."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """Return what puts a terminal of 40 columns in the place of stderr, which pytest sets anew for the test."""

    def put():
        shown = Screen()
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return put


LONG = "the guest did not answer in the time that it was given for that"


def test_messages_on_narrow_terminal_are_broken_between_words(screen):
    """The terminal would break them anywhere; a hint stays in one line, because it is copied."""
    shown = screen()
    print_error(DriverError(LONG, hint=f"interlock {LONG}"), "human")
    stderr.print_note(LONG, "human")
    announcer("human")(an_event(Happening.failed, elapsed_s=1.0, detail=LONG))
    lines = re.sub(r"\x1b\[[0-9;?]*[a-z]", "", shown.getvalue()).splitlines()
    assert lines[:5] == [
        "error: driver-failed",
        "the guest did not answer in the time",
        "that it was given for that",
        f"hint: interlock {LONG}",
        "the guest did not answer in the time",
    ]
    assert [line for line in lines if len(line) > 40] == [lines[3]]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_messages_to_whoever_wants_no_colours_have_none(screen, monkeypatch, name, value):
    """Neither in errors nor in what transitions say; only the line that moves needs the cursor, where there is one."""
    monkeypatch.setenv(name, value)
    shown = screen()
    for event in LIFE:
        announcer("human")(event)
    print_error(ERROR, "human")
    assert re.findall(r"\x1b\[[0-9;]*m", shown.getvalue()) == []
    if name == "TERM":
        assert "\x1b" not in shown.getvalue()


def test_messages_on_a_terminal_have_colours(screen):
    """What the two tests above would miss, were there none at all."""
    shown = screen()
    for event in LIFE:
        announcer("human")(event)
    print_error(ERROR, "human")
    assert "\x1b[32m" in shown.getvalue()
    assert "\x1b[1;31merror" in shown.getvalue()
