"""Messages on stderr for people and logs: each event once, in the requested format."""

import io
import json
import logging
import re
import subprocess
import sys

import pytest
import structlog

from interlock.commands.stderr import Stderr
from interlock.errors import DriverError
from interlock.fsm.events import Event
from interlock.fsm.happening import Happening
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.log import facts, structlog_announcer

ERROR = DriverError("it \x1b[31mburns", hint="fetch water", details=["smoke\x07", "fire"])


def an_event(happening=Happening.begun, **facts):
    return Event(happening, "web", Trigger.start, State.created, **facts)


LIFE = [
    an_event(elapsed_s=0.0),
    an_event(Happening.step, step="waiting for ssh", elapsed_s=0.5),
    an_event(Happening.done, elapsed_s=4.2),
]


def test_announce_as_json_writes_the_facts_of_each_event(capsys):
    """Each line is an object with the event's constant, facts, level, time and sentence."""
    for event in LIFE:
        Stderr("json").announce(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["transition_begun", "transition_step", "transition_done"]
    assert [line["message"] for line in lines] == [event.message for event in LIFE]
    assert all(line.items() >= facts(event).items() for line, event in zip(lines, LIFE, strict=True))
    assert {line["level"] for line in lines} == {"info"}
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_announce_as_logfmt_writes_keys_in_their_order(capsys):
    """A line of logfmt begins with time, level and event, and its values are quoted where needed."""
    Stderr("logfmt").announce(LIFE[1])
    assert re.fullmatch(
        r"timestamp=\S+Z level=info event=transition_step instance=web operation=start source=created dest=running "
        r'elapsed_s=0.5 step="waiting for ssh" message="starting \\"web\\": waiting for ssh"\n',
        capsys.readouterr().err,
    )


def test_announce_for_people_writes_the_sentences(capsys):
    """There is a line for the beginning, one for each step with its time, and one for the end."""
    stream = Stderr("human")
    for event in LIFE:
        stream.announce(event)
    assert capsys.readouterr().err == 'starting "web"\n   0.5 s  waiting for ssh\nstarted "web" in 4.2 s\n'


def test_streams_beside_each_other_say_whose_step_it_is(capsys):
    """Steps name their instance if several instances are worked on at once."""
    first = Stderr("human")
    second = Stderr("human", {}, stream=first.stream)
    first.announce(LIFE[0])
    second.announce(Event(Happening.begun, "db", Trigger.start, State.created, elapsed_s=0.0))
    first.announce(LIFE[1])
    second.announce(Event(Happening.done, "db", Trigger.start, State.created, elapsed_s=2.0))
    assert capsys.readouterr().err.splitlines() == [
        'starting "web"',
        'starting "db"',
        "   0.5 s  web: waiting for ssh",
        'started "db" in 2.0 s',
    ]


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
    """Failures are errors, interrupted work is a warning, everything else is information."""
    Stderr("json").announce(an_event(happening, elapsed_s=1.0))
    assert json.loads(capsys.readouterr().err)["level"] == level


def test_announce_without_a_choice_off_a_terminal_is_logfmt(capsys):
    """If stderr is not a terminal, the default format is logfmt."""
    Stderr().announce(LIFE[0])
    assert capsys.readouterr().err.startswith("timestamp=")


def test_announce_odd_text_of_a_driver_steers_no_terminal(capsys):
    """Control characters are removed from a step's text."""
    Stderr("human").announce(an_event(Happening.step, step="[bold]x\x1b[2J[/bold]", elapsed_s=0.1))
    assert "[bold]x[2J[/bold]" in capsys.readouterr().err


def test_announce_to_a_closed_stderr_is_silent(monkeypatch):
    """Work continues even if nobody reads the log any more."""

    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    Stderr("logfmt").announce(LIFE[0])


def test_print_error_for_people_is_reference_message_details_hint(capsys):
    """First the kind of error, then the message, the failing program's output, and the hint."""
    Stderr("human").error(ERROR)
    assert capsys.readouterr().err == "error: driver-failed\nit [31mburns\n  | smoke\n  | fire\nhint: fetch water\n"


def test_print_error_as_json_is_one_object(capsys):
    """The object has the same facts, the instance and the operation, the time and the exit code."""
    Stderr("json", {"instance": "web", "operation": "start"}).error(ERROR)
    record = json.loads(capsys.readouterr().err)
    assert list(record)[:5] == ["timestamp", "level", "event", "instance", "operation"]
    about = {"level": "error", "event": "error", "instance": "web", "operation": "start"}
    assert record == {"timestamp": record["timestamp"], **about, **ERROR.record(), "exit_code": 6}


class Screen(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """Return a function that replaces stderr with a terminal of 40 columns; pytest sets its own for each test."""

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
    """The terminal would break lines anywhere; a hint stays on one line, so that it can be copied."""
    shown = screen()
    Stderr("human").error(DriverError(LONG, hint=f"interlock {LONG}"))
    Stderr("human").report(LONG)
    Stderr("human").announce(an_event(Happening.failed, elapsed_s=1.0, detail=LONG))
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
def test_messages_have_no_colours_where_none_are_wanted(screen, monkeypatch, name, value):
    """Neither errors nor events have colours; with NO_COLOR, the live line may still move the cursor."""
    monkeypatch.setenv(name, value)
    shown = screen()
    stream = Stderr("human")
    for event in LIFE:
        stream.announce(event)
    Stderr("human").error(ERROR)
    assert re.findall(r"\x1b\[[0-9;]*m", shown.getvalue()) == []
    if name == "TERM":
        assert "\x1b" not in shown.getvalue()


def test_messages_on_a_terminal_have_colours(screen):
    """The tests above would pass if there were no colours at all."""
    shown = screen()
    stream = Stderr("human")
    for event in LIFE:
        stream.announce(event)
    Stderr("human").error(ERROR)
    assert "\x1b[32m" in shown.getvalue()
    assert "\x1b[1;31merror" in shown.getvalue()


def test_error_after_a_transition_is_about_its_instance_and_operation(capsys):
    """An error after an event is attributed to the event's instance and operation."""
    stream = Stderr("json")
    stream.announce(an_event(Happening.failed, elapsed_s=1.0))
    stream.error(ERROR)
    _, error = map(json.loads, capsys.readouterr().err.splitlines())
    assert (error["instance"], error["operation"]) == ("web", "start")


def test_error_as_logfmt_is_one_line(capsys):
    """Lists and tracebacks do not break the line, and control characters are removed."""
    Stderr("logfmt").error(ERROR, traceback="here\nthere")
    assert re.fullmatch(
        r'timestamp=\S+Z level=error event=error traceback=here\\nthere reference=driver-failed hint="fetch water" '
        r'details=smoke\\nfire exit_code=6 message="it \[31mburns"\n',
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("log_format", ["human", "logfmt", "json"])
def test_quiet_stream_says_errors_and_warnings_alone(capsys, log_format):
    """Events, reports, notes and hints are silent in each format."""
    stream = Stderr(log_format, quiet=True)
    for event in LIFE:
        stream.announce(event)
    stream.report("it was built before")
    stream.note("vmType: is ignored")
    stream.hint("interlock repair web", "its journal is damaged", "web")
    assert capsys.readouterr().err == ""
    stream.note("--cpus ignored", level="warning")
    stream.error(ERROR)
    said = capsys.readouterr().err
    assert ("--cpus ignored" in said, "burns" in said) == (True, True)


@pytest.fixture
def captured():
    """Return the events caught by a host program's structlog configuration, which is restored afterwards."""
    before = structlog.get_config()
    events = structlog.testing.LogCapture()
    structlog.configure(processors=[events])
    yield events.entries
    structlog.configure(**before)


def test_structlog_announcer_logs_into_the_configuration_of_its_host(captured):
    """Our events arrive in the host program's log with our keys, and we do not change its configuration."""
    configured = structlog.get_config()
    announce = structlog_announcer()
    for event in LIFE:
        announce(event)
    assert structlog.get_config() == configured
    assert captured[-1] == {
        "event": "transition_done",
        "log_level": "info",
        "instance": "web",
        "operation": "start",
        "source": "created",
        "dest": "running",
        "elapsed_s": 4.2,
        "sentence": 'started "web" in 4.2 s',
    }


def test_structlog_announcer_hands_its_keys_to_the_standard_librarys_logging(caplog):
    """None of our keys is an attribute of LogRecord, which logging would refuse."""
    logger = structlog.wrap_logger(
        logging.getLogger("host"),
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    with caplog.at_level(logging.INFO):
        structlog_announcer(logger)(an_event(Happening.done, elapsed_s=4.2, seq=3, step="s", detail="d", pid=1))
    (record,) = caplog.records
    assert (record.message, record.instance, record.operation) == ("transition_done", "web", "start")


def test_structlog_is_loaded_without_what_our_lines_do_not_use():
    """rich and asyncio, which take most of structlog's import time, are not loaded, but can be imported later."""
    script = """
import sys
from interlock.commands.program import serve

def work():
    from interlock.commands.stderr import Stderr

    Stderr("json").note("hello")
    assert "structlog" in sys.modules
    assert "rich" not in sys.modules
    assert "asyncio.base_events" not in sys.modules
    import asyncio, rich
    import structlog
    async def answer():
        await structlog.stdlib.get_logger().ainfo("there")
        return 42
    return asyncio.run(answer()) - 42

serve(work)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "there" in done.stdout) == (0, True), done.stderr
